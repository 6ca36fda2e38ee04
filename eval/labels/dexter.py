"""Read run folders of DEXTER (Carnemolla et al. 2025): a class, the words that it found, and its images.

``OUT/CLASS_DATE-TIME-ID/`` has ``args.json``, ``frames/*.png`` and, by the kind of run, ``pred_words.txt`` (a
tuple of words a line), ``best_words.txt`` (``word;probability;logit``) or ``words.txt`` (a word a line). Nothing
in them is run.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from line_neurons.agent.errors import UsageError
from line_neurons.agent.text import clean_text
from line_neurons.eval.labels.columns import MAX_CONCEPT
from line_neurons.eval.labels.files import read_text
from line_neurons.eval.labels.labels import Label, Labels, labels_of_folder
from line_neurons.tools.images.folders import list_folder
from line_neurons.tools.images.skipped import Remarks
from line_neurons.tools.json_text import loads

_NAME = re.compile(r"(\d{1,8})_\d{8}-\d{6}-[0-9a-f]{8}")
_MAX_BYTES = 1 << 24
_MAX_LINE = 4000
_MAX_RUNS = 100_000
_TEXTS = frozenset({".txt", ".json", ".pt", ".pth"})


@dataclass(frozen=True)
class DexterRun:
    """A run of DEXTER.

    Args:
        classifier: DEXTER's name of the model; empty if it is not known.
    """

    path: Path
    unit: int
    classifier: str = ""

    def images(self) -> list[Path]:
        """Return the files of its images, the final one first, then the frames from the last one on."""
        found = [self.path / "final_img.png"] if (self.path / "final_img.png").is_file() else []
        frames = self.path / "frames"
        if frames.is_dir():
            images, _ = list_folder(frames, Remarks(frames), _TEXTS)
            found += sorted(images, key=_number, reverse=True)
        return found

    def words(self) -> tuple[str, ...]:
        """Return the words that it ended with, the thing first; none if it found none.

        Raises:
            UsageError: a file of it cannot be read, or is too large.
        """
        for name, parse in (("best_words.txt", _best), ("pred_words.txt", _last_tuple), ("words.txt", _last_word)):
            path = self.path / name
            if path.is_file() and (words := parse(_lines(path))):
                cleaned = (clean_text(word, MAX_CONCEPT).strip() for word in words)
                return tuple(dict.fromkeys(word for word in cleaned if word))
        return ()


def dexter_runs(folder: Path) -> list[DexterRun]:
    """Return the runs in a folder, or the folder itself if it is one; none if it holds none.

    Raises:
        UsageError: a run's ``args.json`` cannot be read.
        OSError: the folder cannot be read.
    """
    if own := _run(folder):
        return [own]
    inner = sorted(path for path in islice(folder.iterdir(), _MAX_RUNS) if path.is_dir())
    return [run for path in inner if (run := _run(path))]


def _run(folder: Path) -> DexterRun | None:
    named = _NAME.fullmatch(folder.name)
    path = folder / "args.json"
    if not path.is_file():
        return DexterRun(folder, int(named[1])) if named else None
    try:
        settings = loads(_text(path))
    except ValueError as error:
        raise UsageError(f"{path} is no JSON: {error}", "restore it, or leave the run out") from error
    unit = settings.get("class_to_activate") if isinstance(settings, dict) else None
    if type(unit) is not int or not 0 <= unit < 10_000_000:
        if named is None:
            return None
        unit = int(named[1])
    classifier: Any = settings.get("classifier", "") if isinstance(settings, dict) else ""
    return DexterRun(folder, unit, clean_text(str(classifier), 80))


def read_dexter(folder: Path, method: str | None = None) -> Labels:
    """Read the words of the classes in a folder of runs; further words of a run are further facets.

    Raises:
        UsageError: it has no run with words, or a file cannot be read.
    """
    remarks = Remarks(folder)
    labels: dict[int, list[Label]] = {}
    for run in dexter_runs(folder):
        words = run.words()
        if not words:
            remarks.add(run.path, "a run without words")
        elif run.unit in labels:
            remarks.add(run.path, "a further run of a class, of which the first counts")
        else:
            labels[run.unit] = [Label(run.unit, word, facet=facet) for facet, word in enumerate(words)]
    if not labels:
        raise UsageError(f"{folder} has no run of DEXTER with words", "name the folder that its --outdir named")
    return labels_of_folder(folder, method or "dexter", labels, remarks.lines())


def _best(lines: list[str]) -> tuple[str, ...]:
    """Return the word with the highest probability of ``word;probability;logit``."""
    scored = []
    for line in lines:
        word, *numbers = line.split(";")
        try:
            scored.append((float(numbers[0]), word))
        except (ValueError, IndexError):
            continue
    return (max(scored, key=lambda one: one[0])[1],) if scored else ()


def _last_tuple(lines: list[str]) -> tuple[str, ...]:
    for line in reversed(lines):
        try:
            words = ast.literal_eval(line)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
        if isinstance(words, tuple | list) and words and all(isinstance(word, str) for word in words):
            return tuple(words)
    return ()


def _last_word(lines: list[str]) -> tuple[str, ...]:
    return (lines[-1],) if lines else ()


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in _text(path).splitlines() if line.strip() and len(line) <= _MAX_LINE]


def _text(path: Path) -> str:
    return read_text(path, _MAX_BYTES, "leave the run out")


def _number(path: Path) -> tuple[int, str]:
    """Sort frames by the step that names them."""
    return (int(path.stem) if path.stem.isdecimal() and len(path.stem) < 12 else -1, path.name)
