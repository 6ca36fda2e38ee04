"""Measures of sets of images: on images of known spectra and features, and whatever their order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from line_neurons.eval.visual import measures
from line_neurons.eval.visual.measures import ControlFeatures


def smooth(seed, side=64):
    """An image with the spectrum of photographs."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    waves = rng.standard_normal((side, side // 2 + 1)) + 1j * rng.standard_normal((side, side // 2 + 1))
    grey = np.fft.irfft2(waves / np.maximum(frequency, 1 / side), s=(side, side))
    grey = (grey - grey.mean()) / grey.std() * 40 + 128
    return np.repeat(np.clip(grey, 0, 255)[..., None], 3, 2).astype(np.uint8)


def test_noise_has_a_stranger_spectrum_than_each_control_image():
    control = np.stack([measures.spectrum(smooth(seed)) for seed in range(40)])
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    own = np.stack([measures.spectrum(smooth(99)), measures.spectrum(noise)])
    ordinary, strange = measures.spectrum_ranks(own, control)
    assert strange == pytest.approx(1 / 41)
    assert ordinary > 0.1


def test_spectra_do_not_depend_on_brightness_of_the_whole_image():
    pixels = smooth(1) // 2
    np.testing.assert_allclose(measures.spectrum(pixels), measures.spectrum(pixels + 60), atol=1e-9)


def test_images_far_from_all_control_images_are_not_inside():
    rng = np.random.default_rng(0)
    control = np.abs(rng.normal(1, 0.1, (50, 8))).astype(np.float32)
    known = ControlFeatures.of(control, [str(row) for row in range(50)])
    assert known.inside(control[:5] * 1.01, ["new"] * 5) == 1
    far = np.eye(8, dtype=np.float32)[:2]
    assert known.inside(far, ["a", "b"]) == 0
    # A control image is not its own neighbour.
    with_far = ControlFeatures.of(np.vstack([control, far[:1]]), [*map(str, range(50)), "far"])
    assert with_far.inside(far[:1], ["far"]) in {0.0, 1.0}
    assert with_far.inside(far[:1], ["another name"]) == 1


def test_equal_images_are_one_and_orthogonal_ones_are_all():
    same, different = np.ones((5, 4), np.float32), np.eye(5, dtype=np.float32)
    assert measures.vendi_score(same) == pytest.approx(1)
    assert measures.vendi_score(different) == pytest.approx(5)
    assert measures.mean_distance(same) == pytest.approx(0)
    assert measures.mean_distance(different) == pytest.approx(1)
    assert np.isnan(measures.mean_distance(same[:1]))


def test_the_distance_of_embeddings_is_that_of_the_formula():
    rows = np.eye(4, dtype=np.float32)
    assert measures.clip_mmd(rows, rows) == pytest.approx(0)
    near = np.exp(-2 / (2 * 10**2))
    expected = 1000 * (1 + 1 - 2 * near)
    assert measures.clip_mmd(rows[:1], rows[1:2]) == pytest.approx(expected)


@given(st.permutations(range(6)), st.integers(0, 5))
def test_no_measure_depends_on_the_order(order, seed):
    rng = np.random.default_rng(seed)
    rows, control = (rng.random((count, 8)).astype(np.float32) for count in (6, 12))
    known = ControlFeatures.of(control, [str(row) for row in range(12)])
    names, other = ["new"] * 6, rows[list(order)]
    for measure in (
        measures.vendi_score,
        measures.mean_distance,
        lambda rows: measures.clip_mmd(rows, control),
        lambda rows: known.inside(rows, names),
        lambda rows: measures.spectrum_ranks(rows, control).mean(),
    ):
        assert measure(other) == pytest.approx(measure(rows), abs=1e-9)
