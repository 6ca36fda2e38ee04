"""Read a bundle from an untrusted source; everything is checked before use."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from line_neurons.agent.errors import StoreError, UsageError
from line_neurons.agent.text import clean_text
from line_neurons.eval.exchange import bundle_format as form
from line_neurons.eval.exchange.bundle_format import Manifest, Vector
from line_neurons.tools.json_text import invalid_field

Row = TypeVar("Row")

_MAX_FILES = 5_000_000
_MAX_MANIFEST = 1 << 30
_MAX_LINE = 1 << 26
_MAX_UNITS = 10_000_000
_MAX_IMAGE = 1 << 28
_MOST_PACKED, _ALWAYS = 100, 64 << 20
"""Largest ratio of a bundle's unpacked size to its size, and the size that is always allowed."""
_BLOCK = 1 << 20
_LARGEST = 2**63
_LONE_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
"""Finds pairs too."""
_UNREADABLE = (zipfile.BadZipFile, zlib.error, OSError, EOFError, KeyError, NotImplementedError, RuntimeError)
"""What reading a zip file may raise."""


def refusal(path: Path, why: str) -> UsageError:
    """Return the error for a bundle that is not imported."""
    return UsageError(
        f"{str(path)!r:.200} cannot be imported: {clean_text(why, 200)}",
        "nothing was changed; ask for a new export",
    )


