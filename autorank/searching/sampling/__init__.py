"""Which trial runs next, of which method, with which settings."""
