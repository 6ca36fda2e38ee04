"""A run as pages that open anywhere: labels with images, the way of each search, settings and cost."""
