"""Trials and fronts: the journal of a search and everything that is computed from it."""
