"""Checks and measurements of training on a GPU, one module per part; `python -m benchmarks.gpu` runs them."""
