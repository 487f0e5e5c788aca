"""Searches, from spec to journal."""
