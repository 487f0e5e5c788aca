"""MLflow runs, created from the journal."""
