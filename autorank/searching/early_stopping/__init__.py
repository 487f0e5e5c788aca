"""Which trials stop before their last evaluation."""
