"""Examples: tokenised, cached, batched."""
