"""A study of all methods on several tasks: what each adds to a tuned baseline, and what it costs."""
