"""Figure 6 and ablations: runs over the same units that differ in some settings, compared pair by pair."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import isnan, nan
from typing import TYPE_CHECKING, Any

from line_neurons.agent.concepts import concept_key
from line_neurons.agent.errors import UsageError
from line_neurons.eval.reports.histories import (
    LENGTH_SETTINGS,
    History,
    differences,
    distinguishing_names,
    steering_notes,
)
from line_neurons.eval.reports.statistics import (
    PairedTest,
    Summary,
    compare,
    shared_units,
    summarise,
    wilson_interval,
)
from line_neurons.eval.reports.table import (
    INTERVAL_NOTE,
    SUMMARY_COLUMNS,
    TEST_COLUMNS,
    Report,
    Table,
    summary_cells,
    tested_rows,
)
from line_neurons.eval.reports.winner_table import is_generated

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from line_neurons.tools.store.results.evaluations import Evaluation, Result

Samples = dict[str, list[list[float]]]
"""By measure, for each run, the value of each shared unit; nan where there is none."""

_MEASURES = {"score": "score", "AUC": "auc", "MAD": "mad"}
"""Measures on the images of the search itself."""
_UNTESTED = (
    "the run differs only in the length of its search. The best of more concepts never scores less, whoever "
    "proposes them, so there is no test on the search's own images; evaluate the runs on others (line eval cosy), "
    "or compare each with a random proposer (line eval steps)."
)


def comparison(histories: Sequence[History], judged: Sequence[Result] = ()) -> Report:
    """Compare runs over the same units with the first of them.

    Args:
        histories: at least two runs of one layer of one model.
        judged: evaluations by CoSy; those of the runs are compared, too.

    Raises:
        UsageError: there are fewer than two runs, they are of different layers, or have no unit in common.
    """
    if len(histories) < 2:
        raise UsageError("one run cannot be compared", "name two or more runs over the same units")
    places = list(dict.fromkeys(f"{history.run.target_name} {history.run.layer}" for history in histories))
    if len(places) > 1:
        raise UsageError(f"the runs are of several layers: {'; '.join(places):.150}", "name runs of one layer")
    units = shared_units([list(history.searches) for history in histories], "runs")
    labels = distinguishing_names([history.run for history in histories])
    samples: Samples = {
        name: [[_value(history, unit, column) for unit in units] for history in histories]
        for name, column in _MEASURES.items()
    }
    for measure, values in _judged(histories, judged, units).items():
        samples[measure] = values
    samples = {
        name: rows for name, rows in samples.items() if not all(isnan(value) for row in rows for value in row)
    }
    longer = [_is_longer(histories[0], history) for history in histories[1:]]
    found = {name: _paired(rows, [name in _MEASURES and one for one in longer]) for name, rows in samples.items()}
    tables = (
        _differences(histories, labels),
        _means(labels, samples),
        _tests(labels, found),
        _agreement(histories, labels, units),
    )
    steered = steering_notes([(history.run, history.steered) for history in histories])
    note = f"Over the {len(units)} units that all runs have finished; against {labels[0]}."
    shorter = [label for label, untested in zip(labels[1:], longer, strict=True) if untested]
    untested = [f"{', '.join(shorter)}: {_UNTESTED}"] if shorter else []
    figures = {"compare": lambda: _draw(labels, samples, found)}
    return Report("compare", "Runs compared", tables, figures, (note, *untested, *steered))


def _value(history: History, unit: int, column: str) -> float:
    value = getattr(history.searches[unit].unit, column)
    return nan if value is None else float(value)


def _judged(histories: Sequence[History], judged: Sequence[Result], units: Sequence[int]) -> Samples:
    """Return CoSy scores of the runs on the same images, from the newest evaluation that all runs have."""
    kinds: dict[Evaluation, dict[str, Mapping[int, Any]]] = {}
    for result in sorted(judged, key=lambda one: one.when):
        evaluation = result.evaluation
        if evaluation.method == "line":
            kinds.setdefault(evaluation.setting, {})[evaluation.source] = {
                score.unit: score for score in result.scores
            }
    for known in reversed(kinds.values()):
        if all(history.run.id in known for history in histories):
            found: Samples = {}
            for name, column in (("CoSy AUC", "auc"), ("CoSy MAD", "mad")):
                found[name] = [
                    [_fresh(known[history.run.id].get(unit), history, unit, column) for unit in units]
                    for history in histories
                ]
            return found
    return {}


def _fresh(judged: Any, history: History, unit: int, column: str) -> float:
    """Return a CoSy score; nan if the unit's label has changed since."""
    if judged is None or judged.concept != history.searches[unit].unit.label:
        return nan
    return float(getattr(judged, column))


