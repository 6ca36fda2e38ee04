"""Read results of MAIA and OpenMAIA: ``AGENT/MODEL/LAYER/UNIT/{history.json,description.txt,label.txt}``.

A history is JSON with all images of a dialogue in it; strings that long are passed over while the file is read, so
that memory does not depend on them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from line_neurons.agent.errors import UsageError
from line_neurons.agent.text import clean_text
from line_neurons.eval.labels.columns import MAX_CONCEPT, MAX_DESCRIPTION
from line_neurons.eval.labels.files import read_text
from line_neurons.eval.labels.labels import Label, Labels, labels_of_folder
from line_neurons.tools.images.skipped import Remarks
from line_neurons.tools.json_text import loads

HISTORY, DESCRIPTION, LABEL = "history.json", "description.txt", "label.txt"
_FILES = frozenset({HISTORY, DESCRIPTION, LABEL})
_MAX_BYTES = 1 << 28
_MAX_TEXT = 1 << 24
"""Bytes of a history without its images."""
_LONG = 1 << 16
"""Bytes of a string from which on it is an image."""
_CHUNK = 1 << 20
_DEPTH = 8
_MAX_UNITS = 100_000
_MOST_FACETS = 20
_LABELS = re.compile(r"\[LABEL(?:[ \t]*\d{1,4})?\]:[ \t]*([^\n]+)")
_DESCRIPTION = re.compile(r"\[DESCRIPTION\]:[ \t]*([^\[]*)")


@dataclass(frozen=True)
class MaiaUnit:
    """A unit's folder."""

    path: Path
    model: str
    layer: str
    unit: int


def maia_units(folder: Path, remarks: Remarks | None = None) -> list[MaiaUnit]:
    """Return the units in a folder of results: all of them, of one agent, of one model, or of one layer.

    Links to folders are not followed.

    Raises:
        UsageError: there are too many.
    """
    found: list[MaiaUnit] = []
    root = folder.absolute()
    for place, folders, files in os.walk(root):
        path = Path(place)
        folders.sort()
        if len(path.relative_to(root).parts) >= _DEPTH:
            folders.clear()
        if not _FILES & set(files):
            continue
        folders.clear()
        if not path.name.isdecimal() or len(path.name) > 8:
            if remarks is not None:
                remarks.add(path.name, "a folder without the number of a unit")
            continue
        found.append(MaiaUnit(path, path.parent.parent.name, path.parent.name, int(path.name)))
        if len(found) > _MAX_UNITS:
            raise UsageError(f"{folder} has more than {_MAX_UNITS:,} units", "name the folder of one layer")
    return sorted(found, key=lambda one: (one.model, one.layer, one.unit, str(one.path)))


def read_maia(folder: Path, method: str | None = None, layer: str | None = None) -> Labels:
    """Read the labels in a folder of results; further labels of a unit are further facets.

    The labels are those of the last message of the history, or of ``label.txt`` where there is none; the
    description is the text of the first.

    Args:
        folder: see ``maia_units``.
        method: name of the method; None: ``maia``.

    Raises:
        UsageError: there are no labels, several models, layers or agents, or a file cannot be read.
    """
    remarks = Remarks(folder)
    units = maia_units(folder, remarks)
    if layer:
        units = [unit for unit in units if unit.layer == layer]
    places = sorted({(unit.path.parent.parent.parent.name, unit.model, unit.layer) for unit in units})
    if len(places) > 1:
        listed = ", ".join("/".join(place) for place in places)
        raise UsageError(f"{folder} has results of {listed:.200}", "name the folder of one, or its --layer")
    labels: dict[int, list[Label]] = {}
    for unit in units:
        description, names = _texts_of(unit.path)
        if names:
            labels[unit.unit] = [
                Label(unit.unit, name, facet=facet, text=description if facet == 0 else "")
                for facet, name in enumerate(names)
            ]
        else:
            remarks.add(f"unit {unit.unit}", "without a label")
    if not labels:
        where = f" of layer {layer!r:.60}" if layer else ""
        raise UsageError(
            f"{folder} has no labels of MAIA{where}", "name a folder with MODEL/LAYER/UNIT/history.json in it"
        )
    (_, model, path), *_ = places
    place = clean_text(model, 200), clean_text(path, 200)
    return labels_of_folder(folder, method or "maia", labels, remarks.lines(), *place)


def _texts_of(folder: Path) -> tuple[str, list[str]]:
    """Return the description and the labels of a unit."""
    last = _last_message(folder / HISTORY) if (folder / HISTORY).is_file() else ""
    described, names = _DESCRIPTION.search(last), _LABELS.findall(last)
    description = described[1] if described else _small_text(folder / DESCRIPTION)
    if not names and (name := _small_text(folder / LABEL)):
        names = [name.partition("\n")[0]]
    cleaned = [clean_text(name, MAX_CONCEPT).strip().strip('"') for name in names[:_MOST_FACETS]]
    return clean_text(description, MAX_DESCRIPTION).strip(), list(dict.fromkeys(filter(None, cleaned)))


def _last_message(path: Path) -> str:
    """Return the text of the last message of a history."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UsageError(f"{path} has more than {_MAX_BYTES >> 20} MB", "leave the unit out")
        with path.open("rb") as file:
            text = _without_images(file, path)
        content = loads(text.decode("utf-8-sig"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", "leave the unit out") from None
    except ValueError as error:
        raise UsageError(f"{path} is no JSON of a dialogue: {error}", "leave the unit out") from None
    message: Any = content[-1] if isinstance(content, list) and content else None
    said = message.get("content") if isinstance(message, dict) else None
    if isinstance(said, str):
        return said
    parts = [part.get("text") for part in said if isinstance(part, dict)] if isinstance(said, list) else None
    if parts is None:
        raise UsageError(f"{path} is no list of messages with a content", "leave the unit out")
    return "\n".join(part for part in parts if isinstance(part, str))


def _without_images(file: BinaryIO, path: Path) -> bytes:
    """Return JSON with empty strings in place of long ones."""
    kept, size = [], 0
    for part in _parts(file):
        kept.append(part)
        size += len(part)
        if size > _MAX_TEXT:
            raise UsageError(f"{path} has more than {_MAX_TEXT >> 20} MB without its images", "leave the unit out")
    return b"".join(kept)


def _parts(file: BinaryIO) -> Iterator[bytes]:
    text, inside, slashes = bytearray(), False, 0
    while chunk := file.read(_CHUNK):
        at = 0
        while at < len(chunk):
            quote = chunk.find(b'"', at)
            part = chunk[at:] if quote < 0 else chunk[at:quote]
            at = len(chunk) if quote < 0 else quote + 1
            if not inside:
                yield part
                inside, slashes = quote >= 0, 0
                continue
            rest = part.rstrip(b"\\")
            slashes = len(part) - len(rest) + (0 if rest else slashes)
            if len(text) <= _LONG:
                text += part
            if quote < 0:
                continue
            if slashes % 2:
                text += b'"'
                slashes = 0
                continue
            yield b'"' + (bytes(text) if len(text) <= _LONG else b"") + b'"'
            text.clear()
            inside = False
    if inside:
        # Cut off: no JSON, as it should be.
        yield b'"'


def _small_text(path: Path) -> str:
    return read_text(path, _LONG, "leave the unit out").strip() if path.is_file() else ""
