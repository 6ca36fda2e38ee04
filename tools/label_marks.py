"""What is wrong with a unit or its label: found from activations and scores, recorded as text, told in words.

A unit ends ``dead``, ``constant`` or ``undecided`` where nothing could be its label, and ``finished`` with one;
what speaks against that label is told by its marks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from line_neurons.agent.text import format_score

if TYPE_CHECKING:
    from line_neurons.agent.ports import Activations

DEAD, CONSTANT, UNDECIDED = "dead", "constant", "undecided"
UNLABELLED = (DEAD, CONSTANT, UNDECIDED)
"""States of a unit that is done with and has no label."""
DONE = frozenset({"finished", *UNLABELLED})
"""States of a unit that is done with, and did not fail."""
ENDED = DONE | {"failed"}
"""States of a unit that a resume leaves alone."""

UNSPECIFIC, CHANCE, TIED = "unspecific", "not above chance", "tied"
FIRST_BOARD, STALLED, REPEATED = "first board only", "stalled", "repeated images"

_DENSE, _WEAK = 0.5, 0.6
_STALLED = 0.5
"""A search of which so large a part brought no concept is marked."""


class Mark(NamedTuple):
    """What is wrong, in a word or two that never change, and what tells so."""

    code: str
    detail: str


@dataclass(frozen=True)
class Evidence:
    """What is known of a label.

    Args:
        images: ids of its images.
        wanted: how many images a concept has in this run.
        tied: whether another concept has the same score.
        own: the search of the unit itself found it.
        steps: iterations and summaries.
        scored: how many of them scored a concept.
        auc: against the control set, in [0, 1]; None without one.
        interval: the 95 % interval of the AUC; see ``scorers.auc_interval``.
        density: share of the control images on which the unit is above 0, in [0, 1]; None without a control set.
    """

    images: tuple[str, ...]
    wanted: int
    tied: bool
    own: bool
    steps: int
    scored: int
    auc: float | None = None
    interval: tuple[float, float] | None = None
    density: float | None = None


def unvarying(values: Activations, where: str) -> Mark | None:
    """The mark of a unit that has the same activation on all images, two or more; None if it varies.

    Args:
        values: the unit's activations, float32 [n].
        where: which images these are.
    """
    if values.size < 2 or values.min() != values.max():
        return None
    value = float(values[0])
    told = f"{0 if value == 0 else format_score(value)} on all {values.size:,} {where}"
    return Mark(DEAD if value == 0 else CONSTANT, told)


def undecided(concepts: int, score: float) -> Mark:
    """The mark of a unit of which all concepts have the same score, so that none of them can be its label."""
    return Mark(UNDECIDED, f"all {concepts} concepts score {format_score(score)}")


def of_label(found: Evidence) -> tuple[Mark, ...]:
    """What speaks against a label."""
    return tuple(_of_label(found))


def _of_label(found: Evidence) -> Iterator[Mark]:
    if found.auc is not None and found.interval is not None and found.interval[0] <= 0.5:
        low, high = found.interval
        yield Mark(CHANCE, f"AUC {found.auc:.2f}, 95 % interval {low:.2f} to {high:.2f}")
    if found.auc is not None and found.density is not None and found.density > _DENSE and found.auc < _WEAK:
        yield Mark(UNSPECIFIC, f"active on {found.density:.0%} of the control images, AUC {found.auc:.2f}")
    if found.tied:
        yield Mark(TIED, "another concept scores exactly as high")
    if found.own and found.steps and not found.scored:
        yield Mark(FIRST_BOARD, f"none of {found.steps} steps brought a concept")
    elif found.own and found.steps - found.scored >= _STALLED * found.steps > 0:
        yield Mark(STALLED, f"{found.steps - found.scored} of {found.steps} steps brought no concept")
    different = len(set(found.images))
    if 0 < different < found.wanted:
        yield Mark(REPEATED, f"{different} different {'image' if different == 1 else 'images'} of {found.wanted}")


def written(marks: Iterable[Mark]) -> str:
    """Marks as a unit's ``note`` has them: ``code: detail``, with semicolons between; empty for none."""
    return "; ".join(f"{mark.code}: {mark.detail}" for mark in marks)


def read_marks(note: str | None, auc: float | None = None) -> tuple[Mark, ...]:
    """The marks in a unit's ``note``.

    Args:
        note: the note; None where none was recorded, as in stores of earlier versions.
        auc: the label's AUC, which tells of such a unit what can be told.
    """
    if note is None:
        known = auc is not None and auc <= 0.5
        return (Mark(CHANCE, f"AUC {auc:.2f}"),) if known else ()
    parts = (part.partition(": ") for part in note.split("; ") if part)
    return tuple(Mark(code, detail) for code, _, detail in parts)


def codes(marks: Iterable[Mark]) -> str:
    """Marks in few words, for a column."""
    return ", ".join(mark.code for mark in marks)


def told(marks: Iterable[Mark]) -> str:
    """Marks in full, for one who looks at a unit."""
    return "; ".join(f"{mark.code} ({mark.detail})" if mark.detail else mark.code for mark in marks)


def density(control: Activations) -> float:
    """Share of the control images on which a unit is above 0, in [0, 1]."""
    return float((control > 0).mean())
