"""Fronts, trials and ranks as tables, figures and HTML."""
