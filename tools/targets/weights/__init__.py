"""Weights of a target: a user's own files, and the networks in them."""
