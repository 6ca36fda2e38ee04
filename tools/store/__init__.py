"""The store of runs: all SQL of runs, units, steps, leases and steering commands, and its files."""
