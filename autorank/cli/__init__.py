"""The command line: one module per group of commands; `app` has the root command."""
