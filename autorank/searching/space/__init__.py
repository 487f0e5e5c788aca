"""Search spaces: ranges of settings, and the adapter sizes that they reach."""
