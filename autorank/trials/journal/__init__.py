"""The journal of a search: its lines, its files, its lock, and Optuna's study behind it."""
