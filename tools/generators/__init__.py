"""Text-to-image models as generators: diffusers pipelines of the hub, or of a folder of one's own."""
