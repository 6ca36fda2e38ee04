import numpy as np
import pytest

from line_neurons.agent.errors import UsageError
from line_neurons.tools.directions.fit import fit_direction

D = 12


def images(count, seed, shift=0.0):
    """Activations of images, of which those with the thing are ``shift`` further along the third value."""
    values = np.random.default_rng(seed).normal(5, 2, (count, D)).astype(np.float32)
    values[:, 2] += shift
    return values


def test_a_direction_that_separates_its_images_is_found_and_is_above_random_splits():
    fits = []
    found = fit_direction(images(60, 1, 9), images(120, 2), seed=0, progress=lambda *done: fits.append(done))
    assert int(np.argmax(np.abs(found.vector))) == 2 and found.vector[2] > 0.9
    assert np.linalg.norm(found.vector) == pytest.approx(1)
    assert (found.auc, found.accuracy) == (pytest.approx(1, abs=0.02), pytest.approx(1, abs=0.05))
    assert not found.is_random and found.p == 1 / 21
    assert len(found.random_auc) == 20 and 0.3 < found.random_auc.mean() < 0.7
    assert 0.5 <= found.random_vectors < 0.95
    assert found.images == (60, 120)
    assert fits == [(done, 21) for done in range(1, 22)]


def test_the_bias_puts_the_boundary_between_the_two_sides():
    positive, negative = images(60, 1, 9), images(120, 2)
    found = fit_direction(positive, negative, seed=0)
    above = [(side @ found.vector + found.bias > 0).mean() for side in (positive, negative)]
    assert above[0] > 0.97 and above[1] < 0.03


@pytest.mark.parametrize("seed", range(3))
def test_a_direction_of_images_that_differ_in_nothing_is_random(seed):
    found = fit_direction(images(40, 10 + seed), images(40, 20 + seed), seed=seed)
    assert found.is_random and found.p > 1 / 21


def test_the_numbers_are_those_of_the_seed():
    first, again = (fit_direction(images(20, 1, 1), images(30, 2), seed=4) for _ in range(2))
    assert first.vector.tobytes() == again.vector.tobytes()
    assert (first.auc, first.random_auc.tolist()) == (again.auc, again.random_auc.tolist())


@pytest.mark.parametrize(
    ("positive", "negative", "said"),
    [
        (images(9, 1), images(30, 2), "9 different images with it, .* needs 10"),
        (images(30, 1), images(3, 2), "3 different images without it"),
        (np.ones((20, D), np.float32), np.ones((20, D), np.float32), "the same activations"),
    ],
)
def test_too_few_images_or_equal_ones_are_refused(positive, negative, said):
    with pytest.raises(UsageError, match=said):
        fit_direction(positive, negative, seed=0)
