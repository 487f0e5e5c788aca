"""Recipes: the rows of a paper's table with their settings, trained and compared with the reported scores."""
