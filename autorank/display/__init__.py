"""Displays of a search or a training: in a terminal, a log, a notebook, or as events for programs."""
