"""Examples: read, tokenized, cached and batched."""
