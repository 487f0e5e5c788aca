"""Connections to Ray clusters: local or remote, as jobs, with the code and paths that their processes need."""
