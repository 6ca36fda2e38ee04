"""The library of labels in a store: those of baselines, and imported ones of other methods.

The files are ``explanations/METHOD/MODEL-LAYER.csv`` or, for units of a run, ``explanations/METHOD/RUN/...``, the
layout that CoSy evaluates. A name is a file below that folder without its ending, or a folder with one file.
"""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from line_neurons.agent.errors import UsageError
from line_neurons.agent.text import clean_text, spreadsheet_cell
from line_neurons.eval.labels.dexter import dexter_runs, read_dexter
from line_neurons.eval.labels.files import SUFFIXES
from line_neurons.eval.labels.formats import read_labels
from line_neurons.eval.labels.labels import Labels, labels_of_run
from line_neurons.eval.labels.maia import read_maia
from line_neurons.eval.labels.names import file_stem
from line_neurons.tools.store.atomic_files import write_file
from line_neurons.tools.store.runs import RunStore, open_store

SCHEMA = "line-neurons/labels/1"
COLUMNS = ("run", "method", "model", "layer", "unit", "label", "score", "origin", "schema")
_SEVERAL = ("facet", "highlights", "text")
"""Columns of a file of imported labels; ``origin`` is the imported file, and ``run`` is empty."""

_FOLDER = "explanations"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.() -]{0,80}")
_SHOWN = 5


class StoredLabels(NamedTuple):
    """Labels in the library: their name, their file, and whether it is new."""

    name: str
    path: Path
    new: bool


def store_labels(store: Path, labels: Labels, name: str = "") -> StoredLabels:
    """Add labels of another method to a store; adding the same labels under the same name changes nothing.

    Args:
        store: the store's folder, created if needed.
        name: the labels' name; if empty, the method's, with a number where it is taken.

    Raises:
        UsageError: the name is not valid or taken, or the file cannot be written.
    """
    if name and not _NAME.fullmatch(name):
        raise UsageError(
            f"{clean_text(name, 60)!r} cannot be the name of labels", "use letters, digits, '-', '_' and '.'"
        )
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", file_stem(labels.model, labels.layer))
    base = name or re.sub(r"[^A-Za-z0-9_.() -]+", "-", labels.method).strip(".- ") or "labels"
    content, number = _written(labels), 1
    while True:
        called = base if number == 1 else f"{base}-{number}"
        path = store / _FOLDER / called / f"{stem}.csv"
        if not path.exists():
            return StoredLabels(f"{called}/{stem}", write_file(path, content), True)
        if path.is_file() and path.read_bytes() == content:
            return StoredLabels(f"{called}/{stem}", path, False)
        if name:
            raise UsageError(
                f"the store has other labels of this layer that are called {name!r:.80}", "choose another --as"
            )
        number += 1


def stored_labels(store: Path, name: str) -> Labels | None:
    """Find labels in a store's library; None if it has none of this name.

    Args:
        name: see the module; ``invert`` or ``invert/resnet18-avgpool``.

    Raises:
        UsageError: there are several of this name, or their file cannot be read.
    """
    parts = name.split("/")
    if not all(part and part not in {".", ".."} for part in parts):
        return None
    folder = store / _FOLDER
    file = folder.joinpath(*parts[:-1], f"{parts[-1]}.csv")
    # Searched among the existing files: a name may be of any length.
    files = sorted(folder.glob("*/*.csv")) + sorted(folder.glob("*/*/*.csv"))
    found = [path for path in files if path == file] or [
        path for path in files if folder.joinpath(*parts) in path.parents
    ]
    if len(found) > 1:
        names = ", ".join(_name(folder, path) for path in found[:_SHOWN])
        raise UsageError(f"the store keeps several labels called {name!r:.80}", f"name one of them: {names}")
    if not found:
        return None
    known = _name(folder, found[0])
    return replace(read_labels(found[0], known.partition("/")[0], units_from=0), source=known)


def _name(folder: Path, file: Path) -> str:
    return file.relative_to(folder).with_suffix("").as_posix()


