"""Searches: from a specification to an outcome, and what decides on the way."""
