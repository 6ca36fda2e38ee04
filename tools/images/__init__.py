"""Image files: the one reader of them, folders and sets of them."""
