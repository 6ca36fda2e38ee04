"""Results of evaluations: scores of labels, and edits."""
