"""Models, images and files: one module for each implementation of a port."""

import os

# Torch and llama.cpp read this when they load: with the default, threads that wait keep a core busy, and on a
# machine of few cores, or a busy one, forward passes and answers become many times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
