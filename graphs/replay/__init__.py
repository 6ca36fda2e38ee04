"""Provenance of a run, and its replay from the record alone."""
