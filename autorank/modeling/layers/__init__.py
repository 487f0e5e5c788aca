"""The low-rank layer, DoRA, bottlenecks and computations on their factors."""
