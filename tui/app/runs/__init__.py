"""The screen of a store's runs, and the form of a new run."""
