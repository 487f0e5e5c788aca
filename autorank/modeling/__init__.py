"""Base models, their target layers, and the one low-rank layer on them."""
