"""Groups of settings: of what guides a search, and those that a fork may change."""
