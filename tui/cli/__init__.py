"""The `line` command: a module for each group of commands."""
