"""How fast things are, as figures within one run."""
