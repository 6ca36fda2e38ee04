"""Section of one unit in a report: its label with evidence, and its search."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from line_neurons.agent.concepts import class_concept
from line_neurons.tools.cache.reader import stored_activations
from line_neurons.tools.spreads import Spreads
from line_neurons.tools.store.columns import OUTCOMES
from line_neurons.tools.store.records import Step
from line_neurons.tools.store.refused_replies import reason_of_refusal
from line_neurons.tools.store.results.edits import stored_edits
from line_neurons.tools.store.results.facets import UnitFacets
from line_neurons.tools.store.results.visual import stored_sets
from line_neurons.tui.edits_view import EditedImage, UnitEdits, unit_edits
from line_neurons.tui.formatting import origin
from line_neurons.tui.guidance_text import early_end, image_source, knows, predicted, promise
from line_neurons.tui.report.charts import (
    PredictionScatter,
    ScoreCurve,
    prediction_scatter,
    score_axis,
    score_curve,
)
from line_neurons.tui.report.control_images import ControlComparison, ControlImages
from line_neurons.tui.report.facet_section import FacetSection, facet_section
from line_neurons.tui.report.thumbnails import MAX_IMAGES, ImageStrip, LabelImage, Thumbnails
from line_neurons.tui.report.visual_section import VisualSection, visual_section
from line_neurons.tui.unit_view import BoardRow, UnitView, board, origin_of

MAX_EDITS = 6
"""The number of edited images that are shown of an evaluation."""


@dataclass(frozen=True)
class StepEntry:
    """A step of a history.

    Args:
        tone: ``best`` for a new best score, ``scored``, or ``refused`` without a score.
        strip: the concept's images; None if it has none.
        activations: the unit's activation on each image; None if unknown.
        spread: the standard error of its score; None if unknown.
        board: the board after it; empty if it did not change.
        request: parameters of the request to the language model, as name and value.
        promise: what the response model expected of it, in words; empty where it took no part.
    """

    step: Step
    outcome: str
    tone: str
    reason: str
    strip: ImageStrip | None
    activations: tuple[float | None, ...]
    spread: float | None
    board: tuple[BoardRow, ...]
    request: tuple[tuple[str, Any], ...]
    promise: str = ""


@dataclass(frozen=True)
class Search:
    """A search from its initial board on: the first one, or a restart.

    Args:
        number: 0 for the first search, else the number of the restart.
        initial: the concepts of that board, best first.
        steps: the steps that follow, in order.
        best: the best step; None if nothing was scored.
    """

    number: int
    first_step: int
    initial: tuple[StepEntry, ...]
    steps: tuple[StepEntry, ...]
    best: StepEntry | None

    @property
    def name(self) -> str:
        """What it is called: the number of a restart, or the facet that it is for; empty for the first one."""
        detail = self.initial[0].step.detail if self.initial else None
        if detail and (sources := detail.get("facet")):
            source = str(sources[0])
            return f"search for the facet of {class_concept(source) or source}"
        return f"restart {self.number}" if self.number else ""


@dataclass(frozen=True)
class Facet:
    """A concept besides the label that describes the unit."""

    concept: str
    score: float | None
    spread: float | None
    description: str


@dataclass(frozen=True)
class EditSection:
    """An evaluation of a unit's edits.

    Args:
        images: the first images, each with its edits as a strip.
    """

    edits: UnitEdits
    images: tuple[tuple[EditedImage, ImageStrip], ...]


@dataclass(frozen=True)
class UnitReport:
    """Content of the section of a unit.

    Args:
        origin: origin of its label, in words.
        spread: the standard error of the label's score; None if unknown.
        hidden_images: number of images of the label that are not shown.
        control: activations on the control set; None if ``control_missing`` says why.
        control_missing: why there is no control set.
        control_images_missing: why control images are not shown; empty if they are.
        facets: runners-up, and the results of each search.
        searches: the searches, in order.
        revisits: labels that other units found.
        knows: how well the response model knows the unit, in words; empty where it took no part.
        predictions: predicted beside measured scores; None for fewer than two.
        ended: why the search ended early, in words; empty where it did not.
        map_source: what the maps over the label's images are; empty where there are none.
        facet_section: what else it responds to; None where that was not found.
        visual: sets of images that excite the unit; None where they were not evaluated.
    """

    view: UnitView
    origin: str
    spread: float | None
    label_images: tuple[LabelImage, ...]
    hidden_images: int
    control: ControlComparison | None
    control_missing: str
    control_images_missing: str
    score_curve: ScoreCurve | None
    score_axis: str
    board: tuple[BoardRow, ...]
    facets: tuple[Facet, ...]
    searches: tuple[Search, ...]
    revisits: tuple[StepEntry, ...]
    knows: str = ""
    ended: str = ""
    map_source: str = ""
    predictions: PredictionScatter | None = None
    edits: tuple[EditSection, ...] = ()
    facet_section: FacetSection | None = None
    visual: VisualSection | None = None

    @property
    def unit(self) -> int:
        """Its index."""
        return self.view.unit.unit


@dataclass(frozen=True)
class Unreadable:
    """A unit whose rows in the store are damaged."""

    unit: int
    error: str


def unit_report(
    store: Path,
    view: UnitView,
    thumbnails: Thumbnails,
    controls: ControlImages,
    spreads: Spreads,
    facets: UnitFacets | None = None,
) -> UnitReport:
    """Build the section of a unit.

    Args:
        facets: its facets; None where they were not found.

    Raises:
        StoreError: the cache cannot be read.
    """
    target, unit = str(view.run.fingerprints.get("target")), view.unit
    shown = [*(step.images for step in view.steps), unit.images]
    images = list(dict.fromkeys(image for ids in shown for image in ids[:MAX_IMAGES]))
    values = stored_activations(store, images, target, view.run.layer, unit.unit)
    measured = {image: value for image, value in zip(images, values, strict=True) if value is not None}
    label_images = thumbnails.label_images(unit.images, unit.unit)
    on_label = [measured[image] for image in unit.images[:MAX_IMAGES] if image in measured]
    entries = _Entries(view, thumbnails, spreads, measured)
    searches = _searches(entries)
    history = [
        (step.step, step.name, step.concept or "", step.score if step.outcome == "scored" else None, spread)
        for step, spread in zip(view.steps, spreads.of_steps(view.steps), strict=True)
        if step.kind != "revisit"
    ]
    (spread,) = spreads.of_units([unit])
    return UnitReport(
        view,
        origin(unit),
        spread,
        tuple(label_images),
        max(0, len(unit.images) - MAX_IMAGES),
        controls.control(unit.unit, on_label, thumbnails),
        controls.missing or "the control set's activations are not of this layer",
        controls.images_missing,
        score_curve(history, [search.first_step for search in searches if search.number]),
        score_axis(view.run.settings.get("scorer")),
        tuple(board(view, spreads=spreads)),
        tuple(_facets(view, searches, spreads)),
        searches,
        tuple(entries.of(step, "found") for step in view.steps if step.kind == "revisit"),
        knows(view.steps),
        early_end(view.run.settings, view.steps),
        _map_source(thumbnails, unit.unit),
        prediction_scatter(
            [
                (step.name, step.concept or "", expected.score, expected.spread or 0.0, step.score)
                for step in view.steps
                if step.score is not None and (expected := predicted(step))
            ]
        ),
        tuple(
            EditSection(edits, tuple(
                (image, strip) for image in edits.images[:MAX_EDITS] if (strip := thumbnails.strip(image.images))
            ))
            for edits in unit_edits(stored_edits(store, view.run.id, unit.unit))
        ),
        facet_section(store, view, facets, thumbnails, controls),
        visual_section(stored_sets(store, view.run.id, unit.unit), unit.label, thumbnails),
    )  # fmt: skip


def _map_source(thumbnails: Thumbnails, unit: int) -> str:
    maps = thumbnails.maps
    return f"{source}; {maps.line}" if maps and (source := maps.source(unit)) else ""


def _facets(view: UnitView, searches: Sequence[Search], spreads: Spreads) -> Iterator[Facet]:
    unit = view.unit
    others = (
        (unit.second_label, unit.second_score, "runner-up: shares no word with the label"),
        (unit.search_label if unit.origin == "revisit" else None, unit.search_score, "result of its own search"),
    )
    known = spreads.of_board(
        [(concept, score) for concept, score, _ in others if concept is not None and score is not None], view.steps
    )
    for concept, score, description in others:
        if concept is not None:
            yield Facet(concept, score, None if score is None else known[concept, score], description)
    for search in searches if len(searches) > 1 else ():
        if search.best and search.best.step.concept:
            name = f"{search.name}, from step {search.first_step} on" if search.number else "the first search"
            step = search.best.step
            yield Facet(search.best.step.concept, step.score, search.best.spread, f"best of {name}")


def _searches(entries: _Entries) -> tuple[Search, ...]:
    found: list[tuple[list[StepEntry], list[StepEntry]]] = []
    highest = float("-inf")
    for step in entries.view.steps:
        if step.kind == "revisit":
            continue
        if step.kind == "initial" and (not found or step.step != found[-1][0][0].step.step):
            found.append(([], []))
        if not found:
            # A step without a board before it, which no runner writes.
            found.append(([], []))
        initial, later = found[-1]
        scored = step.outcome == "scored" and step.score is not None
        best = scored and (step.score or 0.0) > highest
        if step.kind == "initial":
            initial.append(entries.of(step, "scored" if scored else "refused"))
        else:
            later.append(entries.of(step, "best" if best else "scored" if scored else "refused"))
        if best and step.score is not None:
            highest = step.score
    return tuple(_search(number, initial, later) for number, (initial, later) in enumerate(found))


def _search(number: int, initial: Sequence[StepEntry], later: Sequence[StepEntry]) -> Search:
    scored = [entry for entry in (*initial, *later) if entry.tone != "refused"]
    first_step = (initial or later)[0].step.step
    by_score = sorted(initial, key=_score, reverse=True)
    return Search(number, first_step, tuple(by_score), tuple(later), max(scored, key=_score, default=None))


def _score(entry: StepEntry) -> float:
    return float("-inf") if entry.step.score is None else entry.step.score


@dataclass(frozen=True)
class _Entries:
    """What the entries of a history are made of; ``measured`` has the unit's activations by image."""

    view: UnitView
    thumbnails: Thumbnails
    spreads: Spreads
    measured: Mapping[str, float]

    def of(self, step: Step, tone: str) -> StepEntry:
        """Return the entry of a step."""
        changed = step.outcome == "scored" and step.kind in {"iteration", "summary"}
        request = [
            ("reply time", f"{step.seconds:.1f} s" if step.seconds else None),
            ("temperature", step.temperature),
            ("seed", step.seed),
            ("model", step.model),
        ]
        return StepEntry(
            step,
            _outcome(step, tone),
            tone,
            reason_of_refusal(step),
            self.thumbnails.strip(step.images),
            tuple(self.measured.get(image) for image in step.images[:MAX_IMAGES]),
            self.spreads.of_steps([step])[0],
            tuple(board(self.view, (step.step, step.attempt), self.spreads)) if changed else (),
            tuple((name, value) for name, value in request if value is not None),
            promise(step),
        )


def _outcome(step: Step, tone: str) -> str:
    if step.kind in {"initial", "revisit"} and step.outcome == "scored":
        source = ", ".join(filter(None, [origin_of(step), image_source(step)]))
        return source if step.kind == "initial" else "found by another unit"
    if step.outcome != "scored":
        return OUTCOMES.get(step.outcome, step.outcome)
    words = ["new best"] if tone == "best" else []
    if step.removed is not None:
        words.append("did not enter the board" if step.removed == step.concept else f"replaced {step.removed}")
    return ", ".join(words) or "scored"
