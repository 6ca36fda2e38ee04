"""Table 2: did a word of the first board win, or one that was generated?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from line_neurons.eval.reports.histories import History, steering_notes
from line_neurons.eval.reports.statistics import summarise, wilson_interval
from line_neurons.eval.reports.table import INTERVAL_NOTE, SUMMARY_COLUMNS, Report, Table, summary_cells
from line_neurons.tools.store.records import Unit

PAPER = (
    ("ResNet18", "ImageNet avgpool", 94, 13),
    ("ResNet50", "ImageNet avgpool", 100, 19),
    ("ResNet50", "Places365 layer4", 100, 37),
    ("ResNet50", "Places365 avgpool", 100, 39),
    ("ViT-B/16", "ImageNet encoder", 50, 16),
    ("ViT-B/16", "ImageNet heads", 50, 18),
    ("all", "ImageNet", 294, 66),
    ("all", "Places365", 200, 76),
)
"""Table 2 of the paper: model, layer, units, generated."""

_COLUMNS = ("model", "layer", "run", "language model", "units", "predefined", "generated", "share", "low", "high")
_KINDS = ("proposed", "summary", "revisit", "typed", "discovered")


@dataclass(frozen=True)
class LabelOrigins:
    """How many labels are of which kind."""

    units: int
    generated: int
    proposed: int
    summary: int
    revisit: int
    typed: int
    discovered: int


def is_generated(unit: Unit) -> bool:
    """Whether a unit's label was generated: by its own search or, where a revisit found it, anywhere at all."""
    return bool(unit.discovered) if unit.origin == "revisit" else unit.origin in {"proposed", "summary"}


def count(units: Iterable[Unit]) -> LabelOrigins:
    """Count labels by where they are from."""
    found = list(units)
    return LabelOrigins(
        units=len(found),
        generated=sum(map(is_generated, found)),
        proposed=sum(unit.origin == "proposed" for unit in found),
        summary=sum(unit.origin == "summary" for unit in found),
        revisit=sum(unit.origin == "revisit" for unit in found),
        typed=sum(unit.origin == "typed" for unit in found),
        discovered=sum(bool(unit.discovered) for unit in found),
    )


def winners(runs: Sequence[History], *, paper: bool = False) -> Report:
    """Predefined against generated winners of each run, of each layer that has several, and of all.

    Args:
        runs: the runs.
        paper: put the paper's figures below.
    """
    notes = steering_notes([(one.run, one.steered) for one in runs])
    in_order = sorted(runs, key=lambda one: one.place)
    rows = []
    for place, own in groupby(in_order, key=lambda one: one.place):
        several = list(own)
        rows += [_row((*place, one.run.id, str(one.run.settings.get("llm"))), [one]) for one in several]
        if len(several) > 1:
            rows += _pooled((*place, "all", ""), several)
    if len({one.place for one in runs}) > 1:
        rows += _pooled(("all", "", "all", ""), in_order)
    tables = [
        Table(
            "winners",
            "Predefined against generated winners",
            (*_COLUMNS, *_KINDS, "steered", *(f"margin {name}" for name in SUMMARY_COLUMNS)),
            tuple(rows),
            "Generated: the label was proposed in an iteration or the summary, or was found by a revisit and is "
            "not in the initial vocabulary; the share has Wilson's 95 % interval. Discovered: the label is not in "
            "the initial vocabulary. Typed: a person named it for this unit or, where a revisit found it, for "
            "another; that counts as neither. Steered: units with applied steering commands. Margin: the "
            f"label's score over that of the best initial label, never negative. {INTERVAL_NOTE} A proposer that "
            "draws random concepts wins units too: neither shares nor margins tell what a language model is "
            "worth. Rows of several runs leave out forks.",
        )
    ]
    if paper:
        known = [
            (
                model,
                layer,
                units,
                units - generated,
                generated,
                generated / units,
                *wilson_interval(generated, units),
            )
            for model, layer, units, generated in PAPER
        ]
        headings = ("model", "layer", "units", "predefined", "generated", "share", "low", "high")
        note = "The counts are the paper's; the intervals are computed from them."
        tables.append(Table("winners-paper", "Table 2 of the paper", headings, tuple(known), note))
    return Report("winners", "Which labels win", tuple(tables), notes=notes)


def _pooled(where: tuple[str, ...], runs: Sequence[History]) -> list[tuple[object, ...]]:
    own = [one for one in runs if not one.run.forked_from]
    return [_row(where, own)] if own else []


def _row(where: tuple[str, ...], runs: Sequence[History]) -> tuple[object, ...]:
    units = [search.unit for one in runs for search in one.searches.values()]
    found = count(units)
    steered = sum(unit in one.steered for one in runs for unit in one.searches)
    share = found.generated / found.units
    margin = summarise([unit.margin for unit in units if unit.margin is not None])
    return (
        *where, found.units, found.units - found.generated - found.typed, found.generated, share,
        *wilson_interval(found.generated, found.units), *(getattr(found, kind) for kind in _KINDS), steered,
        *summary_cells(margin),
    )  # fmt: skip
