"""Problems of units and labels: found from activations and scores, stored as text.

A unit ends ``dead``, ``constant`` or ``undecided`` where nothing could be its label, and ``finished`` with one;
what speaks against that label is in its marks.
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
IN_DOUBT = "labels in doubt"
"""Code of what makes all labels of a run doubtful, such as random weights."""
FIRST_BOARD, STALLED, REPEATED = "first board only", "stalled", "repeated images"
OF_AUC = frozenset({UNSPECIFIC, CHANCE})
"""Marks that rest on the AUC against the control set."""

_DENSE, _WEAK = 0.5, 0.6
_STALLED = 0.5
"""A search of which so large a part brought no concept is marked."""


class Mark(NamedTuple):
    """A problem: a constant code of a word or two, and the evidence."""

    code: str
    detail: str


@dataclass(frozen=True)
class Evidence:
    """The evidence on a label.

    Args:
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


def constant_mark(values: Activations, where: str) -> Mark | None:
    """Mark a unit with the same activation on two or more images; else None.

    ``where`` says which images these are.
    """
    if values.size < 2 or values.min() != values.max():
        return None
    value = float(values[0])
    told = f"{0 if value == 0 else format_score(value)} on all {values.size:,} {where}"
    return Mark(DEAD if value == 0 else CONSTANT, told)


def undecided_mark(concepts: int, score: float) -> Mark:
    """Mark a unit for which all concepts have the same score, so that none can be its label."""
    return Mark(UNDECIDED, f"all {concepts} concepts score {format_score(score)}")


def label_marks(found: Evidence) -> tuple[Mark, ...]:
    """Return the marks of a label."""
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


def format_note(marks: Iterable[Mark]) -> str:
    """Format marks as a unit's ``note``: ``code: detail``, joined with semicolons."""
    return "; ".join(f"{mark.code}: {mark.detail}" for mark in marks)


def note_with_doubts(note: str | None, doubts: Iterable[str]) -> str | None:
    """Add why all labels of a run are in doubt to a label's ``note``, for tables that leave the store."""
    more = format_note(Mark(IN_DOUBT, doubt.replace("; ", ", ")) for doubt in doubts)
    return "; ".join(filter(None, [note, more])) if more else note


def read_marks(note: str | None, auc: float | None = None) -> tuple[Mark, ...]:
    """Parse a unit's ``note``, which is None in stores of earlier versions.

    For those units the label's AUC tells what it can.
    """
    if note is None:
        known = auc is not None and auc <= 0.5
        return (Mark(CHANCE, f"AUC {auc:.2f}"),) if known else ()
    parts = (part.partition(": ") for part in note.split("; ") if part)
    return tuple(Mark(code, detail) for code, _, detail in parts)


def codes(marks: Iterable[Mark]) -> str:
    """Format marks in a few words, for a column."""
    return ", ".join(mark.code for mark in marks)


def describe_marks(marks: Iterable[Mark]) -> str:
    """Format marks in full, for the view of a unit."""
    return "; ".join(f"{mark.code} ({mark.detail})" if mark.detail else mark.code for mark in marks)


def density(control: Activations) -> float:
    """Return the share of the control images on which a unit is above 0, in [0, 1]."""
    return float((control > 0).mean())
