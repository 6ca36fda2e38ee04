"""A bank of captioned images: entries, fingerprint and vocabulary."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.resources import files
from typing import TYPE_CHECKING, Literal, get_args

from line_neurons.agent.errors import MissingPartError
from line_neurons.agent.presets import SEARCH_SHARE
from line_neurons.tools.image_bank.cutouts import CUTOUTS, cutout_name
from line_neurons.tools.images.reader import PLAIN, Range, Traits
from line_neurons.tools.images.reading import TraitSummary
from line_neurons.tools.rendering.catalogue import ModelRecord, read_library

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

Kind = Literal["cutout", "photo", "background", "model"]
Split = Literal["search", "heldout", "shared"]
Selection = Literal["search", "heldout", "all"]

KINDS: tuple[Kind, ...] = ("cutout", "photo", "background")
"""Those that files of a folder can have."""
SPLITS: tuple[Split, ...] = get_args(Split)

_FORMAT = 1
PACKS = ("stamps", "photos", "backgrounds")
RENDER = "render"
BUNDLED: Mapping[str, tuple[str, ...]] = {
    "bank": PACKS,
    "bank+icons": (*PACKS, "icons"),
    "bank+cutouts": (*PACKS, CUTOUTS),
    "bank+icons+cutouts": (*PACKS, CUTOUTS, "icons"),
    RENDER: (RENDER,),
    "bank+icons+render": (*PACKS, "icons", RENDER),
    "bank+icons+cutouts+render": (*PACKS, CUTOUTS, "icons", RENDER),
}
"""The packs of each bundled bank, by its name as a generator. A bank keeps its images: recorded runs name it."""

_TABLES = ("bundled.csv", "icons.csv")
_REMEDIES = {
    **{pack: f"run: line assets install {pack}" for pack in ("icons", RENDER)},
    CUTOUTS: "run: line assets cutouts",
}
_REMEDY = "run: line assets install demo"
_SOURCES = {
    "stamps": "stamp of Tux Paint",
    "photos": "photograph of GCompris",
    CUTOUTS: "cut-out of a photograph of GCompris",
    "backgrounds": "",
}


@dataclass(frozen=True)
class Entry:
    """One image of a bank.

    Args:
        id: path relative to the bank, with forward slashes; unique in the bank.
        caption: what is in the image, a short noun phrase in lower case.
        also: synonyms of the caption.
        broader: names of wider groups the subject belongs to ("bird" for a crow).
        kind: a cut-out with transparency, a whole photograph, a background without a subject, or a 3D model, of
            which images are rendered.
        scenes: the places and conditions a background shows; for a cut-out, places where it usually is.
        split: ``search`` and ``heldout`` images are never used together; ``shared`` ones serve both.
        sha256: hash of the file, in hex.
        traits: how the file differs from an ordinary image.
        source: what the image is and who made it, where a bank has images of several sources.
        model: the 3D model, of the kind ``model``.
    """

    id: str
    path: Path
    caption: str
    also: tuple[str, ...]
    broader: tuple[str, ...]
    kind: Kind
    scenes: tuple[str, ...]
    split: Split
    sha256: str
    traits: Traits = PLAIN
    source: str = ""
    model: ModelRecord | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Every phrase that the image may stand for: caption, synonyms, broader names."""
        return (self.caption, *self.also, *self.broader)

    @property
    def is_subject(self) -> bool:
        """Whether the image shows a subject rather than a background."""
        return self.kind != "background"


