"""Facets of the units of a run: found from what its store has."""
