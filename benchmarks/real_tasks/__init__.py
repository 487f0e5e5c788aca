"""Comparisons that train on real tasks."""
