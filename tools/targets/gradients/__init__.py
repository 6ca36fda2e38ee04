"""Gradients of vision models, which nothing computes unless the user asks for it with ``--gradients``."""
