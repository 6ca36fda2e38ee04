"""Cameras show things so that they can be recognised."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from line_neurons.tools.rendering.camera import NEUTRAL, angle_of, choose_view, project, silhouette
from line_neurons.tools.rendering.meshes import read_model

ANGLES = ("extreme close-up", "wide angle shot", "aerial view", "low angle", "")


@pytest.fixture(scope="module")
def board(models):
    return read_model(models["board"]).surface(2000)


@pytest.fixture(scope="module")
def crate(models):
    return read_model(models["crate"]).surface(2000)


def extent(points, view):
    return float(np.ptp(project(points, view), axis=0).max())


@given(seed=st.integers(0, 2**31), words=st.sampled_from(ANGLES))
@settings(max_examples=60)
def test_things_are_in_the_frame_and_as_large_as_the_angle_says(crate, seed, words):
    angle = angle_of(words)
    view = choose_view(crate, angle, np.random.default_rng(seed), hung=False, reach=55)
    low, high = angle.extent
    assert low * 0.97 <= extent(crate, view) <= high * 1.03
    assert view.seen > 0.85
    assert angle.elevation[0] <= view.elevation <= angle.elevation[1]


@given(seed=st.integers(0, 2**31))
@settings(max_examples=60)
def test_a_flat_thing_is_not_seen_from_its_edge(board, seed):
    view = choose_view(board, NEUTRAL, np.random.default_rng(seed), hung=False, reach=180)
    assert view.breadth > 0.4


def test_the_silhouette_of_a_plate_is_its_area_from_the_front_and_little_from_the_side(board):
    front = silhouette(board, 0, 0)
    assert front == pytest.approx(100 * 80, rel=0.25)
    assert silhouette(board, 90, 0) < 0.2 * front


def test_the_angles_differ_as_their_names_say(crate):
    views = {
        words: choose_view(crate, angle_of(words), np.random.default_rng(1), hung=False, reach=55)
        for words in ANGLES
    }
    close, wide, aerial, low, _ = views.values()
    assert extent(crate, close) > extent(crate, wide)
    assert aerial.elevation > 40 > 10 > low.elevation
    assert wide.field > close.field


def test_what_hangs_is_not_looked_down_upon(crate):
    low = choose_view(crate, angle_of("low angle"), np.random.default_rng(0), hung=True, reach=35)
    assert low.elevation < -15 and low.origin[1] < 0


def test_an_unknown_angle_is_neutral():
    assert angle_of("from the moon") is NEUTRAL
    assert angle_of("Extreme Close Up").name == "close-up"


def test_flat_things_are_seen_from_higher_up(crate):
    views = [
        choose_view(crate, NEUTRAL, np.random.default_rng(3), hung=False, reach=55, lift=lift) for lift in (0, 20)
    ]
    assert views[1].elevation > views[0].elevation
