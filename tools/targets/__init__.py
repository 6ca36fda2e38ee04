"""Vision models: opened by name, hooked at any layer, with their preprocessing."""
