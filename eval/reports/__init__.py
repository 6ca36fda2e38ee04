"""Tables and figures of runs and evaluations, as ``line eval`` prints and writes them."""
