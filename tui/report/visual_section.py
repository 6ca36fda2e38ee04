"""What excites a unit most, in a report: its sets of images side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from line_neurons.agent.text import short_score
from line_neurons.tools.store.results.visual import OWN_SETS, ImageSet, VisualResult
from line_neurons.tui.report.thumbnails import ImageStrip, Thumbnails

_SHARES = {
    "transfer": "{} in the second network",
    "spectrum": "{:.0%} of control images have a stranger spectrum", "inside": "{:.0%} like a control image",
    "consistent": "{:.0%} show the label",
}  # fmt: skip
"""Measures that are named, in order; the others are in the tables."""


@dataclass(frozen=True)
class ShownSet:
    """A set of images.

    Args:
        strip: the images; None if there are none.
        activations: the unit's, on each image.
    """

    name: str
    summary: str
    strip: ImageStrip | None
    activations: tuple[float, ...]


@dataclass(frozen=True)
class VisualSection:
    """The sets of a unit, and whether they are of an earlier label."""

    sets: tuple[ShownSet, ...]
    second: str
    earlier: str


def visual_section(
    results: Sequence[VisualResult], label: str | None, thumbnails: Thumbnails
) -> VisualSection | None:
    """Return the sets of a unit's newest evaluation; None without one.

    Args:
        results: of the unit alone, newest first.
    """
    if not results:
        return None
    newest = results[0]
    shown = tuple(
        ShownSet(
            one.name,
            summary(one),
            thumbnails.strip([image.image for image in one.images]) if one.images else None,
            tuple(image.activation for image in one.images),
        )
        for one in sorted(newest.sets, key=_place)
    )
    earlier = next((one.label for one in newest.sets if one.label != (label or "")), "")
    return VisualSection(shown, newest.evaluation.second, earlier)


def _place(one: ImageSet) -> int:
    """Return the place of a set, those of other tools at the end; they are in the order of evaluation."""
    return OWN_SETS.index(one.name) if one.name in OWN_SETS else len(OWN_SETS)


def summary(one: ImageSet) -> str:
    """Return the measures of a set in words."""
    if not one.images:
        return one.missing
    numbers = one.numbers
    activation, robust = numbers.get("activation"), numbers.get("robust")
    words = [f"activation {_number(activation)}"]
    if robust is not None:
        words.append(f"{robust:.0%} of it left in shaken views")
    for name, text in _SHARES.items():
        if (value := numbers.get(name)) is not None:
            words.append(text.format(value if "%" in text else _number(value)))
    return "; ".join(words)


def _number(value: object) -> str:
    return short_score(float(value)) if isinstance(value, int | float) else "unknown"
