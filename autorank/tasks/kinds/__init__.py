"""Kinds of task: one module for each, with a `TaskKind`."""
