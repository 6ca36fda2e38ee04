"""A registry on disk: tiny wheels, Debian packages and Qt resource files, and packs made from them."""

from __future__ import annotations

import hashlib
import io
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from line_neurons.tools.assets import manifest
from line_neurons.tools.assets.packs import Artifact, FileRule, Pack, Source


def ar(members: Mapping[str, bytes]) -> bytes:
    out = b"!<arch>\n"
    for name, data in members.items():
        header = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}"
        out += header.encode() + b"`\n" + data + b"\n" * (len(data) % 2)
    return out


def tar(files: Mapping[str, bytes], links: Mapping[str, str], mode: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for name, target in links.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return stream.getvalue()


def rcc(files: Mapping[str, bytes], version: int = 3, compress: frozenset[str] = frozenset()) -> bytes:
    """A Qt resource file; nodes are laid out breadth first, as Qt's own tool does."""
    import zlib

    root: dict[str, object] = {}
    for path, data in files.items():
        folder = root
        *parents, leaf = path.split("/")
        for parent in parents:
            folder = folder.setdefault(parent, {})  # type: ignore[assignment]
        folder[leaf] = (path, data)
    names, blobs, nodes = b"", b"", [("", root)]
    rows: list[bytes] = []
    index = 0
    while index < len(nodes):
        name, node = nodes[index]
        name_at = len(names)
        names += struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
        if isinstance(node, dict):
            row = struct.pack(">IHII", name_at, 2, len(node), len(nodes))
            nodes += list(node.items())
        else:
            path, data = node
            flags = 1 if path in compress else 0
            stored = struct.pack(">I", len(data)) + zlib.compress(data) if flags else data
            row = struct.pack(">IHII", name_at, flags, 0, len(blobs))
            blobs += struct.pack(">I", len(stored)) + stored
        rows.append(row + (b"\0" * 8 if version > 1 else b""))
        index += 1
    header_size = 24 if version >= 3 else 20
    tree_at, data_at = header_size, header_size + sum(map(len, rows))
    header = struct.pack(">4s4I", b"qres", version, tree_at, data_at, data_at + len(blobs))
    return header.ljust(header_size, b"\0") + b"".join(rows) + blobs + names


class Registry:
    """A folder of archives, standing in for the registries."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def wheel(self, name: str, files: Mapping[str, bytes]) -> Artifact:
        path = self.folder / f"{name}-1.0-py3-none-any.whl"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
            for member, data in files.items():
                bundle.writestr(member, data)
        return self.artifact("pypi", name, path)

    def deb(
        self,
        name: str,
        files: Mapping[str, bytes],
        *,
        links: Mapping[str, str] | None = None,
        compression: str = "xz",
    ) -> Artifact:
        path = self.folder / f"{name}_1.0_all.deb"
        data = tar({f"./{key}": value for key, value in files.items()}, links or {}, f"w:{compression}")
        members = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", f"data.tar.{compression}": data}
        path.write_bytes(ar(members))
        return self.artifact("debian", name, path)

    @staticmethod
    def artifact(source: Source, package: str, path: Path) -> Artifact:
        data = path.read_bytes()
        return Artifact(source, package, "1.0", path.name, hashlib.sha256(data).hexdigest(), len(data))


def pack_of(name: str, artifacts: list[Artifact], rules: list[FileRule], expected: Mapping[str, bytes]) -> Pack:
    files = [
        manifest.FileEntry(path, len(data), hashlib.sha256(data).hexdigest()) for path, data in expected.items()
    ]
    return Pack(
        name=name,
        title="a pack for a test",
        licence="none",
        artifacts=tuple(artifacts),
        rules=tuple(rules),
        installed_bytes=sum(file.size for file in files),
        tree_sha256=manifest.tree_digest(files),
    )


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "assets"


@pytest.fixture
def make_pack() -> Callable[..., Pack]:
    return pack_of


@pytest.fixture
def make_rcc() -> Callable[..., bytes]:
    return rcc


@pytest.fixture
def make_tar() -> Callable[..., bytes]:
    return tar


@pytest.fixture
def make_ar() -> Callable[..., bytes]:
    return ar
