"""The terminal: the `line` command."""
