"""Units of known truth: how they are drawn, and whether labels name what they respond to."""
