"""Images of 3D models: their files, cameras, surroundings and the path tracer."""
