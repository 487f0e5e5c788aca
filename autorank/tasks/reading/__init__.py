"""Reads columns from files, Hub datasets and Python objects."""
