"""The low-rank layer and what is computed of its factors."""
