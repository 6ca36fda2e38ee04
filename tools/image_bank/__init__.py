"""Images of concept phrases, composed from a bank of captioned images."""
