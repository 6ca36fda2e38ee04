"""A run as pages that open anywhere: labels with pictures, the way of each search, settings and cost."""
