"""Read an image bank from a user's folder, or from the folder of an installed package."""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from line_neurons.agent.errors import UsageError
from line_neurons.agent.text import clean_text, storable_text
from line_neurons.tools.control_sets.class_folders import PLAIN
from line_neurons.tools.image_bank.bank import KINDS, SPLITS, Bank, Entry, Kind, hold_out
from line_neurons.tools.images.folders import images_below
from line_neurons.tools.images.reader import Range, Traits, read_cutout, read_image, traits_of
from line_neurons.tools.images.reading import range_errors
from line_neurons.tools.images.skipped import Remarks

CAPTIONS_FILE = "captions.csv"
BACKGROUNDS_FOLDER = "backgrounds"

_FORMAT_REMEDY = "docs/image-bank.md describes the format"
_TRANSPARENT_SHARE = 0.03
_LONGEST_CAPTION = 200


@dataclass(frozen=True)
class _Listed:
    """An image as a folder describes it, before it is read."""

    file: str
    caption: str
    also: tuple[str, ...] = ()
    broader: tuple[str, ...] = ()
    kind: str = ""
    scenes: tuple[str, ...] = ()
    split: str = ""


def open_bank(source: str, value_range: Range | None = None) -> Bank:
    """Open a bank by a folder's path or an installed package's name.

    Raises:
        UsageError: there is no such folder or package, it holds no readable image, or the range of the values of
            its images is not known.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder_bank(folder, value_range)
    if folder.exists():
        raise UsageError(f"image bank {source!r} is not a folder", _FORMAT_REMEDY)
    if re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", source):
        package = _package_folder(source)
        if package is not None:
            return folder_bank(package, value_range)
    raise UsageError(
        f"there is no image bank {source!r}", "give a folder of captioned images or an installed package"
    )


def folder_bank(folder: Path, value_range: Range | None = None) -> Bank:
    """Read a folder of captioned images; ``value_range``: see ``read_image``.

    The captions come from ``captions.csv`` (columns ``file,caption`` and optionally ``also``, ``broader``,
    ``kind``, ``scene``, ``split``; several values are separated by ``;``), else from a ``.txt`` file beside each
    image, else from the name of its sub-folder or, at the top, from its file name; a name that is no word gives
    none, and its image is skipped. What is skipped is in ``skipped`` and ``remarks``. Images below
    ``backgrounds/<scene>/`` are backgrounds. Where no split is given a third of the images of each caption is held
    out.

    Raises:
        UsageError: the folder cannot be read, the captions file is malformed, no image is readable, or the range
            of the values of images is not known.
    """
    remarks = Remarks(folder)
    try:
        table = folder / CAPTIONS_FILE
        if table.is_file():
            listed = list(_from_table(table))
            files = {item.file for item in listed}
            for image in images_below(folder, Remarks(folder)):
                if image.relative_to(folder).as_posix() not in files:
                    remarks.add(image, f"not in {CAPTIONS_FILE}")
        else:
            images = list(images_below(folder, remarks, beside=frozenset({".txt"})))
            listed = list(_from_names(folder, images, remarks))
    except OSError as error:
        raise UsageError(f"image bank {folder} cannot be read: {error.strerror}", "check the path") from error
    entries: list[Entry] = []
    skipped: list[str] = []
    for item in listed:
        try:
            with range_errors(f"{item.file} of the image bank {folder}"):
                entries.append(_read(folder, item, value_range))
        except (OSError, ValueError) as error:
            skipped.append(f"{item.file}: {str(error) or type(error).__name__}")
    if not any(entry.is_subject for entry in entries):
        found = "; ".join((*([f"{len(skipped)} unreadable"] if skipped else []), *remarks.lines())) or "none"
        raise UsageError(f"image bank {folder} has no readable image of a thing ({found})", _FORMAT_REMEDY)
    return Bank(folder.name, _split(entries, listed), skipped, remarks.lines(), value_range)


def _package_folder(name: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def _from_table(table: Path) -> Iterator[_Listed]:
    try:
        rows = list(csv.DictReader(table.read_text("utf-8-sig").splitlines()))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{table} is not a CSV file in UTF-8: {error}", _FORMAT_REMEDY) from error
    seen: set[str] = set()
    for number, row in enumerate(rows, start=2):
        cells = {key: (value or "").strip() for key, value in row.items() if isinstance(key, str)}
        item = _Listed(
            file=cells.get("file", ""),
            caption=clean(cells.get("caption", "")),
            also=_several(cells, "also"),
            broader=_several(cells, "broader"),
            kind=cells.get("kind", ""),
            scenes=_several(cells, "scene"),
            split=cells.get("split", ""),
        )
        where = f"{table}, line {number}"
        if not item.file or not item.caption:
            raise UsageError(f"{where}: file and caption must both be given", _FORMAT_REMEDY)
        if item.kind not in ("", *KINDS):
            raise UsageError(f"{where}: kind is {item.kind!r}", f"use {', '.join(KINDS)} or leave it empty")
        if item.split not in ("", *SPLITS):
            raise UsageError(f"{where}: split is {item.split!r}", f"use {', '.join(SPLITS)} or leave it empty")
        if item.file in seen:
            raise UsageError(f"{where}: {item.file} is listed twice", "keep one line for each image")
        # No path has a NUL; an image of such a name could not even be looked for.
        if "\0" in item.file or not (table.parent / item.file).resolve().is_relative_to(table.parent.resolve()):
            raise UsageError(f"{where}: {item.file} lies outside the bank", "keep images below the folder")
        seen.add(item.file)
        yield item


def _from_names(folder: Path, images: Sequence[Path], remarks: Remarks) -> Iterator[_Listed]:
    """List images with a caption from their folder, name or text file."""
    parts = [path.relative_to(folder).parts for path in images]
    inner = {names[:-1] for names in parts if len(names) > 1 and names[0] != BACKGROUNDS_FOLDER}
    plain = all(len(names) == 1 and names[0].casefold() in PLAIN for names in inner)
    for names in sorted(inner) if plain else ():
        remarks.add(names[0], "a folder called like a dataset, so the names of its files are the captions")
    for path, names in sorted(zip(images, parts, strict=True)):
        file = "/".join(names)
        sidecar = path.with_suffix(".txt")
        if names[0] == BACKGROUNDS_FOLDER:
            scenes = tuple(clean(part) for part in names[1:-1])
            yield _Listed(file, clean(path.stem), kind="background", scenes=scenes)
        elif sidecar.is_file():
            lines = [clean(line) for line in sidecar.read_text("utf-8", "replace").splitlines()]
            captions = [line for line in lines if line] or [clean(path.stem)]
            yield _Listed(file, captions[0], also=tuple(captions[1:]))
        else:
            name = path.stem if plain or len(names) == 1 else names[-2]
            caption = clean(name)
            if storable_text(name) != name:
                remarks.add(path, f"its name is not UTF-8 and gives no caption; give one in {CAPTIONS_FILE}")
            elif not any(character.isalpha() for character in caption):
                remarks.add(path, f"its name is no word and gives no caption; give one in {CAPTIONS_FILE}")
            else:
                yield _Listed(file, caption)


def clean(text: str) -> str:
    """Normalise a caption: one short line, lower case, no article or full stop."""
    words = re.sub(r"[_\-\s]+", " ", clean_text(text, _LONGEST_CAPTION).lower()).strip(" .,;:!?\"'")
    words = re.sub(r"^(a|an|the) (?=\S)", "", words)
    return re.sub(r" ?\(?\d+\)?$", "", words).strip() or words


def _several(cells: Mapping[str, str], column: str) -> tuple[str, ...]:
    return tuple(name for name in (clean(part) for part in cells.get(column, "").split(";")) if name)


def _read(folder: Path, item: _Listed, value_range: Range | None) -> Entry:
    path = folder / item.file
    content = path.read_bytes()
    traits = traits_of(content)
    kind = _kind(content, traits, value_range)
    return Entry(
        id=item.file,
        path=path,
        caption=item.caption,
        also=item.also,
        broader=item.broader,
        kind=next((known for known in KINDS if known == item.kind), kind),
        scenes=item.scenes,
        split="shared" if item.kind == "background" else "search",
        sha256=hashlib.sha256(content).hexdigest(),
        traits=traits,
    )


def _kind(content: bytes, traits: Traits, value_range: Range | None) -> Kind:
    """Decode the image, to find corrupt ones now, and recognise a cut-out by its alpha."""
    if not traits.transparent:
        read_image(content, value_range=value_range, side=64)
        return "photo"
    alpha = np.asarray(read_cutout(content, value_range=value_range).getchannel("A"))
    transparent = float((alpha < 128).mean())
    if transparent == 1:
        raise ValueError("the image is fully transparent")
    return "cutout" if transparent > _TRANSPARENT_SHARE else "photo"


def _split(entries: list[Entry], listed: list[_Listed]) -> list[Entry]:
    given = {item.file: item.split for item in listed if item.split}
    if given:
        splits = [next((s for s in SPLITS if s == given.get(e.id)), e.split) for e in entries]
    else:
        assigned = hold_out([(e.caption, e.sha256) for e in entries])
        splits = ["shared" if not e.is_subject else s for e, s in zip(entries, assigned, strict=True)]
    return [replace(entry, split=split) for entry, split in zip(entries, splits, strict=True)]
