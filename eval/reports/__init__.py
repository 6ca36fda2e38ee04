"""Tables, figures and statistics of an evaluation."""
