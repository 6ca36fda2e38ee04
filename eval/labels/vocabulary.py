"""What labels could be chosen from, and so whether the class that a unit stands for was among it.

Of a run its record tells it, of a baseline's labels a file beside theirs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from line_neurons.agent.concepts import class_concept, concept_key
from line_neurons.tools.cache.reader import control_classes
from line_neurons.tools.store.atomic_files import write_file
from line_neurons.tools.store.records import Run

_MAX_BYTES = 1 << 26


@dataclass(frozen=True)
class LabelVocabulary:
    """What labels could be chosen from.

    Args:
        words: the vocabulary; None where it is not on record.
        exclude: what no unit may be called, or find on its first board.
        exclude_for: what single units may not, by unit.
        open: there is no vocabulary: a language model names whatever it likes.
    """

    words: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    exclude_for: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    open: bool = False

    @cached_property
    def _known(self) -> frozenset[str]:
        return _keys(self.words or ())

    def has(self, unit: int, names: Sequence[str]) -> str:
        """Whether a unit's class was in the vocabulary, by any of its names.

        Returns:
            ``kept out`` where one of them is kept from the unit, ``in`` or ``not in`` the vocabulary, ``no
            vocabulary``, or ``unknown`` where that is not on record.
        """
        keys = _keys(names)
        if keys & {concept_key(one) for one in (*self.exclude, *self.exclude_for.get(unit, ()))}:
            return "kept out"
        if self.open or self.words is None:
            return "no vocabulary" if self.open else "unknown"
        return "in" if keys & self._known else "not in"


def _keys(names: Sequence[str]) -> frozenset[str]:
    return frozenset(concept_key(class_concept(name)) for name in names)


def vocabulary_of_run(run: Run, store: Path) -> LabelVocabulary:
    """What the first boards of a run could be drawn from.

    Args:
        run: the run.
        store: the store's folder; for runs of older versions it has the classes of the control sets measured.

    Raises:
        StoreError: the bank cannot be read.
    """
    told = run.settings
    words = run.vocabulary
    if words is None and told.get("init") == "control":
        # Older versions did not record them with the run.
        words = control_classes(
            store, run.fingerprints.get("target", ""), run.layer, run.fingerprints.get("control", "")
        )
    by_unit = {int(unit): tuple(names) for unit, names in told.get("exclude_for", {}).items()}
    return LabelVocabulary(words, tuple(told.get("exclude", ())), by_unit, told.get("init") == "model")


@dataclass(frozen=True)
class _Kept:
    """A choice with the SHA-256 of the file of labels that it is of."""

    labels: str
    choice: LabelVocabulary


def write_vocabulary(choice: LabelVocabulary, labels: Path) -> None:
    """Write what the labels of a file could be chosen from beside it.

    Raises:
        UsageError: the file cannot be written.
    """
    kept = _Kept(hashlib.sha256(labels.read_bytes()).hexdigest(), choice)
    write_file(_beside(labels), json.dumps(asdict(kept), indent=1).encode())


def vocabulary_of_file(labels: Path) -> LabelVocabulary:
    """What the labels of a file could be chosen from; of labels that were changed since nothing is known."""
    place = _beside(labels)
    try:
        if place.stat().st_size <= _MAX_BYTES:
            kept = TypeAdapter(_Kept).validate_json(place.read_bytes())
            if kept.labels == hashlib.sha256(labels.read_bytes()).hexdigest():
                return kept.choice
    except (OSError, ValueError, ValidationError):
        pass
    return LabelVocabulary()


def _beside(labels: Path) -> Path:
    return labels.with_name(f"{labels.name}.choice.json")
