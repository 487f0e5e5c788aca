"""Options of the commands, which are the keyword arguments of the Python functions too."""
