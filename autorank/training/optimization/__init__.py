"""The steps of a training: batches and micro-batches, optimizer, workers, and the calls of a method's hooks."""
