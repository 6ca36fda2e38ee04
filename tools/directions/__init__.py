"""Fit directions of a layer from images with and without a thing, and test whether they mean anything."""
