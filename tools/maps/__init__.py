"""Maps of units on images: how they are shown, and from which value on a place counts."""
