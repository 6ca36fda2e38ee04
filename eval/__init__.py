"""Is the label right, and how fast was it found?"""
