"""What is minimised and how a model is scored, for each kind of task."""
