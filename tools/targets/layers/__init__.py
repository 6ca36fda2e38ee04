"""Layers of a target: their outputs, where the units are in them, and whether they are deterministic."""
