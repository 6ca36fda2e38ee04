"""Calibration of verifiers: by images of the concept, or by the classes of the control set."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from line_neurons.agent.errors import NotDrawableError
from line_neurons.eval.edits import calibration
from line_neurons.eval.edits.calibration import calibrate, calibration_of
from line_neurons.eval.edits.subjects import RankedImages
from line_neurons.tools.control_sets.image_list import ImageList
from line_neurons.tools.images.png import encode_png
from support.edit_parts import edit_parts

NAMES = [f"thing {letter}" for letter in "abcdefghijkl"]


def test_a_verifier_is_calibrated_or_refuses():
    rng = np.random.default_rng(0)
    negatives = rng.standard_normal(200)
    good = calibrate(rng.standard_normal(20) + 3, negatives)
    assert good.reason == ""
    assert (negatives >= good.threshold).mean() <= 0.05
    assert "below 0.8" in calibrate(rng.standard_normal(20), negatives).reason
    assert "only 3 images" in calibrate(rng.standard_normal(3), negatives).reason
    assert calibrate(np.ones(9), np.zeros(9)).threshold == 0.5


@given(st.integers(0, 99), st.floats(-1, 30), st.integers(5, 40), st.integers(20, 200))
@settings(max_examples=60)
def test_no_more_than_five_percent_are_false_alarms_and_few_of_the_concept_are_missed(seed, gap, count, others):
    rng = np.random.default_rng(seed)
    positives, negatives = rng.standard_normal(count) + gap, rng.standard_normal(others)
    found = calibrate(positives, negatives)
    if not found.reason:
        assert (negatives >= found.threshold).mean() <= 0.05
        if gap > 8:
            assert (positives < found.threshold).mean() <= 0.05
            assert 0.3 * gap < found.threshold < 0.7 * gap


@pytest.mark.parametrize(("alarms", "reason"), [(3, ""), (4, "at 5 % false alarms it sees")])
def test_one_that_says_yes_too_often_cannot_tell(alarms, reason):
    negatives = np.array([1.0] * alarms + [0.0] * (60 - alarms))
    found = calibrate(np.ones(10), negatives)
    assert found.reason.startswith(reason) and bool(found.reason) == bool(reason)
    assert math.isnan(found.threshold) or 0 < found.threshold <= 1


class Classifier:
    """Sees the class of an image in its grey level; ``blind`` sees nothing."""

    name, fingerprint, negatives = "grey", "grey:1", 60

    def __init__(self, blind=False):
        self.blind = blind
        self.asked = []

    def knows(self, concept):
        return concept in {*NAMES, "zebra"}

    def list_scores(self, concept, images):
        self.asked.append((concept, len(images.images)))
        levels = np.array([_level(image) for image in images.images], np.float64)
        if self.blind:
            return np.sin(levels)
        wanted = 20 * NAMES.index(concept) if concept in NAMES else 900
        return -np.abs(levels - wanted)


def _level(image):
    from line_neurons.tools.editors.canvas import pixels_of

    return int(pixels_of(image)[0, 0, 0])


@pytest.fixture
def ranked(tmp_path, monkeypatch):
    """Twelve classes with two images each; the generator makes none of the concepts."""

    def none(components, concept, *rest):
        raise NotDrawableError(concept, [])

    monkeypatch.setattr(calibration, "own_images", none)
    evaluated = edit_parts(tmp_path, {0: "tomato"})

    def of(names):
        images = tuple(
            encode_png(np.full((64, 64, 3), 20 * at + more, np.uint8))
            for at in range(len(names))
            for more in (0, 1)
        )
        listed = ImageList(images, "grey", tuple(name for name in names for _ in (0, 1)))
        return evaluated.components, RankedImages(evaluated.components, evaluated.layer, listed, "grey")

    return of


def test_without_images_of_a_concept_the_verifier_is_tested_on_the_classes(ranked):
    components, images = ranked(NAMES)
    found = calibration_of(Classifier(), "zebra", components, images, 0)
    assert (found.reason, found.classes, found.positives) == ("", 12, 24)
    assert found.auc > 0.95
    scores = Classifier().list_scores("zebra", ImageList(tuple(images.sample(60, 0)[0]), "x"))
    assert (scores >= found.threshold).mean() <= 0.05


def test_a_blind_verifier_an_unknown_concept_and_few_classes_are_told(ranked):
    components, images = ranked(NAMES)
    blind = calibration_of(Classifier(blind=True), "zebra", components, images, 0)
    assert "AUC for 12 other classes" in blind.reason and math.isnan(blind.threshold)
    assert "does not know 'horse'" in calibration_of(Classifier(), "horse", components, images, 0).reason
    components, images = ranked(NAMES[:5])
    few = calibration_of(Classifier(), "zebra", components, images, 0)
    assert "only 0 images of it, and of 5 classes" in few.reason


def test_images_of_the_control_class_come_first(ranked):
    components, images = ranked(NAMES)
    verifier = Classifier()
    # Two images are too few for a test of their own.
    assert calibration_of(verifier, "thing a", components, images, 0).classes == 12
