"""Several labels of a unit: how alike they are, and what the best of them scores, as PRISM reports it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from line_neurons.agent.errors import UsageError
from line_neurons.agent.seeds import derive_rng
from line_neurons.eval.cosy.runner import facet_numbers
from line_neurons.eval.labels.files import LabelTable, read_table
from line_neurons.eval.reports.statistics import summarise
from line_neurons.eval.reports.table import INTERVAL_NOTE, SUMMARY_COLUMNS, Report, Row, Table, summary_cells
from line_neurons.tools.image_bank.text_encoder import TextEncoder
from line_neurons.tools.store.results.evaluations import CosyScore

EVALUATED = ("layer", "unit", "explanation", "AUC", "U1", "p", "MAD")
SUMMARISED = ("layer", "unit", "cosine_similarity", "cosine_similarity_random", "max_auc", "max_mad")
"""Columns of PRISM's two files of results."""

_MEASURES = ("cosine", "random", "best AUC", "best MAD")
_OTHERS = 5
"""How many labels of other units give the random floor, as in PRISM."""


class UnitSummary(NamedTuple):
    """PRISM's numbers of a unit.

    Args:
        layer: path of the layer, or what a file has in its place.
        cosine: mean cosine of the pairs of its labels; None for one label.
        floor: the same of labels of other units; None where there are fewer than two.
    """

    layer: str
    unit: int
    cosine: float | None
    floor: float | None
    auc: float | None
    mad: float | None


class JudgedLabels(NamedTuple):
    """A method's evaluated labels: name, layer and scores."""

    method: str
    layer: str
    scores: Sequence[CosyScore]


def mean_cosine(texts: Sequence[str], encoder: TextEncoder) -> float | None:
    """Return the mean cosine of all pairs of texts; None for fewer than two."""
    import numpy as np

    if len(texts) < 2:
        return None
    vectors = np.asarray(encoder.encode(list(texts)), np.float64)
    pairs = np.triu_indices(len(texts), 1)
    return float((vectors @ vectors.T)[pairs].mean())


def unit_summaries(judged: JudgedLabels, encoder: TextEncoder, seed: int = 0) -> list[UnitSummary]:
    """Return PRISM's numbers of each unit, by unit; ``seed`` draws the labels of the random floor."""
    texts: dict[int, list[str]] = {}
    for score in judged.scores:
        texts.setdefault(score.unit, []).append(score.concept)
    best = {
        measure: {unit: numbers[1] for unit, numbers in facet_numbers(judged.scores, measure).items()}
        for measure in ("auc", "mad")
    }
    found = []
    for unit, own in sorted(texts.items()):
        others = sorted({text for other in texts.values() for text in other} - set(own))
        drawn = derive_rng("labels of other units", seed, unit).sample(others, min(_OTHERS, len(others)))
        found.append(
            UnitSummary(
                judged.layer,
                unit,
                mean_cosine(own, encoder),
                mean_cosine(drawn, encoder),
                best["auc"].get(unit),
                best["mad"].get(unit),
            )
        )
    return found


def read_summaries(path: Path) -> list[UnitSummary] | None:
    """Read PRISM's file of a meta-evaluation; None where a file has other columns.

    Raises:
        UsageError: it cannot be read, or a row has no number where one belongs.
    """
    table: LabelTable = read_table(path)
    if not set(SUMMARISED) <= set(table.header):
        return None
    found = []
    for line, row in table.rows:
        try:
            numbers = [float(row[name]) if row[name].strip() else None for name in SUMMARISED[2:]]
            found.append(UnitSummary(row["layer"], int(row["unit"]), *numbers))
        except ValueError as error:
            raise UsageError(f"{path} line {line}: {error}", "correct it") from None
    return found


def several_labels(
    judged: Sequence[JudgedLabels], encoder: TextEncoder, published: Mapping[str, Sequence[UnitSummary]]
) -> Report:
    """Summarize several labels of units, method by method.

    Args:
        judged: evaluated labels, of each method those of one layer.
        published: summaries that were read from files, by name.

    Raises:
        UsageError: there is nothing to summarize.
    """
    summaries = {one.method: unit_summaries(one, encoder) for one in judged} | dict(published)
    if not summaries:
        raise UsageError("no labels were named", "evaluate some first: line eval cosy RUN --facets all")
    tables = [
        Table(
            "facets",
            "Several labels of a unit",
            ("method", "units", "labels", "first AUC", "first MAD",
             *(f"{name} {cell}" for name in _MEASURES for cell in SUMMARY_COLUMNS)),
            tuple(_row(name, summaries[name], judged) for name in summaries),
            "Cosine: mean over the pairs of a unit's labels, in sentence embeddings; random: the same of "
            f"{_OTHERS} labels of other units. Best: the label with the highest number. {INTERVAL_NOTE}",
        ),
        Table(
            "meta-evaluation",
            "Each unit",
            ("method", *SUMMARISED),
            tuple((name, *one) for name, units in summaries.items() for one in units),
        ),
        *(
            Table(
                f"cosy-evaluation-{number}" if len(judged) > 1 else "cosy-evaluation",
                f"Each label of {one.method}",
                EVALUATED,
                tuple(
                    (one.layer, score.unit, score.concept, score.auc, score.u1, score.p, score.mad)
                    for score in one.scores
                ),
            )
            for number, one in enumerate(judged, 1)
        ),
    ]  # fmt: skip
    return Report("facets", "Several labels of a unit", tuple(tables))


def _row(name: str, units: Sequence[UnitSummary], judged: Sequence[JudgedLabels]) -> Row:
    own = next((one for one in judged if one.method == name), None)
    first = [
        [numbers[0] for numbers in facet_numbers(own.scores, measure).values()] if own else []
        for measure in ("auc", "mad")
    ]
    columns = ([getattr(unit, field) for unit in units] for field in ("cosine", "floor", "auc", "mad"))
    cells = [
        cell
        for values in columns
        for cell in summary_cells(summarise([value for value in values if value is not None]))
    ]
    means = (fmean(values) if values else None for values in first)
    return (name, len(units), len(own.scores) if own else None, *means, *cells)
