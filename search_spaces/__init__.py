"""The default search spaces of the methods, one YAML file for each method, and the catalogue of first settings."""
