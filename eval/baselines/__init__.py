"""Other methods that label units, on the same units, images and words as LINE."""
