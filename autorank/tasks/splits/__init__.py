"""A split at each stage: a table of rows as read, converted examples, and tokenized."""