class Bank:
    """The readable images of one source, in the order of their ids.

    Args:
        name: the bank in messages and provenance.
        skipped: images that could not be read, as ``name: reason``.
        remarks: what else was skipped or read in a special way, a line for each reason.
        value_range: see ``read_image``.

    Raises:
        UsageError: the range of the values of its images is not known.
    """

    def __init__(
        self,
        name: str,
        entries: Iterable[Entry],
        skipped: Sequence[str] = (),
        remarks: Sequence[str] = (),
        value_range: Range | None = None,
    ) -> None:
        self.name = name
        self.value_range = value_range
        self.entries: tuple[Entry, ...] = tuple(sorted(entries, key=lambda entry: entry.id))
        self.skipped: tuple[str, ...] = tuple(skipped)
        self.remarks: tuple[str, ...] = tuple(remarks)
        self.trait_summary.check(f"the image bank {name}", value_range)

    @cached_property
    def trait_summary(self) -> TraitSummary:
        """How its images differ from ordinary ones, apart from the transparency of cut-outs."""
        shown = (
            (entry.id, replace(entry.traits, transparent=entry.traits.transparent and entry.kind != "cutout"))
            for entry in self.entries
        )
        return TraitSummary(len(self.entries), tuple(entry for entry in shown if entry[1] != PLAIN))

    @property
    def image_notes(self) -> tuple[str, ...]:
        """How unusual images are read, with their number."""
        return self.trait_summary.notes(self.value_range)

    @cached_property
    def fingerprint(self) -> str:
        """Hash over every image's content and description, not over dates and places of files.

        How they are read is included where some have more than 8 bits; a bank has always turned the others and put
        them on white.
        """
        described = [
            [e.id, e.sha256, e.caption, e.also, e.broader, e.kind, e.scenes, e.split, *filter(None, [e.source])]
            for e in self.entries
        ]
        deep = TraitSummary(len(self.entries), self.trait_summary.deep).identity(self.value_range)
        identity = [_FORMAT, described, *([deep] if deep else [])]
        text = json.dumps(identity, ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def has_models(self) -> bool:
        """Whether images of some subjects are rendered."""
        return any(entry.model is not None for entry in self.entries)

    def select(self, selection: Selection) -> tuple[Entry, ...]:
        """Return the entries that a generator of one split may use."""
        if selection == "all":
            return self.entries
        return tuple(entry for entry in self.entries if entry.split in (selection, "shared"))

    def captions(self, selection: Selection = "search") -> tuple[str, ...]:
        """Return the distinct captions of subjects, sorted."""
        return tuple(sorted({entry.caption for entry in self.select(selection) if entry.is_subject}))

    def vocabulary(self, seed: int, share: float | None = None) -> tuple[str, ...]:
        """Return a seeded share in (0, 1] of the search captions, sorted.

        The same seed and captions give the same names; at least one caption is returned. Without a share all are,
        but a third where images are rendered, as each takes seconds.
        """
        if share is None:
            share = SEARCH_SHARE if self.has_models else 1.0
        if not 0 < share <= 1:
            raise ValueError(f"share must be in (0, 1], not {share}")
        captions = self.captions("search")
        count = min(len(captions), max(1, math.ceil(share * len(captions))))
        # The digest, not the order in the list, decides, so that one added image moves one name.
        ranked = sorted(captions, key=lambda name: shuffle_key(str(seed), name))
        return tuple(sorted(ranked[:count]))


def hold_out(groups: Sequence[tuple[str, str]], share: float = 1 / 3) -> list[Split]:
    """Assign images, each (caption, sha256), to splits by their content.

    Of every caption with two or more different images about ``share``, and at least one, is held out; captions
    with a single image stay in the search.
    """
    hashes: dict[str, set[str]] = defaultdict(set)
    for caption, sha256 in groups:
        hashes[caption].add(sha256)
    held: set[str] = set()
    for caption in sorted(hashes):
        ordered = sorted(hashes[caption], key=lambda sha256: shuffle_key(caption, sha256))
        if len(ordered) > 1:
            count = min(len(ordered) - 1, max(1, round(share * len(ordered))))
            held.update(ordered[:count])
    return ["heldout" if sha256 in held else "search" for _, sha256 in groups]


def bundled_bank(assets: Path, name: str = "bank") -> Bank:
    """Open a bundled bank, a key of ``BUNDLED``, from its packs in ``assets``.

    Its files, their captions and their split are fixed in the tables beside this module.

    Raises:
        MissingPartError: a pack, or a file of one, is not installed.
    """
    packs = BUNDLED[name]
    for pack in packs:
        if not (assets / pack).is_dir():
            remedy = _REMEDIES.get(pack, _REMEDY)
            raise MissingPartError(f"the bundled image bank's pack {pack!r} is not in {assets}", remedy)
    tables = [files("line_neurons.tools.image_bank").joinpath(table).read_text("utf-8") for table in _TABLES]
    rows = [row for table in tables for row in csv.DictReader(table.splitlines())]
    rows += _cutouts(assets / CUTOUTS, rows) if CUTOUTS in packs else []
    entries = [_bundled_entry(assets, row, several=packs != PACKS) for row in rows if row["pack"] in packs]
    if RENDER in packs:
        entries += _models(assets / RENDER, [row for row in rows if row["pack"] == "icons"])
    return Bank(name.replace("bank", "bundled"), entries)


def _cutouts(folder: Path, rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Return the rows of the photographs that have a cut-out; it is of the photograph's split."""
    return [
        {**row, "pack": CUTOUTS, "file": name, "kind": "cutout"}
        for row in rows
        if row["pack"] == "photos" and (folder / (name := cutout_name(row["file"]))).is_file()
    ]


def _models(pack: Path, rows: Sequence[dict[str, str]]) -> list[Entry]:
    """Return the 3D models of the reviewed icons."""
    records: dict[str, ModelRecord] = {}
    digests: dict[Path, str] = {}
    try:
        for library in sorted((pack / "libraries").glob("*.sh3f")):
            records.update(read_library(library))
            with library.open("rb") as file:
                digests[library] = hashlib.file_digest(file, "sha256").hexdigest()
        shown = [(row, records[row["file"]]) for row in rows]
    except (OSError, ValueError, KeyError) as error:
        raise MissingPartError(f"the 3D models in {pack} cannot be read: {error}", _REMEDIES[RENDER]) from error
    return [
        Entry(
            id=f"{RENDER}/{record.member}",
            path=record.library,
            caption=row["caption"],
            also=_several(row["also"]),
            broader=_several(row["broader"]),
            kind="model",
            scenes=_several(row["scene"]),
            split=next(split for split in SPLITS if split == row["split"]),
            sha256=hashlib.sha256(f"{digests[record.library]}\0{record.member}".encode()).hexdigest(),
            source=_model_account(row, "render"),
            model=record,
        )
        for row, record in shown
    ]


def _bundled_entry(assets: Path, row: dict[str, str], *, several: bool) -> Entry:
    pack = row["pack"]
    path = assets / pack / row["file"]
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MissingPartError(
            f"{path} of the bundled image bank cannot be read", _REMEDIES.get(pack, _REMEDY)
        ) from error
    source = _SOURCES[pack] if pack in _SOURCES else _model_account(row, "icon")
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
        source=source if several else "",
    )


def _model_account(row: dict[str, str], kind: str) -> str:
    return f'{kind} of the 3D model "{row["model"]}" by {row["author"]}, {row["licence"]}'


def _several(cell: str) -> tuple[str, ...]:
    return tuple(part for part in cell.split(";") if part)


def shuffle_key(*parts: str) -> bytes:
    """Return a key that sorts texts in an arbitrary order, the same everywhere."""
    return hashlib.sha256("\0".join(parts).encode()).digest()
