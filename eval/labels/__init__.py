"""Labels of any method: their files, the store's library of them, and WordNet's verdict."""
