"""The Python interface: label units from scripts and notebooks, and look at the results."""
