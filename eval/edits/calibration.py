"""Calibration of verifiers: from which score on they see a concept, and whether they can tell it at all.

A classifier's log probability of a class is so low on images of other things that a threshold at 5 % false alarms
lies far below all images of the class: a probability of .0001 would count as the class. So the threshold is midway
between the score that 5 % of the images of other things reach and the one that 5 % of those of the concept miss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, nan
from typing import TYPE_CHECKING

import numpy as np

from line_neurons.agent.errors import NotDrawableError
from line_neurons.agent.seeds import derive_rng
from line_neurons.eval.edits.subjects import RankedImages, own_images
from line_neurons.eval.edits.verifiers import Verifier
from line_neurons.graphs.runs.components import Components
from line_neurons.tools.control_sets.image_list import ImageList
from line_neurons.tools.scorers import auc

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Scores = NDArray[np.float64]

POSITIVES = 20
"""Images of a concept that a verifier is calibrated on."""
ERRORS = 0.05
"""Largest share of false alarms, and of images of the concept below the higher of the two scores."""
LEAST_AUC = 0.8
LEAST_POSITIVES = 5
"""With fewer images of the concept a verifier is not tested on it."""
LEAST_CLASSES = 10
"""With fewer classes a verifier is not tested on other concepts."""

_IMAGES_A_CLASS = 5


@dataclass(frozen=True)
class Calibration:
    """A verifier's threshold for a concept.

    Args:
        threshold: score from which on the verifier sees the concept; nan where it cannot tell. At most 5 % of the
            control images reach it.
        auc: of the concept's images against those of the control set; nan if it was not measured.
        positives: number of the concept's images, or of those of other classes.
        reason: why the verifier cannot tell; empty if it can.
        classes: number of control classes that the AUC is of, where there are too few images of the concept.
    """

    threshold: float
    auc: float = nan
    positives: int = 0
    reason: str = ""
    classes: int = 0


def calibrate(positives: Scores, negatives: Scores) -> Calibration:
    """Set a verifier's threshold, at no more than 5 % false alarms.

    Args:
        negatives: of images of other things.
    """
    if len(positives) < LEAST_POSITIVES or len(negatives) < LEAST_POSITIVES:
        reason = f"only {len(positives)} images of it and {len(negatives)} of other things"
        return Calibration(nan, nan, len(positives), reason)
    area = float(auc(positives.astype(np.float32), negatives.astype(np.float32)))
    if area < LEAST_AUC:
        return Calibration(nan, area, len(positives), f"its AUC for it is {area:.2f}, below {LEAST_AUC}")
    low = _alarm(negatives)
    # One that says only yes or no may say yes too often.
    if not (positives >= low).any():
        return Calibration(nan, area, len(positives), "at 5 % false alarms it sees the concept in no image of it")
    return Calibration(low + _room(positives - low), area, len(positives))


def calibration_of(
    verifier: Verifier, concept: str, components: Components, ranked: RankedImages, seed: int
) -> Calibration:
    """Calibrate a verifier for a concept.

    It is tested on images of the concept: new ones of the generator, else those of the control class of that name.
    Where these are fewer than five, it is tested on the control set's classes, and only the threshold is the
    concept's own.
    """
    if not verifier.knows(concept):
        return Calibration(nan, reason=f"{verifier.name} does not know {concept!r:.60}")
    others, rows = ranked.sample(verifier.negatives, seed)
    control = ImageList(tuple(others), "calibration")
    negatives = verifier.list_scores(concept, control)[ranked.are_other(rows, concept)]
    shown = _images_of(concept, components, ranked, seed)
    if len(shown) >= LEAST_POSITIVES:
        return calibrate(verifier.list_scores(concept, ImageList(tuple(shown), "calibration")), negatives)
    if len(negatives) < LEAST_POSITIVES:
        return Calibration(nan, reason=f"only {len(negatives)} images of other things")
    return _by_classes(verifier, ranked, control, rows, len(shown), seed, _alarm(negatives))


def _by_classes(
    verifier: Verifier,
    ranked: RankedImages,
    control: ImageList,
    rows: Sequence[int],
    shown: int,
    seed: int,
    low: float,
) -> Calibration:
    """Test a verifier on the classes of control images, each against the others."""
    few = f"only {shown} images of it"
    named = ranked.class_names(rows)
    known = sorted({name for name in named if name and verifier.knows(name)})
    classes = derive_rng("classes", seed).sample(known, min(len(known), verifier.negatives // _IMAGES_A_CLASS))
    if len(classes) < LEAST_CLASSES:
        return Calibration(nan, nan, shown, f"{few}, and of {len(classes)} classes to test the verifier on")
    areas: list[float] = []
    margins: list[float] = []
    for name in classes:
        scores = verifier.list_scores(name, control)
        other = ranked.are_other(rows, name)
        margins += (scores[~other] - _alarm(scores[other])).tolist()
        single = scores.astype(np.float32)
        areas += [float(auc(single[[row]], single[other])) for row in np.flatnonzero(~other)]
    area = float(np.mean(areas))
    if area < LEAST_AUC:
        reason = f"{few}, and the verifier's AUC for {len(classes)} other classes is {area:.2f}, below {LEAST_AUC}"
        return Calibration(nan, area, len(areas), reason, len(classes))
    return Calibration(low + _room(np.array(margins)), area, len(areas), "", len(classes))


def _images_of(concept: str, components: Components, ranked: RankedImages, seed: int) -> list[bytes]:
    try:
        return [subject.image for subject in own_images(components, concept, POSITIVES, seed)]
    except NotDrawableError:
        return ranked.of_class(concept, POSITIVES)


def _alarm(negatives: Scores) -> float:
    """Return the lowest score that at most 5 % of the control images reach."""
    alarms = int(ERRORS * len(negatives))
    return float(np.nextafter(np.sort(negatives)[::-1][alarms], inf))


def _room(margins: Scores) -> float:
    """Return half of what all but 5 % of the concept's images lie above the alarms; 0 where these overlap."""
    return max(0.0, float(np.sort(margins)[int(ERRORS * len(margins))])) / 2
