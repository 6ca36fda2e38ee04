"""Labels of units from any method: file formats, the store's library, vocabularies and WordNet."""
