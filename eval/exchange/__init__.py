"""Export and import of runs: tables, formats of other methods, data sets and bundles."""
