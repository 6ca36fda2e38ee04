"""The same photograph without a thing, or with another in its place, equal to the bit elsewhere."""

import io

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from line_neurons.agent.errors import NotDrawableError
from line_neurons.agent.ports import ImageRequest
from line_neurons.tools.image_bank import compose
from line_neurons.tools.image_bank.generator import BankSettings, ImageBankGenerator
from line_neurons.tools.image_bank.plans import NotComposableError

ANGLES = ("extreme close-up", "wide angle shot", "aerial view", "low angle", "")
TEMPLATE = "A realistic photo of a {concept}, {angle}, {lighting}"
LAW = settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def ask(concept, seed=0, angle=ANGLES[1], lighting="natural sunlight"):
    return ImageRequest(concept, angle, lighting, seed, TEMPLATE)


def pixels(image):
    return np.asarray(Image.open(io.BytesIO(image.png))).astype(np.int16)


@pytest.fixture
def generator(bank, encoder):
    return ImageBankGenerator(bank, encoder, settings=BankSettings(size=64))


@pytest.fixture
def traces(monkeypatch):
    """Alpha and shadow of each cut-out, in the order in which they are placed."""
    found = []
    feather, shadow = compose._feather, compose._shadow
    monkeypatch.setattr(compose, "_feather", lambda alpha: found.append(feather(alpha)) or found[-1])

    def kept(*given, **options):
        plane, strength = shadow(*given, **options)
        found.append(plane * strength)
        return plane, strength

    monkeypatch.setattr(compose, "_shadow", kept)
    return found


@given(
    concept=st.sampled_from(
        ["dog", "red ball", "dog in snow", "dog in the rain", "ball in fog", "dog on the beach"]
    ),
    angle=st.sampled_from(ANGLES),
    lighting=st.sampled_from(["cinematic lighting", "studio lighting", ""]),
    seed=st.integers(0, 2**31 - 1),
)
@LAW
def test_without_a_thing_all_pixels_outside_of_it_and_its_shadow_stay(
    generator, traces, concept, angle, lighting, seed
):
    request = ask(concept, seed, angle, lighting)
    traces.clear()
    whole = pixels(generator.compose(request))
    touched = np.maximum.reduce(traces) > 0
    without = generator.compose(request, leave_out=frozenset({0}))
    assert generator.compose(request, leave_out=frozenset({0})).png == without.png
    assert (whole == pixels(without))[~touched].all()
    assert without.provenance["left_out"]
    assert not without.provenance["subjects"]


@given(seed=st.integers(0, 2**31 - 1), left=st.sampled_from([0, 1]))
@LAW
def test_of_two_things_the_other_stays_to_the_bit(generator, traces, seed, left):
    request = ask("dog and ball", seed)
    traces.clear()
    whole = pixels(generator.compose(request))
    alpha, shadow = traces[2 * left : 2 * left + 2]
    without = pixels(generator.compose(request, leave_out=frozenset({left})))
    assert (whole == without)[(alpha == 0) & (shadow == 0)].all()


@given(seed=st.integers(0, 2**31 - 1), angle=st.sampled_from(ANGLES))
@LAW
def test_another_thing_stands_before_the_same_backdrop(generator, traces, seed, angle):
    request = ask("dog", seed, angle)
    traces.clear()
    bare = pixels(generator.compose(request, leave_out=frozenset({0})))
    traces.clear()
    swapped = generator.compose(request, instead="ball")
    touched = np.maximum.reduce(traces) > 0
    assert (bare == pixels(swapped))[~touched].all()
    assert [subject["caption"] for subject in swapped.provenance["subjects"]] == ["ball"]


@pytest.mark.parametrize(
    ("concept", "options", "reason"),
    [
        ("cat", {"leave_out": frozenset({0})}, "whole photograph"),
        ("cat", {"instead": "dog"}, "whole photograph"),
        ("dog", {"instead": "cat"}, "whole photograph"),
        ("dog", {"leave_out": frozenset({1})}, "1 subjects"),
        ("dog at night", {"leave_out": frozenset({0})}, "night"),
    ],
)
def test_what_cannot_be_left_out_or_replaced_is_refused_with_the_reason(generator, concept, options, reason):
    with pytest.raises(NotComposableError, match=reason):
        generator.compose(ask(concept), **options)


def test_an_unknown_substitute_is_refused(generator):
    with pytest.raises(NotDrawableError, match="xylophone"):
        generator.compose(ask("dog"), instead="xylophone")
