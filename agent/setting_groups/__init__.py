"""Groups of settings: of what guides a search, of the target, and those that a fork may change."""
