"""What excites a unit by the same images: vectors of images in a layer, and their groups."""
