"""The screen of a run's units."""
