"""What concerns whole runs: their names before they start, failures that last, and deletion."""
