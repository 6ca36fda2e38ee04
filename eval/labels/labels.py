"""Labels of units, and those of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from line_neurons.agent.errors import UsageError
from line_neurons.tools.label_marks import UNLABELLED, describe_marks
from line_neurons.tools.store.results.facets import facets_of
from line_neurons.tools.store.runs import RunStore


@dataclass(frozen=True)
class Label:
    """One explanation of one unit.

    Args:
        concept: the text; for INVERT possibly a formula (``dog AND NOT cat``).
        score: the method's own (INVERT's AUC, CLIP-Dissect's similarity, LINE's score); None if it has none.
        facet: which of several labels of the unit, from 0.
        highlights: what PRISM's files list as evidence, as it is written there.
        text: a description to the letter, where ``concept`` differs from it.
    """

    unit: int
    concept: str
    score: float | None = None
    facet: int = 0
    highlights: str = ""
    text: str = ""


@dataclass(frozen=True)
class Labels:
    """The labels of one method for units of one layer.

    Args:
        method: ``line``, ``invert``, ``invert-3``, ``clip-dissect``, ``clip-dissect (captions)``, ``random``,
            ``initial``, ``milan``, ``falcon``, ``describe-and-dissect`` ...
        model: the target's spec; empty if a file does not name it.
        layer: path of the layer, or the part of it that a file has.
        labels: in the method's order, one a unit: its first.
        source: id of the run, or the file.
        remarks: skipped parts of the file, a line for each reason.
        unlabelled: units that can have no label, each with the reason.
        tied: units with a second label of the same score; the first one counts.
        further: the labels of other facets of these units, in order.
    """

    method: str
    model: str
    layer: str
    labels: tuple[Label, ...]
    source: str
    remarks: tuple[str, ...] = ()
    unlabelled: tuple[tuple[int, str], ...] = ()
    tied: tuple[int, ...] = ()
    further: tuple[Label, ...] = ()

    @property
    def every(self) -> tuple[Label, ...]:
        """All labels: of each unit the first one, then those of its other facets."""
        others: dict[int, list[Label]] = {}
        for label in self.further:
            others.setdefault(label.unit, []).append(label)
        return tuple(label for first in self.labels for label in (first, *others.get(first.unit, ())))


def labels_of_folder(
    folder: Path,
    method: str,
    labels: Mapping[int, Sequence[Label]],
    remarks: tuple[str, ...],
    model: str = "",
    layer: str = "",
) -> Labels:
    """Return the labels of a folder of another tool's results, those of each unit in the order of its facets."""
    first = tuple(several[0] for several in labels.values())
    further = tuple(label for several in labels.values() for label in several[1:])
    return Labels(method, model, layer, first, str(folder.absolute()), remarks, further=further)


def labels_of_run(runs: RunStore, run: str) -> Labels:
    """Return the labels of a run's finished units, in the order of the run, and those of their facets.

    Raises:
        UsageError: there is no such run (``run`` is its id or the beginning of one), or no unit has a label yet.
    """
    found = runs.run(run)
    units = runs.units(found.id)
    labels = tuple(
        Label(unit.unit, unit.label, unit.score) for unit in units if unit.status == "finished" and unit.label
    )
    if not labels:
        raise UsageError(f"no unit of run {found.id} has a label yet", f"line resume {found.id}")
    facets = facets_of(runs, found.id)
    further = tuple(
        Label(facet.unit, facet.label, facet.score, facet.facet)
        for label in labels if label.unit in facets
        for facet in facets[label.unit].facets if facet.label is not None and facet.facet
    )  # fmt: skip
    without = tuple((unit.unit, describe_marks(unit.marks)) for unit in units if unit.status in UNLABELLED)
    return Labels("line", found.shown_model, found.layer, labels, found.id, unlabelled=without, further=further)
