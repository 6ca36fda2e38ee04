"""Views of an image."""

import numpy as np
import torch

from line_neurons.tools.images.views import NOISE, SHIFT, VIEWS, fixed_views, random_views


def test_the_fixed_views_are_the_same_each_time_and_of_the_same_size():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    one, other = fixed_views(pixels), fixed_views(pixels)
    assert len(one) == VIEWS
    assert all(view.shape == pixels.shape and view.dtype == np.uint8 for view in one)
    assert all((a == b).all() for a, b in zip(one, other, strict=True))
    assert len({view.tobytes() for view in one}) == VIEWS


def test_a_spot_stays_near_its_place():
    pixels = np.zeros((224, 224, 3), np.uint8)
    pixels[104:120, 104:120] = 255
    for view in fixed_views(pixels):
        rows, columns = np.nonzero(view.min(2) > 200)
        assert abs(rows.mean() - 111.5) <= SHIFT * 224 + 3
        assert abs(columns.mean() - 111.5) <= SHIFT * 224 + 3


def test_an_even_image_gets_noise_alone_and_grey_edges():
    views = random_views(torch.full((3, 64, 64), 0.5), 8, torch.Generator().manual_seed(0))
    assert abs(float(views.mean()) - 0.5) < 0.01
    assert abs(float(views.std()) - NOISE) < 0.005
