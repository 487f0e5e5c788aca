"""The default search spaces of the methods, one YAML file for each method."""
