"""Printing of runs, units and provenance, for several commands."""
