"""People's answers about features, as in Salient ImageNet: is a feature part of the class's main object?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Literal

from line_neurons.agent.errors import UsageError
from line_neurons.agent.text import MAX_CELL, clean_text
from line_neurons.eval.labels.files import read_table

Judgement = Literal["core", "spurious"]
Answers = Mapping[tuple[int, int], "Counts"]
"""By index of the class and index of the feature."""

MAIN = "main_object"
_KINDS = (MAIN, "background", "separate_object")
_CLASS = ("class_index", "input.class_index", "class")
_FEATURE = ("feature_index", "input.feature_index", "feature")
_ANSWER = ("answer.main", "answer")
_LABEL = ("label", "word", "description")
_REMEDY = "name Salient ImageNet's discover_spurious_features.csv, or a table like it"


@dataclass(frozen=True)
class Counts:
    """How many people said what a feature shows.

    Args:
        main: the class's main object.
        separate: another object.
    """

    main: int = 0
    background: int = 0
    separate: int = 0

    @property
    def total(self) -> int:
        """Number of people."""
        return self.main + self.background + self.separate

    @property
    def elsewhere(self) -> int:
        """Number of people who did not see the main object."""
        return self.background + self.separate

    @property
    def judgement(self) -> Judgement:
        """``spurious`` if most people did not see the main object: three of five in Salient ImageNet."""
        return "spurious" if 2 * self.elsewhere > self.total else "core"


def read_answers(path: Path, classes: int, units: int) -> Answers:
    """Read answers: one a row as in Salient ImageNet's file, or the counts of each feature in a row.

    Args:
        path: a table with columns for class, feature and answer, or with the count of each answer in place of it.

    Raises:
        UsageError: the file cannot be read, lacks a column, or is about other classes or features.
    """
    table = _FeatureTable(path, classes, units)
    answer = table.column(_ANSWER)
    counted = [table.column((kind,)) for kind in _KINDS]
    if not answer and None in counted:
        raise UsageError(
            f"{str(path)!r:.200} has no answers: it needs a column answer, or {', '.join(_KINDS)}", _REMEDY
        )
    found: dict[tuple[int, int], Counter[str]] = {}
    for line, key, row in table.rows():
        counts = found.setdefault(key, Counter())
        if answer:
            given = row[answer].strip()
            if given not in _KINDS:
                raise UsageError(
                    f"{str(path)!r:.200} line {line}: {given!r:.60} is no answer", f"one of {', '.join(_KINDS)}"
                )
            counts[given] += 1
        else:
            for kind, column in zip(_KINDS, counted, strict=True):
                counts[kind] += _whole(row[str(column)], kind, path, line)
    return {key: Counts(*(counts[kind] for kind in _KINDS)) for key, counts in found.items()}


def read_words(path: Path, classes: int, units: int) -> dict[tuple[int, int], str]:
    """Read another method's words for features of classes, such as DEXTER's, by class and feature.

    Raises:
        UsageError: see ``read_answers``.
    """
    table = _FeatureTable(path, classes, units)
    label = table.column(_LABEL)
    if label is None:
        raise UsageError(f"{str(path)!r:.200} has no labels: it needs a column label", "class,feature,label")
    return {key: clean_text(row[label].strip(), MAX_CELL) for _, key, row in table.rows() if row[label].strip()}


class _FeatureTable:
    """A table of a user with rows about features of classes."""

    def __init__(self, path: Path, classes: int, units: int) -> None:
        self._path = path
        self._most = {"class": classes, "feature": units}
        self._table = read_table(path)
        self._names = {name.casefold(): name for name in self._table.header}
        self._columns = {"class": self.column(_CLASS), "feature": self.column(_FEATURE)}
        for what, column in self._columns.items():
            if column is None:
                raise UsageError(f"{str(path)!r:.200} has no column {what}_index", _REMEDY)

    def column(self, names: Sequence[str]) -> str | None:
        return next((self._names[name] for name in names if name in self._names), None)

    def rows(self) -> Iterator[tuple[int, tuple[int, int], Mapping[str, str]]]:
        """Yield line, class and feature, and cells by column."""
        for line, row in self._table.rows:
            yield line, (self._index(row, "class", line), self._index(row, "feature", line)), row

    def _index(self, row: Mapping[str, str], what: str, line: int) -> int:
        index = _whole(row[str(self._columns[what])], what, self._path, line)
        if index >= self._most[what]:
            raise UsageError(
                f"{str(self._path)!r:.200} line {line} is about {what} {index:,}, and this classifier has "
                f"{self._most[what]:,}",
                "it belongs to another classifier or another feature set; name the one of this model",
            )
        return index


def _whole(text: str, what: str, path: Path, line: int) -> int:
    value = text.strip()
    if not (value.isascii() and value.isdigit() and len(value) < 10):
        raise UsageError(f"{str(path)!r:.200} line {line}: {value!r:.60} is no number of {what}", "0 or more")
    return int(value)


@dataclass(frozen=True)
class Agreement:
    """Agreement of two judges.

    Args:
        n: features that both judged.
        same: of these, how many alike.
        kappa: Cohen's; nan where there is nothing to judge or chance alone would always agree.
    """

    n: int
    same: int
    kappa: float


def agreement(pairs: Sequence[tuple[Judgement, Judgement]]) -> Agreement:
    """Compute Cohen's kappa of paired judgements."""
    n, same = len(pairs), sum(one == other for one, other in pairs)
    if not n:
        return Agreement(0, 0, nan)
    first, second = (Counter(side) for side in zip(*pairs, strict=True))
    chance = sum(first[value] * second[value] for value in first) / n**2
    return Agreement(n, same, nan if chance == 1 else (same / n - chance) / (1 - chance))
