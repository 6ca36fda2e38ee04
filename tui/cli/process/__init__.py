"""Signals and standard streams of the process."""
