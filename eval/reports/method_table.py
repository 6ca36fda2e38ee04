"""Table 1: methods against LINE by CoSy's numbers, on the units that all of them label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite
from typing import TYPE_CHECKING

from line_neurons.agent.errors import UsageError
from line_neurons.eval.labels.formats import short_sources
from line_neurons.eval.reports.histories import SteeredUnits, steering_notes
from line_neurons.eval.reports.statistics import compare, holm_correction, summarise
from line_neurons.eval.reports.table import (
    INTERVAL_NOTE,
    PAIRED_COLUMNS,
    SUMMARY_COLUMNS,
    TEST_COLUMNS,
    Report,
    Row,
    Table,
    paired_cells,
    summary_cells,
    tested_rows,
)
from line_neurons.tools.targets.registry import short_spec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from line_neurons.tools.store.evaluations import CosyScore, Evaluation, Result
    from line_neurons.tools.store.records import Run

MEASURES = {"AUC": "auc", "MAD": "mad"}
_FINGERPRINTS = {"target": "the target", "images_id": "the images", "control_id": "the control set"}


def table1(
    results: Sequence[Result],
    sources: Sequence[str] = (),
    runs: Mapping[str, tuple[Run, SteeredUnits]] | None = None,
) -> Report:
    """Methods by model and layer, with tests against LINE.

    Evaluations are set side by side where everything but method and source is the same, weights and images by
    their fingerprints. Each method is compared on
    the units for which all have numbers; further tables have each pair on the units of both, and each method on
    all of its own. The method that
    the others are tested against is the first source named that is in the group, or else the newest of LINE's.

    Args:
        results: the evaluations that a store keeps.
        sources: runs and files to take, in this order; all if empty.
        runs: the runs among the sources, by id, each with what people were granted by unit. What a search found
            that people steered is not the method's: these units are left out.

    Raises:
        UsageError: nothing was evaluated, a source was not, or methods have no unit in common.
    """
    known = {result.evaluation.source for result in results}
    for source in sources:
        if source not in known:
            shown = ", ".join(sorted(known)[:5]) or "none yet"
            raise UsageError(
                f"{source!r:.80} was not evaluated", f"line eval cosy {source}; evaluated: {shown}"[:200]
            )
    if not results:
        raise UsageError("no labels were evaluated in this store", "evaluate some first: line eval cosy RUN")
    groups: dict[Evaluation, list[Result]] = {}
    for result in sorted(results, key=lambda one: -one.when):
        if not sources or result.evaluation.source in sources:
            groups.setdefault(result.evaluation.setting, []).append(_left_alone(result, runs or {}))
    shared, pairs, own, rendered, notes = [], [], [], {}, []
    for setting in sorted(groups):
        group = groups[setting] = _ordered(groups[setting], sources)
        names = _names(group)
        numbers = [{one.unit: one for one in result.scores if isfinite(one.auc)} for result in group]
        units = sorted(set.intersection(*map(set, numbers)))
        place = (short_spec(setting.model), setting.layer)
        pairs += _pairs(place, names, numbers)
        if units:
            shared += _shared(place, names, numbers, units)
            rendered[setting] = (names, numbers, units)
        else:
            notes.append(f"No unit of {' '.join(place)} has numbers for all of: {', '.join(names)}.")
        own += [
            (*place, name, result.evaluation.source, len(result.scores),
             sum(bool(one.missing) for one in result.scores),
             *(cell for column in MEASURES.values() for cell in _own(result.scores, column)))
            for name, result in zip(names, group, strict=True)
        ]  # fmt: skip
    if not rendered and not any(row[4] for row in pairs):
        raise UsageError(
            "the evaluated methods have no unit in common", "name some over the same units of one layer"
        )
    told = sorted(
        {
            f"Images: {one.drawn}, {one.count or 'as many as there are'} of each concept, seed {one.seed}; "
            f"control set: {one.control}; mode {one.mode}."
            for one in groups
        }
    )
    taken = {result.evaluation.source for group in groups.values() for result in group}
    steering = steering_notes([told for source, told in (runs or {}).items() if source in taken])
    notes += _told_changes(groups)
    tables = (
        Table(
            "table1",
            "Methods on the units that all of them label",
            ("model", "layer", "measure", "method", "n", *SUMMARY_COLUMNS, *PAIRED_COLUMNS, "Holm p"),
            tuple(shared),
            f"Mean with standard deviation. {INTERVAL_NOTE} The difference is the reference (the first "
            "of each block) minus the method, pair by pair: Shapiro-Wilk at .05, then paired t-test (effect: d_z) "
            "or Wilcoxon (effect: rank-biserial correlation); Holm's correction over a layer's comparisons.",
        ),
        Table(
            "table1-pairs",
            "Each method against the reference, on the units that both label",
            ("model", "layer", "measure", "method", *TEST_COLUMNS),
            tuple(pairs),
            "As above, with more units where another method has no number for some.",
        ),
        Table(
            "table1-own-units",
            "Each method on all units that it labels",
            ("model", "layer", "method", "source", "units", "not drawable",
             *(f"{name} {cell}" for name in MEASURES for cell in SUMMARY_COLUMNS)),
            tuple(own),
            "A concept that the source of images cannot draw has no number and is counted as such. Units that "
            "people steered are left out of all tables.",
        ),
    )  # fmt: skip
    figures = {"table1": lambda: _draw(rendered)} if rendered else {}
    return Report("table1", "Methods compared by CoSy", tables, figures, (*notes, *told, *steering))


def _left_alone(result: Result, runs: Mapping[str, tuple[Run, SteeredUnits]]) -> Result:
    """What came of the units that nobody steered."""
    _, steered = runs.get(result.evaluation.source, (None, {}))
    return replace(result, scores=tuple(one for one in result.scores if one.unit not in steered))


def _told_changes(groups: Mapping[Evaluation, Sequence[Result]]) -> list[str]:
    """Blocks whose settings have the same names, but not the same weights or images behind them."""
    alike: dict[Evaluation, list[Evaluation]] = {}
    for one in sorted(groups):
        alike.setdefault(replace(one, target="", images_id="", control_id=""), []).append(one)
    notes = []
    for setting, found in alike.items():
        if len(found) > 1:
            changed = [
                told for name, told in _FINGERPRINTS.items() if len({getattr(one, name) for one in found}) > 1
            ]
            blocks = "; ".join(", ".join(_names(groups[one])) for one in found)
            notes.append(
                f"{' and '.join(changed).capitalize()} of {short_spec(setting.model)} {setting.layer} changed "
                f"between evaluations, so that these are not compared with each other: {blocks}. Judged by one "
                "`line eval cosy RUN METHOD=FILE ...` they are."
            )
    return notes


def _ordered(group: Sequence[Result], sources: Sequence[str]) -> list[Result]:
    """The reference first, then by method."""
    places = {source: place for place, source in enumerate(sources)}

    def key(result: Result) -> tuple[object, ...]:
        told = result.evaluation
        return places.get(told.source, 0), told.method != "line", -result.when if told.method == "line" else 0.0

    found = sorted(group, key=key)
    return [found[0], *(found[1:] if sources else sorted(found[1:], key=lambda one: one.evaluation.method))]


def _names(group: Sequence[Result]) -> list[str]:
    """Methods, with the source where a method stands twice."""
    methods = [result.evaluation.method for result in group]
    sources = short_sources([result.evaluation.source for result in group])
    return [
        method if methods.count(method) == 1 else f"{method} ({source})"
        for method, source in zip(methods, sources, strict=True)
    ]


def _own(judged: Sequence[CosyScore], column: str) -> tuple[float, ...]:
    return summary_cells(summarise([getattr(one, column) for one in judged]))


def _values(numbers: Mapping[int, CosyScore], units: Sequence[int], column: str) -> list[float]:
    return [float(getattr(numbers[unit], column)) for unit in units]


def _shared(
    place: tuple[str, str], names: Sequence[str], numbers: Sequence[Mapping[int, CosyScore]], units: Sequence[int]
) -> list[tuple[object, ...]]:
    found = []
    for measure, column in MEASURES.items():
        reference = _values(numbers[0], units, column)
        for at, name in enumerate(names):
            values = _values(numbers[at], units, column)
            found.append((measure, name, summarise(values), compare(reference, values) if at else None))
    corrected = iter(holm_correction([paired.p for *_, paired in found if paired]))
    return [
        (*place, measure, name, told.n, *summary_cells(told),
         *((*paired_cells(paired), next(corrected)) if paired else (None,) * (len(PAIRED_COLUMNS) + 1)))
        for measure, name, told, paired in found
    ]  # fmt: skip


def _pairs(place: tuple[str, str], names: Sequence[str], numbers: Sequence[Mapping[int, CosyScore]]) -> list[Row]:
    found = []
    for measure, column in MEASURES.items():
        for name, own in zip(names[1:], numbers[1:], strict=True):
            units = sorted(set(own) & set(numbers[0]))
            paired = compare(_values(numbers[0], units, column), _values(own, units, column))
            found.append(((*place, measure, name), paired))
    return tested_rows(found)


def _draw(
    groups: Mapping[Evaluation, tuple[Sequence[str], Sequence[Mapping[int, CosyScore]], Sequence[int]]],
) -> Figure:
    from line_neurons.eval.reports.figures import intervals, panels

    most = max(len(names) for names, _, _ in groups.values())
    figure, grid = panels(len(groups), 2, 0.8 + 0.24 * most)
    for (setting, (names, numbers, units)), row in zip(groups.items(), grid, strict=True):
        for (measure, column), axes in zip(MEASURES.items(), row, strict=True):
            intervals(axes, names, [summarise(_values(one, units, column)) for one in numbers])
            axes.set_title(f"{measure}, {short_spec(setting.model)} {setting.layer} (n = {len(units)})")
        row[0].axvline(0.5, color="#000000", linewidth=0.8, linestyle=":")
        row[1].axvline(0.0, color="#000000", linewidth=0.8, linestyle=":")
    return figure
