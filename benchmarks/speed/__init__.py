"""Time, memory and kernel launches of training and evaluation, and the overhead of trials."""
