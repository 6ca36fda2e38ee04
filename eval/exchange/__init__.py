"""Files that a run is taken away in: tables, the forms of other methods, a data set, a bundle."""
