"""Read the members of package archives: wheels, source and npm tarballs, Debian packages.

Nothing is unpacked to disk here and no package's code runs. A ``.deb`` is an ``ar`` archive with a ``data.tar``
inside, read in Python so that it also works without dpkg.
"""

from __future__ import annotations

import lzma
import shutil
import stat
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, cast

from line_neurons.agent.errors import LineError, MissingPartError

_AR_MAGIC = b"!<arch>\n"
_AR_HEADER = 60


@dataclass(frozen=True)
class Member:
    """A member of an archive.

    Args:
        path: its path as the archive names it, without a leading ``./``.
        kind: links and devices are ``other``.
        open: opens the contents; only while the iteration is at this member.
    """

    path: str
    kind: Literal["file", "folder", "other"]
    open: Callable[[], BinaryIO]


def members(archive: Path) -> Iterator[Member]:
    """Yield the members of an archive, in its order.

    Raises:
        LineError: the archive is broken or of an unknown kind.
        MissingPartError: reading it needs a program that is not installed.
    """
    with readable(archive):
        if archive.suffix in (".whl", ".zip"):
            yield from zip_members(archive)
        elif archive.suffix == ".deb":
            yield from _deb_members(archive)
        elif archive.name.endswith((".tar.gz", ".tgz")):
            with tarfile.open(archive, "r|gz") as tar:
                yield from _tar_members(tar)
        else:
            raise LineError(f"{archive.name} is no kind of archive that is known")


@contextmanager
def readable(archive: Path) -> Iterator[None]:
    """Turn any error of reading a broken archive into a LineError."""
    try:
        yield
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, ValueError) as error:
        raise LineError(f"{archive.name} cannot be read: {error}", "download it again") from error


def zip_members(archive: Path | BinaryIO) -> Iterator[Member]:
    """Yield the members of a zip file, in its order."""
    with zipfile.ZipFile(archive) as bundle:
        for info in bundle.infolist():
            kind: Literal["file", "folder", "other"] = "folder" if info.is_dir() else "file"
            if stat.S_ISLNK(info.external_attr >> 16):
                kind = "other"

            def open_member(info: zipfile.ZipInfo = info) -> BinaryIO:
                return cast(BinaryIO, bundle.open(info))

            yield Member(info.filename, kind, open_member)


def _tar_members(tar: tarfile.TarFile) -> Iterator[Member]:
    for info in tar:

        def open_member(info: tarfile.TarInfo = info) -> BinaryIO:
            stream = tar.extractfile(info)
            if stream is None:
                raise ValueError(f"{info.name} has no contents")
            return cast(BinaryIO, stream)

        yield Member(
            info.name.removeprefix("./"),
            "file" if info.isreg() else "folder" if info.isdir() else "other",
            open_member,
        )


def _deb_members(archive: Path) -> Iterator[Member]:
    with archive.open("rb") as stream:
        compression, size = _find_data(stream)
        if compression == "zst" and sys.version_info < (3, 14):
            with _dpkg_tar(archive) as tar:
                yield from _tar_members(tar)
            return
        bounded = cast(BinaryIO, _Bounded(stream, size))
        # The mode is built from the member's name, which typeshed's overloads cannot follow.
        with tarfile.open(fileobj=bounded, mode=f"r|{compression}") as tar:  # type: ignore[call-overload]
            yield from _tar_members(tar)


def _find_data(stream: BinaryIO) -> tuple[str, int]:
    """Seek the start of ``data.tar.*``; return its compression and size."""
    if stream.read(len(_AR_MAGIC)) != _AR_MAGIC:
        raise ValueError("it is no ar archive")
    while header := stream.read(_AR_HEADER):
        if len(header) != _AR_HEADER or header[58:] != b"`\n":
            raise ValueError("an ar header is broken")
        name = header[:16].decode("ascii", "replace").rstrip().rstrip("/")
        size = int(header[48:58])
        if name.startswith("data.tar"):
            compression = name.removeprefix("data.tar").removeprefix(".")
            if compression not in ("", "gz", "bz2", "xz", "zst"):
                raise ValueError(f"{name} has an unknown compression")
            return compression, size
        stream.seek(size + size % 2, 1)
    raise ValueError("it has no data.tar")


class _Bounded:
    """The next ``size`` bytes of a stream, for tarfile's stream modes."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        self._left = size

    def read(self, size: int) -> bytes:
        """Read up to ``size`` bytes; empty at the end."""
        chunk = self._stream.read(min(size, self._left))
        self._left -= len(chunk)
        return chunk


@contextmanager
def _dpkg_tar(archive: Path) -> Iterator[tarfile.TarFile]:
    """Read a zstd-compressed package through dpkg-deb; older Pythons cannot read zstd."""
    program = shutil.which("dpkg-deb")
    if program is None:
        raise MissingPartError(
            f"{archive.name} is compressed with zstd, which needs dpkg-deb or Python 3.14",
            "install dpkg, or use a newer Python",
        )
    command = [program, "--fsys-tarfile", str(archive)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:  # noqa: S603
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as tar:
                yield tar
        finally:
            process.kill()
