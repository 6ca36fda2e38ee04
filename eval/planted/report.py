"""Whether labels name what planted units respond to; see ``tools/targets/planted``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from line_neurons.agent.errors import UsageError
from line_neurons.eval.labels.imagenet import ImageNetClass, imagenet_table
from line_neurons.eval.labels.labels import Labels
from line_neurons.eval.labels.wordnet import WordNet
from line_neurons.eval.reports.label_quality import TrueClass, Truth, is_right
from line_neurons.eval.reports.statistics import wilson_interval
from line_neurons.eval.reports.table import Report, Row, Table
from line_neurons.tools.targets.planted.truth import KINDS, Kind, PlantedUnit


@dataclass(frozen=True)
class JudgedUnit:
    """What the labels of a planted unit name.

    Args:
        labels: the first label, then those of further facets; empty if the unit has none.
        first: positions of the classes that the first label names, 0 and 1.
        every: positions of the classes that any of the labels names.
    """

    unit: PlantedUnit
    labels: tuple[str, ...]
    first: frozenset[int]
    every: frozenset[int]
    marked: bool = False

    @property
    def is_right(self) -> bool:
        """Whether the labels are what the unit's kind asks for; see ``RIGHT_LABELS``."""
        return _RIGHT[self.unit.kind](self)


_RIGHT: Mapping[Kind, Callable[[JudgedUnit], bool]] = {
    "single": lambda judged: judged.first == {0},
    "larger": lambda judged: bool(judged.first),
    "smaller": lambda judged: judged.first == {0, 1},
    "dead": lambda judged: not judged.labels,
    "dense": lambda judged: not judged.labels or judged.marked,
    "minus": lambda judged: bool(judged.labels) and not judged.first,
}
RIGHT_LABELS: Mapping[Kind, str] = {
    "single": "names the class",
    "larger": "names one of the two classes",
    "smaller": "names both classes",
    "dead": "no label",
    "dense": "no label, or one with a warning",
    "minus": "does not name the class",
}
"""What is right for each kind of unit. Units of pixels have no words to compare with, and are not judged."""


@dataclass(frozen=True)
class PlantedLabels:
    """Labels of planted units; ``marked`` are the units of which the label carries a warning."""

    labels: Labels
    marked: frozenset[int] = frozenset()


def judge_units(truth: Sequence[PlantedUnit], given: PlantedLabels, words: WordNet) -> list[JudgedUnit]:
    """Judge the labels of planted units by WordNet, as ``line eval quality`` does.

    Units that the method neither labelled nor left without a label on purpose are left out.
    """
    table = imagenet_table()
    by_unit: dict[int, list[str]] = {unit: [] for unit, _ in given.labels.unlabelled}
    for label in given.labels.every:
        by_unit.setdefault(label.unit, []).append(label.concept)
    judged = []
    for unit in truth:
        if unit.unit not in by_unit:
            continue
        classes = [
            TrueClass(unit.unit, one.name, _synset(words, table[one.index]), table[one.index].also)
            for one in unit.classes
        ]
        judge = Truth(words, classes).judge
        named = [
            frozenset(place for place, true in enumerate(classes) if is_right(judge(label, true)))
            for label in by_unit[unit.unit]
        ]
        judged.append(
            JudgedUnit(
                unit,
                tuple(by_unit[unit.unit]),
                named[0] if named else frozenset(),
                frozenset().union(*named),
                unit.unit in given.marked,
            )
        )
    return judged


def _synset(words: WordNet, true: ImageNetClass) -> int | None:
    """Return the synset of a class; in a dictionary with other offsets the most frequent sense of its name."""
    return true.synset if true.synset in words.lemmas else next(iter(words.senses(true.name)), None)


def planted(methods: Sequence[PlantedLabels], truth: Sequence[PlantedUnit], words: WordNet) -> Report:
    """Compare labels with the truth of planted units, kind by kind.

    Raises:
        UsageError: a method has no label of a planted unit, or only of units of pixels.
    """
    judged = [(one.labels.method, judge_units(truth, one, words)) for one in methods]
    for name, units in judged:
        if not units:
            raise UsageError(
                f"{name} has no label for a planted unit", f"label some of the units 0-{len(truth) - 1}"
            )
        if all(one.unit.kind == "pixels" for one in units):
            raise UsageError(
                "units of pixels have no words to compare labels with",
                "use planted:mobilenet_v2; the maps of these units are their weights",
            )
    rows = [_row(name, kind, units) for name, every in judged for kind, units in _by_kind(every)]
    tables = (
        Table(
            "planted",
            "Labels of units of known truth",
            ("method", "kind", "right label", "n", "right", "share", "low", "high",
             "names both", "both share", "both low", "both high", "labels"),
            tuple(rows),
            "Names: by WordNet, as for line eval quality: the class, a synonym, a name with a modifier or "
            "a close hypernym. Names both: any of the unit's labels, those of its facets too, names each of the "
            "two classes. Intervals: Wilson's, 95 %. Labels: how many the units have.",
        ),
        Table(
            "planted-units",
            "Each unit",
            ("method", "unit", "kind", "truth", "right", "labels"),
            tuple(
                (name, one.unit.unit, one.unit.kind, one.unit.name, _verdict(one), "; ".join(one.labels) or None)
                for name, units in judged
                for one in units
            ),
        ),
    )  # fmt: skip
    return Report("planted", "Do labels name what planted units respond to?", tables)


def _by_kind(units: Sequence[JudgedUnit]) -> list[tuple[Kind, list[JudgedUnit]]]:
    kinds = {kind: [one for one in units if one.unit.kind == kind] for kind in KINDS if kind in RIGHT_LABELS}
    return [(kind, own) for kind, own in kinds.items() if own]


def _row(name: str, kind: Kind, units: Sequence[JudgedUnit]) -> Row:
    pairs = [one for one in units if len(one.unit.classes) == 2]
    both = sum(len(one.every) == 2 for one in pairs)
    counted = (both, *_share(both, len(pairs))) if pairs else (None,) * 4
    right = sum(one.is_right for one in units)
    labels = sum(len(one.labels) for one in units)
    return (name, kind, RIGHT_LABELS[kind], len(units), right, *_share(right, len(units)), *counted, labels)


def _share(count: int, total: int) -> tuple[float, float, float]:
    return (count / total, *wilson_interval(count, total))


def _verdict(judged: JudgedUnit) -> str:
    if judged.unit.kind not in RIGHT_LABELS:
        return "not judged"
    return "yes" if judged.is_right else "no"
