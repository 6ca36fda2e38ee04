"""Vision models under study: opened by name, hooked at any layer, with their own preprocessing."""