def _is_longer(first: History, other: History) -> bool:
    """Return whether two runs differ only in the length of their searches."""
    unlike = set(differences([first.run, other.run]))
    return bool(unlike) and unlike <= LENGTH_SETTINGS


def _paired(rows: Sequence[Sequence[float]], untested: Sequence[bool]) -> list[PairedTest]:
    """Compare every run with the first, some without a test."""
    compared = [compare(other, rows[0]) for other in rows[1:]]
    return [
        PairedTest(paired.difference, nan, "none", nan, nan, nan) if without else paired
        for paired, without in zip(compared, untested, strict=True)
    ]


def _differences(histories: Sequence[History], labels: Sequence[str]) -> Table:
    found = differences([history.run for history in histories])
    rows = tuple((name, *(_shown(value) for value in values)) for name, values in found.items())
    runs = ("run", *(history.run.id for history in histories))
    seconds = (
        "hours, units added up",
        *(sum(search.unit.seconds for search in h.searches.values()) / 3600 for h in histories),
    )
    return Table("compare-settings", "Differing settings", ("setting", *labels), (runs, *rows, seconds))


def _shown(value: Any) -> Any:
    return value if isinstance(value, str | int | float | None) else json.dumps(value)[:60]


def _means(labels: Sequence[str], samples: Samples) -> Table:
    rows = []
    for measure, own in samples.items():
        for label, values in zip(labels, own, strict=True):
            summary = summarise(values)
            rows.append((measure, label, summary.n, *summary_cells(summary)))
    return Table(
        "compare-means",
        "Means",
        ("measure", "run", "n", *SUMMARY_COLUMNS),
        tuple(rows),
        "Score, AUC and MAD are on the images of the search, CoSy's on images that it did not see; means with "
        f"standard deviation. {INTERVAL_NOTE} A score is in units of activation: with another source "
        "of images or another scorer it is not comparable.",
    )


def _tests(labels: Sequence[str], found: Mapping[str, Sequence[PairedTest]]) -> Table:
    every = [((measure, label), paired) for measure, own in found.items()
             for label, paired in zip(labels[1:], own, strict=True)]  # fmt: skip
    return Table(
        "compare-tests",
        f"Differences to {labels[0]}",
        ("measure", "run", *TEST_COLUMNS),
        tuple(tested_rows(every)),
        "Pair by pair: Shapiro-Wilk test of the differences at .05, then paired t-test (effect: d_z) or "
        "Wilcoxon's signed-rank test (effect: rank-biserial correlation); Holm's correction over the whole table.",
    )


def _agreement(histories: Sequence[History], labels: Sequence[str], units: Sequence[int]) -> Table:
    first = histories[0]
    rows = []
    for label, history in zip(labels, histories, strict=True):
        own = [history.searches[unit].unit for unit in units]
        others = [first.searches[unit].unit for unit in units]
        pairs = list(zip(own, others, strict=True))
        same = sum(concept_key(a.label or "") == concept_key(b.label or "") for a, b in pairs)
        higher = sum((a.score or 0.0) > (b.score or 0.0) for a, b in pairs)
        lower = sum((a.score or 0.0) < (b.score or 0.0) for a, b in pairs)
        generated = sum(map(is_generated, own)) / len(own)
        rows.append(
            (label, len(own), same, same / len(own), *wilson_interval(same, len(own)), higher, lower, generated)
        )
    return Table(
        "compare-labels",
        f"Labels, against {labels[0]}",
        ("run", "n", "same label", "share", "low", "high", "scores higher", "scores lower", "generated"),
        tuple(rows),
        "The share of same labels has Wilson's 95 % interval; generated: share of the run's labels.",
    )


def _draw(labels: Sequence[str], samples: Samples, found: Mapping[str, Sequence[PairedTest]]) -> Figure:
    from line_neurons.eval.reports.figures import intervals, panels

    figure, grid = panels(len(samples), 2, 0.75 + 0.28 * len(labels))
    for measure, (left, right) in zip(samples, grid, strict=True):
        intervals(left, labels, [summarise(values) for values in samples[measure]])
        left.set_title(f"{measure}: mean (95 % interval)")
        summaries: list[Summary] = [paired.difference for paired in found[measure]]
        intervals(
            right,
            [f"{label} (n = {summary.n})" for label, summary in zip(labels[1:], summaries, strict=True)],
            summaries,
            1,
        )
        right.axvline(0, color="#000000", linewidth=0.8)
        right.set_title(f"{measure}: difference to {labels[0]}"[:60])
    return figure
