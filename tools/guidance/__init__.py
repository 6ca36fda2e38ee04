"""What was measured guides the search: a response model, text encoders and candidate words."""
