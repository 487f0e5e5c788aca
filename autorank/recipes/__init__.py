"""Tables of papers as recipes: what was trained and what came out, to train it again and set both side by side."""
