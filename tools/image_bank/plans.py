"""Plans of images: subjects, places and conditions, and why a plan cannot be carried out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from line_neurons.agent.errors import NotDrawableError
from line_neurons.tools.image_bank.bank import Entry


class NotComposableError(NotDrawableError):
    """The bank has the subjects, but not in a form that can be composed as requested.

    Args:
        reason: what cannot be done.
        nearest: possible concepts instead, with their similarity, best first.
    """

    def __init__(self, concept: str, reason: str, nearest: list[tuple[str, float]]) -> None:
        super().__init__(concept, nearest)
        self.reason = reason
        self.args = (f"{concept!r} cannot be composed from the bank: {reason}",)


@dataclass(frozen=True)
class ImageSource:
    """An image that may stand for a subject, and why: the matched name and its similarity."""

    entry: Entry
    name: str
    similarity: float
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlannedSubject:
    """One subject of a plan: its words, the images to choose from, the requested colour, and how many."""

    phrase: str
    sources: tuple[ImageSource, ...]
    colour: str | None = None
    count: int = 1


@dataclass(frozen=True)
class Plan:
    """The plan of an image: at most two subjects, place, conditions, ignored words."""

    concept: str
    things: tuple[PlannedSubject, ...]
    place: str | None = None
    conditions: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()


def nearest_names(plan: Plan) -> list[tuple[str, float]]:
    """Return the names that a plan's subjects matched, with their similarity, best first."""
    best: dict[str, float] = {}
    for thing in plan.things:
        for source in thing.sources:
            best[source.name] = max(source.similarity, best.get(source.name, -1.0))
    return sorted(best.items(), key=lambda pair: (-pair[1], pair[0]))


def account_of(thing: PlannedSubject, source: ImageSource) -> dict[str, Any]:
    """Return what the provenance says of a subject."""
    entry = source.entry
    return {
        "phrase": thing.phrase,
        "caption": entry.caption,
        "matched": source.name,
        "similarity": source.similarity,
        "file": entry.id,
        "kind": entry.kind,
        "sha256": entry.sha256,
        **({"source": entry.source} if entry.source else {}),
    }
