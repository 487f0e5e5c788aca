"""Texts for models that generate: instructions, completions, and conversations in the form of a chat template."""
