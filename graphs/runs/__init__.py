"""Runs over many units: their components, runner, checkpoints, revisit and results."""
