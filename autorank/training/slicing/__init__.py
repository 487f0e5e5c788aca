"""Scores of an adapter cut to smaller sizes, and of its components."""