def _written(labels: Labels) -> bytes:
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    # Columns that files of one label a unit do not have: the same labels are the same file as in earlier versions.
    further = [name for name in _SEVERAL if any(getattr(label, name) for label in labels.every)]
    writer.writerow([*COLUMNS, *further])
    for label in labels.every:
        row = (
            "",
            labels.method,
            labels.model,
            labels.layer,
            label.unit,
            label.concept,
            label.score,
            labels.source,
            SCHEMA,
        )
        # JSON keeps a text to the letter, and is no formula.
        kept = {name: json.dumps(getattr(label, name)) for name in ("highlights", "text")}
        others = {"facet": label.facet, **kept}
        writer.writerow([*map(spreadsheet_cell, row), *(others[name] for name in further)])
    return written.getvalue().encode()


def import_labels(
    store: Path,
    path: Path,
    *,
    name: str = "",
    model: str | None = None,
    layer: str | None = None,
    units_from: int | None = None,
    facets: bool = False,
) -> tuple[StoredLabels, Labels]:
    """Import a file of labels, or a folder of another tool's results, into a store.

    Args:
        store: the store's folder, created if needed.
        path: see ``formats.read_labels`` and ``folders.read_label_folder``.
        name: name of the labels; empty: the method's.
        model: the target, where the file does not name it.
        layer: the layer, where the file does not name it, or which of several in the file.
        units_from: number of the first unit, 0 or 1; see ``formats.read_labels``.
        facets: import all rows of a unit; see ``formats.read_labels``.

    Raises:
        UsageError: the file has no labels, leaves open its model, layer or numbering, or the name is taken.
    """
    if path.is_dir():
        labels = read_label_folder(path, name or None, layer)
    else:
        labels = read_labels(path, name or None, layer, units_from, ask=True, facets=facets)
    # The file's own place says nothing on another machine.
    labels = replace(labels, model=model or labels.model, layer=layer or labels.layer, source=path.name)
    for what, found in {"model": labels.model, "layer": labels.layer}.items():
        if not found:
            raise UsageError(f"{path} does not name its {what}", f"name it with --{what}")
    return store_labels(store, labels, name), labels


def find_labels(
    name: str, store: Path, layer: str | None = None, units_from: int | None = None, *, facets: bool = False
) -> Labels:
    """Find labels by the name of a run, a file or an entry of the library, as in ``random=labels.csv``.

    Args:
        name: the source, optionally after the name of the method and ``=``; a folder of another tool's results
            has a ``/`` in its name, so that it is no run.
        units_from: number of the first unit of a file; see ``formats.read_labels``.
        facets: read all rows of a unit of a file; see ``formats.read_labels``.

    Raises:
        UsageError: there are none; see ``formats.read_labels`` and ``stored_labels``.
    """
    method, place = split_source(name)
    if is_file(place):
        return read_labels(Path(place).expanduser(), method, layer, units_from, facets=facets)
    if "/" in place and (folder := Path(place).expanduser()).is_dir() and not stored_labels(store, place):
        return read_label_folder(folder, method, layer)
    found = stored_labels(store, place) or labels_of_run(open_runs(store), place)
    return replace(found, method=method or found.method)


def split_source(name: str) -> tuple[str | None, str]:
    """Split ``METHOD=SOURCE``; the method is None where none is given."""
    method, equals, place = name.partition("=")
    return (None, name) if not equals or "/" in method or Path(name).is_file() else (method.strip(), place)


def is_file(place: str) -> bool:
    """Return whether a source of labels is a file, and not a run or a name in the library."""
    return place.casefold().endswith(SUFFIXES) or Path(place).expanduser().is_file()


def open_runs(store: Path) -> RunStore:
    """Open the run store of a folder read-only.

    Raises:
        UsageError: it has no runs.
    """
    return open_store(store, remedy="name the store with --store, or a file of labels")


def read_label_folder(folder: Path, method: str | None = None, layer: str | None = None) -> Labels:
    """Read the labels in a folder of results.

    Args:
        folder: of runs of DEXTER, or of MAIA's units.
        method: name of the method; None: the tool's.

    Raises:
        UsageError: it holds no labels, or a file of it cannot be read.
    """
    try:
        return read_dexter(folder, method) if dexter_runs(folder) else read_maia(folder, method, layer)
    except OSError as error:
        raise UsageError(f"{folder} cannot be read: {error.strerror}", "name another folder") from None
