"""Editors: change one thing in an image, to see whether a unit responds to it."""
