"""Read the catalogues of 3D models: libraries of Sweet Home 3D, which are zip files."""

from __future__ import annotations

import re
import zipfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CATALOGUE = "PluginFurnitureCatalog.properties"

_HUNG = 40.0
"""Things with their lowest point this far above the floor, in cm, hang."""

_LINE = re.compile(r"^(\w+)#(\d+)=(.*?)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class ModelRecord:
    """A model of a library.

    Args:
        library: the zip file.
        member: path of the OBJ file in it.
        size: width, height and depth in cm; the front is towards positive depth.
        rotation: 3 x 3 matrix, row by row, that turns the file's axes upright; empty for none.
        hung: it hangs above the floor, at a wall or from a ceiling.
        walled: it belongs in front of a wall, as things that hang and doors do.
    """

    library: Path
    member: str
    size: tuple[float, float, float]
    rotation: tuple[float, ...] = ()
    hung: bool = False
    walled: bool = False


def read_library(library: Path) -> dict[str, ModelRecord]:
    """Read the records of a library, by the path of the model's icon.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no library, or a record has no model or no size.
    """
    try:
        with zipfile.ZipFile(library) as bundle:
            text = bundle.read(CATALOGUE).decode("latin-1")
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f"{library.name} is no library of models: {error}") from error
    rows: dict[str, dict[str, str]] = defaultdict(dict)
    for key, number, value in _LINE.findall(text):
        rows[number][key] = value
    try:
        return {row["icon"].lstrip("/"): _record(library, row) for row in rows.values()}
    except KeyError as error:
        raise ValueError(f"{library.name} has a model without {error}") from error


def _record(library: Path, row: Mapping[str, str]) -> ModelRecord:
    width, height, depth = (float(row[name]) for name in ("width", "height", "depth"))
    hung = float(row.get("elevation", 0)) > _HUNG
    return ModelRecord(
        library,
        row["model"].lstrip("/"),
        (width, height, depth),
        tuple(float(value) for value in row.get("modelRotation", "").split()),
        hung,
        hung or row.get("doorOrWindow") == "true",
    )
