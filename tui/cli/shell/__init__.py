"""Words that the shell completes."""
