"""Model cards, their metadata and their usage examples."""
