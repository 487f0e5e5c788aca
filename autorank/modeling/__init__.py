"""Base models, their target layers, and adapters."""
