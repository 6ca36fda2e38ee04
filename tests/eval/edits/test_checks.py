"""Verdicts on planted failures."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter

from line_neurons.eval.edits import checks
from line_neurons.eval.edits.checks import Noise, check_edit, judge_presence, noise_of, registered, small
from line_neurons.eval.edits.frames import Frame, find_frame, move_back
from line_neurons.tools.images.png import encode_png

SIDE = 512


def scene(seed=0, side=SIDE):
    """Cloudy texture with a few edges, as a photograph has."""
    rng = np.random.default_rng(seed)
    fields = [gaussian_filter(rng.standard_normal((side, side, 3)), (width, width, 0)) for width in (2, 6, 20)]
    pixels = sum(field / field.std() for field in fields)
    for _ in range(12):
        top, left = rng.integers(0, side - 80, 2)
        pixels[top : top + 60, left : left + 40] += rng.uniform(-2, 2, 3)
    return np.clip(128 + 28 * pixels, 0, 255)


def png(pixels):
    return encode_png(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def with_hole(pixels):
    changed = pixels.copy()
    changed[150:330, 200:360] = pixels[150:330, 200:360].mean((0, 1))
    return changed


def verdict(pixels, edited, noise=None):
    return check_edit(small(png(pixels)), small(png(edited)), noise or Noise())


def shifted(pixels, by):
    return np.roll(pixels, (by, by // 2), (0, 1))


def test_a_hole_is_an_edit():
    image = scene()
    check = verdict(image, with_hole(image))
    assert check.verdict == ""
    assert 0.05 < check.share < 0.2
    assert check.frame == Frame()
    assert check.psnr > 40


def test_what_changes_nothing_or_everything_is_told():
    image = scene()
    assert verdict(image, image).verdict == checks.NOTHING_CHANGED
    assert verdict(image, image * 0).verdict == checks.TOO_MUCH
    noisy = with_hole(image) + np.random.default_rng(1).normal(0, 25, image.shape)
    assert verdict(image, noisy).verdict in {checks.REST_CHANGED, checks.TOO_MUCH}
    graded = with_hole(image)
    graded[:, :200] += 11
    assert verdict(image, graded).verdict == checks.REST_CHANGED


@pytest.mark.parametrize("seed", range(3))
def test_a_small_shift_is_moved_back_and_a_large_one_is_told(seed):
    image = scene(seed)
    edited = shifted(with_hole(image), 4)
    check = verdict(image, edited)
    assert (check.verdict, check.is_near) == (checks.MOVED, True)
    back = registered(png(edited), check.frame)
    again = check_edit(small(png(image)), small(back), Noise())
    assert again.verdict == ""
    assert again.frame.is_within(0.005)
    far = verdict(image, shifted(with_hole(image), 20))
    assert (far.verdict, far.is_near) == (checks.MOVED, False)


@given(st.floats(0.975, 1.025), st.floats(-0.02, 0.02), st.floats(-0.02, 0.02), st.integers(0, 5))
@settings(max_examples=12)
def test_the_frame_of_a_zoomed_and_shifted_image_is_found(scale, down, right, seed):
    image = scene(seed, 256) @ np.array([0.299, 0.587, 0.114]) / 255
    true = Frame(down, right, scale)
    # The inverse of moving back.
    moved = move_back(image, Frame(-down / scale, -right / scale, 1 / scale))
    found = find_frame(image, moved)
    assert abs(found.down - true.down) < 0.004
    assert abs(found.right - true.right) < 0.004
    assert abs(found.scale - true.scale) < 0.004


def test_on_a_plain_ground_a_removed_thing_is_no_movement():
    image = np.full((SIDE, SIDE, 3), 180.0) + np.random.default_rng(0).normal(0, 1.5, (SIDE, SIDE, 3))
    thing = image.copy()
    thing[100:380, 150:400] = scene()[100:380, 150:400]
    check = verdict(thing, image)
    assert (check.verdict, check.frame) == ("", Frame())


def test_noise_of_the_editor_raises_what_counts_as_a_change():
    image = scene()
    rough = image + np.random.default_rng(1).normal(0, 12, image.shape)
    noise = noise_of(small(png(image)), small(png(rough)))
    assert noise.floor > 0
    assert noise.psnr < 40
    same = verdict(image, image + np.random.default_rng(2).normal(0, 12, image.shape), noise)
    assert same.verdict == checks.NOTHING_CHANGED


@pytest.mark.parametrize(
    ("how", "before", "after", "threshold", "verdict"),
    [
        ("remove", 2, 0, 1, checks.OK),
        ("remove", 2, 1.5, 1, checks.STILL_THERE),
        ("replace", 0.5, 0, 1, checks.NOT_THERE),
        ("remove", 2, 0, float("nan"), checks.UNVERIFIED),
        ("insert", 0, 2, 1, checks.OK),
        ("insert", 2, 3, 1, checks.WAS_THERE),
        ("insert", 0, 0.5, 1, checks.NOT_ADDED),
    ],
)
def test_the_verifier_decides_by_its_threshold(how, before, after, threshold, verdict):
    assert judge_presence(how, before, after, threshold) == verdict


def test_small_images_are_compared_as_they_are():
    pixels = np.asarray(Image.new("RGB", (256, 256), (10, 20, 30)), np.float64)
    assert (small(png(pixels)) * 255 == pixels).all()
