"""Units of known truth, planted among the units of a real network."""
