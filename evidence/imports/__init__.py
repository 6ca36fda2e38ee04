"""What comes into a store from elsewhere: bundles of runs, and labels of other methods."""
