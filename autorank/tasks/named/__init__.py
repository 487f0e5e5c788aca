"""The tasks with a name: of GLUE, SQuAD, text generation, and the built-in demo."""