class Archive:
    """An opened bundle; its files are those of the manifest, with the same hashes."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self._archive = archive

    def read(self, name: str) -> bytes:
        """Read a small file or an image.

        Raises:
            UsageError: it is larger than any image, or cannot be read.
        """
        if self.manifest.files[name].bytes > _MAX_IMAGE:
            raise refusal(self.path, f"{name} is larger than {_MAX_IMAGE >> 20} MiB")
        with self._reading(name):
            return self._archive.read(name)

    def blocks(self, name: str, size: int = _BLOCK) -> Iterator[bytes]:
        """Yield a file in blocks of ``size`` bytes, the last of which may be shorter."""
        with self._reading(name), self._archive.open(name) as stream:
            while block := stream.read(size):
                yield block

    def vectors(self) -> Iterator[tuple[Vector, bytes]]:
        """Yield the vectors with their numbers, little-endian float32.

        Raises:
            UsageError: there are fewer or more numbers than the vectors have.
        """
        with self._reading(form.NUMBERS), self._archive.open(form.NUMBERS) as stream:
            for vector in self.rows(form.VECTORS, Vector):
                numbers = stream.read(4 * vector.units) if 0 < vector.units <= _MAX_UNITS else b""
                if not numbers or len(numbers) != 4 * vector.units:
                    raise refusal(self.path, f"{form.NUMBERS} has fewer numbers than {form.VECTORS} says")
                yield vector, numbers
            if stream.read(1):
                raise refusal(self.path, f"{form.NUMBERS} has more numbers than {form.VECTORS} says")

    def rows(self, name: str, kind: type[Row]) -> Iterator[Row]:
        """Yield the rows of a table.

        Raises:
            UsageError: a line is not a valid row.
        """
        with self._reading(name), self._archive.open(name) as stream:
            number = 0
            while line := stream.readline(_MAX_LINE):
                number += 1
                if not line.endswith(b"\n"):
                    raise refusal(self.path, f"line {number} of {name} is truncated or too long")
                yield self._row(line, kind, f"line {number} of {name}")

    def one(self, name: str, kind: type[Row]) -> Row:
        """Return the row of a file that has exactly one.

        Raises:
            UsageError: it has none, several, or an invalid one.
        """
        found = list(self.rows(name, kind)) if self.manifest.files[name].bytes <= _MAX_LINE else []
        if len(found) != 1:
            raise refusal(self.path, f"{name} has {len(found)} rows instead of one")
        return found[0]

    def _row(self, line: bytes, kind: type[Row], place: str) -> Row:
        try:
            return row_of(line, kind)
        except StoreError:
            raise refusal(self.path, "its run has an invalid name") from None
        except (ValueError, TypeError, RecursionError) as error:
            raise refusal(self.path, f"{place} does not fit: {_reason(error)}") from None

    @contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        try:
            yield
        except _UNREADABLE as error:
            raise refusal(self.path, f"{name} cannot be read: {_reason(error)}") from None


@contextmanager
def open_bundle(path: Path) -> Iterator[Archive]:
    """Open a bundle for the body, after its files are hashed.

    Raises:
        UsageError: it cannot be read, is truncated, has another schema, has unknown files or others than its
            manifest says, or would unpack to an implausible size.
    """
    with ExitStack() as stack:
        try:
            archive = stack.enter_context(zipfile.ZipFile(path))
            infos = archive.infolist()
            _look_at_names(path, infos)
            whole = Archive(path, archive, _manifest(path, archive))
            _look_at_files(whole, {info.filename for info in infos})
        except _UNREADABLE as error:
            raise refusal(path, f"it is truncated or no zip file: {_reason(error)}") from None
        yield whole


def row_of(line: bytes, kind: type[Row]) -> Row:
    """Parse a row from its JSON: exactly the fields, of the right types, all numbers finite.

    Raises:
        ValueError: it is not valid.
    """
    plain = json.loads(line, parse_constant=_no_number)
    _look_at(plain)
    if isinstance(plain, dict) and (other := plain.keys() ^ {field.name for field in fields(kind)}):  # type: ignore[arg-type]
        raise ValueError(f"{sorted(other)[0]!r} is missing or unexpected")
    odd = _odd_tables(plain, kind) if _LONE_SURROGATE.search(line) else {}
    if odd:
        line = json.dumps({**plain, **{name: {} for name in odd}}).encode()
    row: Row = _shape(kind).validate_json(line, strict=True)  # type: ignore[arg-type]
    return replace(row, **odd) if odd else row  # type: ignore[type-var]


def _odd_tables(plain: dict[str, Any], kind: type[Row]) -> dict[str, Any]:
    """Return free-form tables with lone surrogates, which pydantic refuses: paths need not be UTF-8."""
    free = [field.name for field in fields(kind) if str(field.type).startswith("dict[str, Any]")]  # type: ignore[arg-type]
    return {name: plain[name] for name in free if isinstance(plain[name], dict)}


@cache
def _shape(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number")


def _look_at(value: Any) -> None:
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        for item in value:
            _look_at(item)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number is not finite")
    elif isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
        raise ValueError("a number is too large")


def _look_at_names(path: Path, infos: list[zipfile.ZipInfo]) -> None:
    known = {form.MANIFEST, form.PROVENANCE, form.RUN, form.NUMBERS, *form.TABLES}
    names = [info.filename for info in infos]
    # Of one that was cut zipfile finds the last whole zip file in it: the control activations are one.
    if min((info.header_offset for info in infos), default=-1) != 0:
        raise refusal(path, "it is truncated or no zip file: it does not begin with its first file")
    if len(infos) > _MAX_FILES or len(set(names)) < len(names):
        raise refusal(path, "a file is in it twice, or there are too many")
    for info in infos:
        if info.filename not in known and not form.NAMED.fullmatch(info.filename):
            raise refusal(path, f"it has a file {info.filename!r:.80}, which no bundle has")
        if stat.S_IFMT(info.external_attr >> 16) not in {0, stat.S_IFREG}:
            raise refusal(path, f"{info.filename} is a link or no plain file")
        if info.flag_bits & 1 or info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise refusal(path, f"{info.filename} is packed in a way that no bundle is")
    size, unpacked = path.stat().st_size, sum(info.file_size for info in infos)
    if unpacked > _ALWAYS + _MOST_PACKED * size:
        raise refusal(path, f"its {size} bytes would unpack to {unpacked}")


def _manifest(path: Path, archive: zipfile.ZipFile) -> Manifest:
    try:
        if archive.getinfo(form.MANIFEST).file_size > _MAX_MANIFEST:
            raise ValueError("it is too large")
        content = archive.read(form.MANIFEST)
        schema = json.loads(content).get("schema")
    except (*_UNREADABLE, ValueError, AttributeError, RecursionError) as error:
        raise refusal(path, f"{form.MANIFEST} is missing or damaged: {_reason(error)}") from None
    if schema != form.SCHEMA:
        raise refusal(path, f"its schema is {schema!r:.60}, and this version reads {form.SCHEMA!r}")
    try:
        return row_of(content, Manifest)
    except (ValueError, RecursionError) as error:
        raise refusal(path, f"{form.MANIFEST} does not fit: {_reason(error)}") from None


def _look_at_files(bundle: Archive, names: set[str]) -> None:
    named = bundle.manifest.files
    needed = {form.PROVENANCE, form.RUN, form.NUMBERS, *form.TABLES}
    if other := sorted((names - {form.MANIFEST}) ^ named.keys() | (needed - named.keys())):
        raise refusal(bundle.path, f"{other[0]!r:.80} is missing, or the manifest does not name it")
    for name, expected in named.items():
        digest, size = hashlib.sha256(), 0
        for block in bundle.blocks(name):
            digest.update(block)
            size += len(block)
        if (digest.hexdigest(), size) != (expected.sha256, expected.bytes):
            raise refusal(bundle.path, f"the content of {name} is not what the manifest says")


def check_disk_space(bundle: Archive, store: Path) -> None:
    """Check that the disk has room for the files of a bundle.

    Raises:
        UsageError: it has not.
    """
    needed = sum(file.bytes for file in bundle.manifest.files.values())
    place = next(folder for folder in (store, *store.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise UsageError(
            f"the bundle needs {needed >> 20} MiB, and the disk of {str(store)!r:.120} has {free >> 20} MiB free",
            "make space, or name another with --store",
        )


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return invalid_field(error)
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return str(error)
