"""Layers of a target: outputs, unit dimensions and determinism."""
