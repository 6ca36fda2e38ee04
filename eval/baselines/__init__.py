"""Other methods that label units, on the same units, pictures and words as LINE."""
