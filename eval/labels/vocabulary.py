"""The vocabulary that labels were chosen from, and whether the class of a unit was in it.

It is part of a run's record; for a baseline's labels it is in a file beside theirs.
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
from line_neurons.agent.setting_groups.guidance import FROM_CONTROL_SET
from line_neurons.tools.cache.reader import control_classes
from line_neurons.tools.store.atomic_files import write_file
from line_neurons.tools.store.records import Run

_MAX_BYTES = 1 << 26


@dataclass(frozen=True)
class LabelVocabulary:
    """The vocabulary that labels were chosen from.

    Args:
        words: the words; None where they are not recorded.
        exclude: words that are excluded for every unit.
        exclude_for: words that are excluded for single units.
        open: there is no vocabulary: a language model proposes the labels freely.
    """

    words: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    exclude_for: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    open: bool = False

    @cached_property
    def _known(self) -> frozenset[str]:
        return _keys(self.words or ())

    def has(self, unit: int, names: Sequence[str]) -> str:
        """Return whether a unit's class was in the vocabulary, under any of its names.

        Returns:
            ``kept out`` if a name is excluded for the unit, ``in`` or ``not in`` the vocabulary, ``no
            vocabulary``, or ``unknown`` if it is not recorded.
        """
        keys = _keys(names)
        if keys & {concept_key(word) for word in (*self.exclude, *self.exclude_for.get(unit, ()))}:
            return "kept out"
        if self.open or self.words is None:
            return "no vocabulary" if self.open else "unknown"
        return "in" if keys & self._known else "not in"


def _keys(names: Sequence[str]) -> frozenset[str]:
    return frozenset(concept_key(class_concept(name)) for name in names)


def vocabulary_of_run(run: Run, store: Path) -> LabelVocabulary:
    """Return the vocabulary of a run's initial scoreboards.

    Args:
        store: the store's folder; it has the classes of the measured control sets, which older versions did not
            record.

    Raises:
        StoreError: the cache cannot be read.
    """
    settings = run.settings
    words = run.vocabulary
    if words is None and settings.get("init") in FROM_CONTROL_SET:
        # Older versions did not record them with the run.
        words = control_classes(
            store, run.fingerprints.get("target", ""), run.layer, run.fingerprints.get("control", "")
        )
    by_unit = {int(unit): tuple(names) for unit, names in settings.get("exclude_for", {}).items()}
    return LabelVocabulary(words, tuple(settings.get("exclude", ())), by_unit, settings.get("init") == "model")


@dataclass(frozen=True)
class _Kept:
    """A vocabulary with the SHA-256 of its file of labels."""

    labels: str
    choice: LabelVocabulary


def write_vocabulary(choice: LabelVocabulary, labels: Path) -> None:
    """Write the vocabulary of a file of labels beside it.

    Raises:
        UsageError: the file cannot be written.
    """
    kept = _Kept(hashlib.sha256(labels.read_bytes()).hexdigest(), choice)
    write_file(_beside(labels), json.dumps(asdict(kept), indent=1).encode())


def vocabulary_of_file(labels: Path) -> LabelVocabulary:
    """Return the vocabulary of a file of labels; unknown if the labels were changed since it was written."""
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
