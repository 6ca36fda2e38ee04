"""Models, images and files: one module for each implementation of a port."""

import os

# Torch and llama.cpp read this when they load: with the default, threads that wait keep a core busy, and on a
# machine of few cores, or a busy one, forward passes and answers become many times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# MKL reads this at its first matrix product: by default, on processors without AVX-512, a row's last bits depend
# on its place among the rows, and so an image's activations on its place in a batch.
os.environ.setdefault("MKL_CBWR", "AUTO")
