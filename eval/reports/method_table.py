"""Table 1: compare methods with LINE by CoSy scores, on the units that all of them label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
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
from line_neurons.tools.target_specs import short_spec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from line_neurons.tools.store.records import Run
    from line_neurons.tools.store.results.evaluations import CosyScore, Evaluation, Result

MEASURES = {"AUC": "auc", "MAD": "mad"}
_FINGERPRINTS = {"target": "the target", "images_id": "the images", "control_id": "the control set"}


@dataclass(frozen=True)
class _Group:
    """Evaluations with the same settings, the reference first."""

    setting: Evaluation
    results: Sequence[Result]

    @property
    def place(self) -> tuple[str, str]:
        """Model and layer."""
        return short_spec(self.setting.model), self.setting.layer

    @cached_property
    def names(self) -> list[str]:
        """Methods, with the source where a method occurs twice."""
        methods = [result.evaluation.method for result in self.results]
        sources = short_sources([result.evaluation.source for result in self.results])
        return [
            method if methods.count(method) == 1 else f"{method} ({source})"
            for method, source in zip(methods, sources, strict=True)
        ]

    @cached_property
    def scores(self) -> list[dict[int, CosyScore]]:
        """The finite scores of each method, by unit."""
        return [{score.unit: score for score in result.scores if isfinite(score.auc)} for result in self.results]

    @cached_property
    def units(self) -> list[int]:
        """The units with a score from every method."""
        return sorted(set.intersection(*map(set, self.scores)))


def table1(
    results: Sequence[Result],
    sources: Sequence[str] = (),
    runs: Mapping[str, tuple[Run, SteeredUnits]] | None = None,
) -> Report:
    """Compare methods by model and layer, with tests against LINE.

    A group has the evaluations that differ in method and source only, by the fingerprints of weights and images.
    Methods are compared on the units for which all have scores; further tables have each pair on the units of
    both, and each method on all of its own. The reference is the first of ``sources`` in the group, or else LINE's
    newest.

    Args:
        sources: runs and files to compare, in this order; all if empty.
        runs: the runs among the sources, by id, each with its applied steering commands by unit. Steered units are
            left out: what they found is not the method's own.

    Raises:
        UsageError: nothing was evaluated, a source was not, or methods have no unit in common.
    """
    runs = runs or {}
    _check_evaluated(results, sources)
    groups = _grouped(results, sources, runs)
    compared = [group for group in groups if group.units]
    pairs = [row for group in groups for row in _pairs(group)]
    if not compared and not any(row[4] for row in pairs):
        raise UsageError(
            "the evaluated methods have no unit in common", "name some over the same units of one layer"
        )
    tables = (
        Table(
            "table1",
            "Methods on the units that all of them label",
            ("model", "layer", "measure", "method", "n", *SUMMARY_COLUMNS, *PAIRED_COLUMNS, "Holm p"),
            tuple(row for group in compared for row in _shared(group)),
            f"Mean with standard deviation. {INTERVAL_NOTE} The difference is the reference (the first "
            "of each block) minus the method, pair by pair: Shapiro-Wilk at .05, then paired t-test (effect: d_z) "
            "or Wilcoxon (effect: rank-biserial correlation); Holm's correction over a layer's comparisons.",
        ),
        Table(
            "table1-pairs",
            "Each method against the reference, on the units that both label",
            ("model", "layer", "measure", "method", *TEST_COLUMNS),
            tuple(pairs),
            "As above, with more units where another method has no score for some.",
        ),
        Table(
            "table1-own-units",
            "Each method on all units that it labels",
            ("model", "layer", "method", "source", "units", "not drawable",
             *(f"{name} {cell}" for name in MEASURES for cell in SUMMARY_COLUMNS)),
            tuple(row for group in groups for row in _own(group)),
            "A concept without images has no score and is counted separately. Steered units are left out of all "
            "tables.",
        ),
    )  # fmt: skip
    figures = {"table1": lambda: _draw(compared)} if compared else {}
    return Report("table1", "Methods compared by CoSy", tables, figures, tuple(_notes(groups, runs)))


def _check_evaluated(results: Sequence[Result], sources: Sequence[str]) -> None:
    evaluated = {result.evaluation.source for result in results}
    for source in sources:
        if source not in evaluated:
            shown = ", ".join(sorted(evaluated)[:5]) or "none yet"
            raise UsageError(
                f"{source!r:.80} was not evaluated", f"line eval cosy {source}; evaluated: {shown}"[:200]
            )
    if not results:
        raise UsageError("no labels were evaluated in this store", "evaluate some first: line eval cosy RUN")


def _grouped(
    results: Sequence[Result], sources: Sequence[str], runs: Mapping[str, tuple[Run, SteeredUnits]]
) -> list[_Group]:
    groups: dict[Evaluation, list[Result]] = {}
    for result in sorted(results, key=lambda result: -result.when):
        if not sources or result.evaluation.source in sources:
            groups.setdefault(result.evaluation.setting, []).append(_unsteered(result, runs))
    return [_Group(setting, _ordered(groups[setting], sources)) for setting in sorted(groups)]


def _unsteered(result: Result, runs: Mapping[str, tuple[Run, SteeredUnits]]) -> Result:
    _, steered = runs.get(result.evaluation.source, (None, {}))
    return replace(result, scores=tuple(score for score in result.scores if score.unit not in steered))


def _ordered(results: Sequence[Result], sources: Sequence[str]) -> list[Result]:
    """Return the reference first, then the others by method."""
    places = {source: place for place, source in enumerate(sources)}

    def key(result: Result) -> tuple[object, ...]:
        evaluation = result.evaluation
        is_line = evaluation.method == "line"
        return places.get(evaluation.source, 0), not is_line, -result.when if is_line else 0.0

    first, *rest = sorted(results, key=key)
    return [first, *(rest if sources else sorted(rest, key=lambda result: result.evaluation.method))]


def _notes(groups: Sequence[_Group], runs: Mapping[str, tuple[Run, SteeredUnits]]) -> list[str]:
    incomplete = [
        f"No unit of {' '.join(group.place)} has numbers for all of: {', '.join(group.names)}."
        for group in groups
        if not group.units
    ]
    images = {
        f"Images: {group.setting.image_source}, {group.setting.count or 'all'} of each concept, seed "
        f"{group.setting.seed}; control set: {group.setting.control}; mode {group.setting.mode}."
        for group in groups
    }
    compared = {result.evaluation.source for group in groups for result in group.results}
    steering = steering_notes([run for source, run in runs.items() if source in compared])
    return [*incomplete, *_changes(groups), *sorted(images), *steering]


def _changes(groups: Sequence[_Group]) -> list[str]:
    """Report groups whose settings have the same names, but other weights or images."""
    alike: dict[Evaluation, list[_Group]] = {}
    for group in groups:
        alike.setdefault(replace(group.setting, target="", images_id="", control_id=""), []).append(group)
    notes = []
    for setting, several in alike.items():
        if len(several) > 1:
            changed = [
                text
                for name, text in _FINGERPRINTS.items()
                if len({getattr(group.setting, name) for group in several}) > 1
            ]
            blocks = "; ".join(", ".join(group.names) for group in several)
            notes.append(
                f"{' and '.join(changed).capitalize()} of {short_spec(setting.model)} {setting.layer} changed "
                f"between evaluations, so these are not compared with each other: {blocks}. Evaluate them "
                "together: `line eval cosy RUN METHOD=FILE ...`."
            )
    return notes


def _own(group: _Group) -> list[Row]:
    rows: list[Row] = []
    for name, result in zip(group.names, group.results, strict=True):
        missing = sum(bool(score.missing) for score in result.scores)
        summaries = (
            summarise([getattr(score, column) for score in result.scores]) for column in MEASURES.values()
        )
        cells = (cell for summary in summaries for cell in summary_cells(summary))
        rows.append((*group.place, name, result.evaluation.source, len(result.scores), missing, *cells))
    return rows


def _values(scores: Mapping[int, CosyScore], units: Sequence[int], column: str) -> list[float]:
    return [float(getattr(scores[unit], column)) for unit in units]


def _shared(group: _Group) -> list[Row]:
    compared = []
    for measure, column in MEASURES.items():
        reference = _values(group.scores[0], group.units, column)
        for at, name in enumerate(group.names):
            values = _values(group.scores[at], group.units, column)
            compared.append((measure, name, summarise(values), compare(reference, values) if at else None))
    corrected = iter(holm_correction([paired.p for *_, paired in compared if paired]))
    return [
        (*group.place, measure, name, summary.n, *summary_cells(summary),
         *((*paired_cells(paired), next(corrected)) if paired else (None,) * (len(PAIRED_COLUMNS) + 1)))
        for measure, name, summary, paired in compared
    ]  # fmt: skip


def _pairs(group: _Group) -> list[Row]:
    reference, *others = group.scores
    compared = []
    for measure, column in MEASURES.items():
        for name, own in zip(group.names[1:], others, strict=True):
            units = sorted(set(own) & set(reference))
            paired = compare(_values(reference, units, column), _values(own, units, column))
            compared.append(((*group.place, measure, name), paired))
    return tested_rows(compared)


def _draw(groups: Sequence[_Group]) -> Figure:
    from line_neurons.eval.reports.figures import intervals, panels

    most = max(len(group.names) for group in groups)
    figure, grid = panels(len(groups), 2, 0.8 + 0.24 * most)
    for group, row in zip(groups, grid, strict=True):
        for (measure, column), axes in zip(MEASURES.items(), row, strict=True):
            means = [summarise(_values(scores, group.units, column)) for scores in group.scores]
            intervals(axes, group.names, means)
            axes.set_title(f"{measure}, {' '.join(group.place)} (n = {len(group.units)})")
        row[0].axvline(0.5, color="#000000", linewidth=0.8, linestyle=":")
        row[1].axvline(0.0, color="#000000", linewidth=0.8, linestyle=":")
    return figure
