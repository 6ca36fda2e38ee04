"""CoSy (Kopf et al. 2024): images, protocol, results, and the runner over labels."""
