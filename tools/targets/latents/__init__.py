"""Latents of sparse autoencoders, and directions, as units of a layer."""
