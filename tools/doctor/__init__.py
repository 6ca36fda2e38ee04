"""Checks of an installation and of a store, and the repair of what can be made again."""
