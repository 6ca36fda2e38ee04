"""The LINE method: pure Python, no torch, no network."""
