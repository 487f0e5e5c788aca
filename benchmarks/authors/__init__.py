"""Comparisons of our methods with their authors' code."""
