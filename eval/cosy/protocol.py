"""CoSy's protocol (Kopf et al. 2024): AUC and MAD of a unit on images of its label against a control set.

``fixed`` measures what the paper describes. ``strict`` reproduces the reference code with its defects, for
comparison with published numbers; see docs/cosy.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from line_neurons.agent.errors import BackendError, UsageError
from line_neurons.agent.ports import ImageRequest
from line_neurons.agent.seeds import SEED_LIMIT, derive_seed
from line_neurons.eval.labels.labels import Label, Labels
from line_neurons.tools.packages import required_package
from line_neurons.tools.store.results.evaluations import CosyScore

if TYPE_CHECKING:
    from line_neurons.agent.ports import Activations

Mode = Literal["fixed", "strict"]

TEMPLATE = "realistic photo of a close up of {concept}"
"""CoSy's prompt, which is not the search's."""
IMAGES = 50
REFERENCE_GENERATOR = "sdxl"
REFERENCE_DIFFUSION = {
    **{"steps": 50, "guidance": 5.0, "size": 1024},
    **dict.fromkeys(("dtype", "scheduler")),
    "lora": (),
}
"""SDXL's settings in CoSy's code: the defaults of the pipeline of diffusers 0.24, which it requires, with the
model's own scheduler, in float16, which is this program's precision on a GPU too."""
CONTROL_BATCH, CONCEPT_BATCH = 256, 10
"""Batch sizes of the reference code, which decide the rows that ``strict`` overwrites."""
EXACT_PAIRS = 20_000
"""Up to this many pairs of control and concept images scipy chooses between an exact and an asymptotic p-value;
beyond, where the exact one takes minutes, it is asymptotic."""

_AT_ONCE = 3


def missing_score(label: Label, reason: str) -> CosyScore:
    """Return the score of a label whose concept has no images."""
    return CosyScore(label.unit, label.concept, math.nan, math.nan, math.nan, math.nan, 0, reason, label.facet)


def judge(label: Label, control: Activations, concept: Activations, mode: Mode = "fixed") -> CosyScore:
    """Compute the CoSy score of a label.

    Args:
        control: float32 [m], the unit's activations on the control images, at least two.
        concept: float32 [n], on the images of the concept, at least one.
        mode: in ``strict`` mode scipy gets float32, as in the reference code, and sums ranks in float32: on 50,000
            control images U1 is off by some units.

    Raises:
        BackendError: there are too few images, or an activation is not finite.
        MissingPartError: scipy is not installed.
    """
    import numpy as np

    from line_neurons.tools.scorers import auc, mad

    with required_package("scipy", "eval", needed="CoSy needs"):
        from scipy.stats import mannwhitneyu
    try:
        area, deviation = auc(concept, control), mad(concept, control)
    except ValueError as error:
        raise BackendError(
            f"unit {label.unit} cannot be evaluated: {error}", "give a larger control set"
        ) from error
    kind = np.float32 if mode == "strict" else np.float64
    base, values = np.asarray(control, kind), np.asarray(concept, kind)
    exact = base.size * values.size <= EXACT_PAIRS
    test = mannwhitneyu(base, values, method="auto" if exact else "asymptotic")
    return CosyScore(
        label.unit,
        label.concept,
        area,
        float(test.statistic),
        float(test.pvalue),
        deviation,
        values.size,
        facet=label.facet,
    )


def requests(concept: str, count: int, seed: int) -> list[ImageRequest]:
    """Return the image requests of a concept: CoSy's prompt, and seeds that depend on these arguments only."""
    return [
        ImageRequest(concept, "", "", derive_seed("cosy", seed, concept, index), TEMPLATE)
        for index in range(count)
    ]


def strict_requests(concept: str, place: int, count: int, seed: int) -> list[ImageRequest]:
    """Return the image requests of concept number ``place`` in ``strict`` mode.

    In the reference code three processes each generate every third concept with one random generator, seeded once:
    the noise of an image depends on the number of images before it in its process, and is the same for three
    concepts at a time. A seed that counts these images stands for the state of the generator.
    """
    first = seed + place // _AT_ONCE * count
    return [ImageRequest(concept, "", "", number % SEED_LIMIT, TEMPLATE) for number in range(first, first + count)]


def check_multiple_of_three(concepts: int) -> None:
    """Check that the reference code can generate this number of concepts.

    Raises:
        UsageError: it would fail before the last ones.
    """
    if left := concepts % _AT_ONCE:
        raise UsageError(
            f"strict: {concepts} concepts are to be generated; the reference generates three at a time and "
            f"fails at the last {left}",
            "choose units with a multiple of three concepts, images of a folder, or --mode fixed",
        )


def emulate_short_batch(rows: Activations, batch: int) -> Activations:
    """Reproduce the reference code's defect: a short last batch overwrites earlier rows and leaves zeros.

    Args:
        rows: float32 [n, units].
        batch: images in one of its batches.
    """
    full, short = divmod(len(rows), batch)
    if not short or not full:
        return rows
    placed = rows.copy()
    placed[full * batch :] = 0
    placed[full * short : (full + 1) * short] = rows[full * batch :]
    return placed


def select_labels(labels: Labels, units: Sequence[int] | None, mode: Mode, *, facets: bool = False) -> list[Label]:
    """Return the labels to evaluate, in the order of the units.

    Args:
        units: the units wanted; None for all that have a label, in the method's order.
        mode: in ``strict`` mode FALCON's phrases are paired as in the reference code: in the order of the file
            with the units in the order in which they were drawn at random.
        facets: all labels of each unit, its first one first.

    Raises:
        UsageError: none of the units has a label; in ``strict`` mode, one has none.
    """
    if facets:
        return _with_facets(labels, units)
    if units is None:
        return list(labels.labels)
    known = {label.unit: label for label in labels.labels}
    if not (named := [unit for unit in units if unit in known]):
        raise UsageError(f"{labels.method} has no label for the units in {labels.source}", "choose others")
    if mode == "strict" and labels.method == "falcon":
        wanted = set(units)
        phrases = [label for label in labels.labels if label.unit in wanted]
        return [Label(unit, label.concept, label.score) for unit, label in zip(units, phrases, strict=False)]
    if mode == "strict" and len(named) < len(units):
        without = next(unit for unit in units if unit not in known)
        raise UsageError(f"strict: {labels.method} has no label for unit {without}", "choose other units")
    return [known[unit] for unit in named]


def _with_facets(labels: Labels, units: Sequence[int] | None) -> list[Label]:
    by_unit: dict[int, list[Label]] = {}
    for label in labels.every:
        by_unit.setdefault(label.unit, []).append(label)
    chosen = [unit for unit in (by_unit if units is None else units) if unit in by_unit]
    if not chosen:
        raise UsageError(f"{labels.method} has no label for the units in {labels.source}", "choose others")
    return [label for unit in chosen for label in by_unit[unit]]
