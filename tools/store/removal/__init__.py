"""Removal of runs, and what the others refer to."""
