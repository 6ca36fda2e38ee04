"""The cache of a store: images, activations and replies that all units and runs share."""
