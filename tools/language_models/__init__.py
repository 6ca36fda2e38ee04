"""Language models that propose concepts."""
