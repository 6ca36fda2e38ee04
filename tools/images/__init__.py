"""Image files: the one reader of them, how a set of them is read, folders of them."""
