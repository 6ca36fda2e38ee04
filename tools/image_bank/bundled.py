"""The bundled bank: photographic stamps, photographs and backgrounds that the demo's assets hold."""

from __future__ import annotations

import csv
import hashlib
from importlib.resources import files
from pathlib import Path

from line_neurons.agent.errors import MissingPartError
from line_neurons.tools.image_bank.bank import KINDS, SPLITS, Bank, Entry

PACKS = ("stamps", "photos", "backgrounds")
_MANIFEST = "bundled.csv"
_REMEDY = "run: line assets install demo"


def bundled_bank(assets: Path) -> Bank:
    """Open the bundled bank.

    Which files belong to it, their captions and their split are fixed in ``bundled.csv`` beside this module.

    Args:
        assets: folder that holds the packs ``stamps``, ``photos`` and ``backgrounds``.

    Raises:
        MissingPartError: a pack, or a file of one, is not installed.
    """
    for pack in PACKS:
        if not (assets / pack).is_dir():
            raise MissingPartError(f"the bundled image bank's pack {pack!r} is not in {assets}", _REMEDY)
    manifest = files("line_neurons.tools.image_bank").joinpath(_MANIFEST).read_text("utf-8")
    return Bank("bundled", (_entry(assets, row) for row in csv.DictReader(manifest.splitlines())))


def _entry(assets: Path, row: dict[str, str]) -> Entry:
    path = assets / row["pack"] / row["file"]
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MissingPartError(f"{path} of the bundled image bank cannot be read", _REMEDY) from error
    return Entry(
        id=f"{row['pack']}/{row['file']}",
        path=path,
        caption=row["caption"],
        also=_several(row["also"]),
        broader=_several(row["broader"]),
        kind=next(kind for kind in KINDS if kind == row["kind"]),
        scenes=_several(row["scene"]),
        split=next(split for split in SPLITS if split == row["split"]),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def _several(cell: str) -> tuple[str, ...]:
    return tuple(part for part in cell.split(";") if part)
