"""Text-to-image models as generators: diffusers pipelines."""
