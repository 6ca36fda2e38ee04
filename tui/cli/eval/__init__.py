"""The commands of `line eval`."""
