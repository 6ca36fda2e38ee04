"""One unit of a report: its label with the evidence, and the way of its search, put together for the templates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from line_neurons.tools.cache.reader import stored_activations
from line_neurons.tools.store.columns import OUTCOMES
from line_neurons.tools.store.records import Step, Unit
from line_neurons.tui.formatting import origin, step_name
from line_neurons.tui.report.charts import Curve, curve
from line_neurons.tui.report.control_images import Against, Controls
from line_neurons.tui.report.thumbnails import MOST, Album, Photo, Strip
from line_neurons.tui.unit_view import BoardRow, UnitView, board, origin_of, reason_of_refusal


@dataclass(frozen=True)
class Tried:
    """An entry of a history.

    Args:
        name: what the step is called.
        entry: the entry itself.
        outcome: what came of it, in words.
        tone: ``best`` for a new best score, ``scored``, or ``refused`` for what has no score.
        reason: why it was refused.
        strip: the concept's images; None if it has none.
        activations: the unit's activation on each of them; None where it is not known.
        board: the board after it; empty where it did not change it.
        asked: how the language model was asked, as name and value.
    """

    name: str
    entry: Step
    outcome: str
    tone: str
    reason: str
    strip: Strip | None
    activations: tuple[float | None, ...]
    board: tuple[BoardRow, ...]
    asked: tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Search:
    """A search from its first board on: the first, or one of the restarts.

    Args:
        number: 0 for the first, or which restart.
        begins: the step at which its board was filled.
        first: the concepts of that board, best first.
        tried: what was tried then, in order.
        best: the best entry with its score; None where nothing was scored.
    """

    number: int
    begins: int
    first: tuple[Tried, ...]
    tried: tuple[Tried, ...]
    best: Tried | None


@dataclass(frozen=True)
class Facet:
    """A concept beside the label that tells something of the unit, and what it is."""

    concept: str
    score: float | None
    what: str


@dataclass(frozen=True)
class UnitReport:
    """All that a report says of a unit.

    Args:
        view: the unit.
        origin: where its label came from, in words.
        photos: the label's images.
        hidden: how many of them are not shown.
        label_activations: the unit's activation on each that is shown.
        against: the control set; None where ``no_control`` says why.
        no_control: why there is nothing about a control set.
        without_images: why control images are not shown.
        curve: the course of the search.
        board: the board as it stands.
        facets: runners-up, and what each search found.
        searches: the searches, in order.
        revisited: labels that other units found.
    """

    view: UnitView
    origin: str
    photos: tuple[Photo, ...]
    hidden: int
    against: Against | None
    no_control: str
    without_images: str
    curve: Curve | None
    board: tuple[BoardRow, ...]
    facets: tuple[Facet, ...]
    searches: tuple[Search, ...]
    revisited: tuple[Tried, ...]

    @property
    def unit(self) -> int:
        """Its index."""
        return self.view.unit.unit


@dataclass(frozen=True)
class Unreadable:
    """A unit whose rows in the store are damaged, and what is wrong with them."""

    unit: int
    error: str


def unit_report(store: Path, view: UnitView, album: Album, controls: Controls) -> UnitReport:
    """Put a unit together.

    Args:
        store: the store's folder.
        view: the unit.
        album: where its images are kept.
        controls: the run's control set.

    Raises:
        StoreError: the bank cannot be read.
    """
    target, unit = str(view.run.fingerprints.get("target")), view.unit
    looked_at = [*(entry.images for entry in view.steps), unit.images]
    images = list(dict.fromkeys(image for one in looked_at for image in one[:MOST]))
    values = stored_activations(store, images, target, view.run.layer, unit.unit)
    measured = {image: value for image, value in zip(images, values, strict=True) if value is not None}
    photos = album.photos(unit.images, unit.unit)
    on_label = [measured[image] for image in unit.images[:MOST] if image in measured]
    searches = _searches(view, album, measured)
    history = [
        (entry.step, step_name(entry), entry.concept or "", entry.score if entry.outcome == "scored" else None)
        for entry in view.steps
        if entry.kind != "revisit"
    ]
    return UnitReport(
        view,
        origin(unit),
        tuple(photos),
        max(0, len(unit.images) - MOST),
        controls.against(unit.unit, on_label, album),
        controls.missing or "the control set's activations are not of this layer",
        controls.without_images,
        curve(history, [search.begins for search in searches if search.number]),
        tuple(board(view)),
        tuple(_facets(unit, searches)),
        searches,
        tuple(_tried(view, one, "found", album, measured) for one in view.steps if one.kind == "revisit"),
    )


def _facets(unit: Unit, searches: Sequence[Search]) -> Iterator[Facet]:
    if unit.second_label is not None:
        yield Facet(unit.second_label, unit.second_score, "best that shares no word with the label")
    if unit.search_label is not None and unit.origin == "revisit":
        yield Facet(unit.search_label, unit.search_score, "what its own search found")
    for search in searches if len(searches) > 1 else ():
        if search.best and search.best.entry.concept:
            where = (
                f"restart {search.number}, from step {search.begins} on" if search.number else "the first search"
            )
            yield Facet(search.best.entry.concept, search.best.entry.score, f"best of {where}")


def _searches(view: UnitView, album: Album, measured: Mapping[str, float]) -> tuple[Search, ...]:
    found: list[tuple[list[Tried], list[Tried]]] = []
    highest = float("-inf")
    for entry in view.steps:
        if entry.kind == "revisit":
            continue
        if entry.kind == "initial" and (not found or entry.step != found[-1][0][0].entry.step):
            found.append(([], []))
        if not found:
            # A step without a board before it, as no runner writes it.
            found.append(([], []))
        first, tried = found[-1]
        scored = entry.outcome == "scored" and entry.score is not None
        best = scored and (entry.score or 0.0) > highest
        if entry.kind == "initial":
            first.append(_tried(view, entry, "scored" if scored else "refused", album, measured))
        else:
            tone = "best" if best else "scored" if scored else "refused"
            tried.append(_tried(view, entry, tone, album, measured))
        if best and entry.score is not None:
            highest = entry.score
    return tuple(_search(number, first, tried) for number, (first, tried) in enumerate(found))


def _search(number: int, first: Sequence[Tried], tried: Sequence[Tried]) -> Search:
    scored = [one for one in (*first, *tried) if one.tone != "refused"]
    in_order = sorted(first, key=_score, reverse=True)
    begins = (first or tried)[0].entry.step
    return Search(number, begins, tuple(in_order), tuple(tried), max(scored, key=_score, default=None))


def _score(one: Tried) -> float:
    return float("-inf") if one.entry.score is None else one.entry.score


def _tried(view: UnitView, entry: Step, tone: str, album: Album, measured: Mapping[str, float]) -> Tried:
    shown = entry.images[:MOST]
    changed = entry.outcome == "scored" and entry.kind in {"iteration", "summary"}
    given = [
        ("asked in", f"{entry.seconds:.1f} s" if entry.seconds else None),
        ("temperature", entry.temperature),
        ("seed", entry.seed),
        ("model", entry.model),
    ]
    return Tried(
        step_name(entry),
        entry,
        _outcome(entry, tone),
        tone,
        reason_of_refusal(entry),
        album.strip(entry.images),
        tuple(measured.get(image) for image in shown),
        tuple(board(view, (entry.step, entry.attempt))) if changed else (),
        tuple((name, value) for name, value in given if value is not None),
    )


def _outcome(entry: Step, tone: str) -> str:
    if entry.kind in {"initial", "revisit"} and entry.outcome == "scored":
        return origin_of(entry) if entry.kind == "initial" else "found by another unit"
    if entry.outcome != "scored":
        return OUTCOMES.get(entry.outcome, entry.outcome)
    words = ["new best"] if tone == "best" else []
    if entry.removed is not None:
        words.append("did not enter the board" if entry.removed == entry.concept else f"replaced {entry.removed}")
    return ", ".join(words) or "scored"
