"""The screen of one unit."""
