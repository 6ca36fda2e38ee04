"""Weights of a target: a user's own files, and the versions that a source publishes."""
