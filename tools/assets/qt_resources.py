"""Read Qt's binary resource files (``.rcc``), formats 1 to 3.

Layout (qtbase, ``src/tools/rcc/rcc.cpp``), all integers big-endian: ``qres``, version, then the offsets of the
tree, the data and the names. A tree node is 14 bytes (22 from version 2 on, which adds a modification time). Names
are UTF-16 behind a length and a hash; data are bytes behind a length.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from line_neurons.agent.errors import LineError

_HEADER = struct.Struct(">4s4I")
_NODE = struct.Struct(">IHII")
_COMPRESSED_ZLIB, _DIRECTORY, _COMPRESSED_ZSTD = 1, 2, 4


def read(blob: bytes, name: str) -> Iterator[tuple[str, bytes]]:
    """Yield path (without a leading slash) and contents of a resource file's files.

    ``name`` is the file in errors.

    Raises:
        LineError: the file is malformed, has an unsafe name, or uses an unsupported compression.
    """
    try:
        yield from _walk(blob)
    except (ValueError, struct.error, zlib.error, UnicodeDecodeError) as error:
        raise LineError(f"{name} is not a readable Qt resource file: {error}") from error


def _walk(blob: bytes) -> Iterator[tuple[str, bytes]]:
    magic, version, tree, data, names = _HEADER.unpack_from(blob)
    if magic != b"qres":
        raise ValueError("it does not start with 'qres'")
    if version not in (1, 2, 3):
        raise ValueError(f"version {version} is unknown")
    node_size = 14 if version == 1 else 22
    seen: set[int] = set()
    pending = [(0, "")]
    while pending:
        index, parent = pending.pop()
        # Every node has one parent, so meeting one twice means a cycle or nodes that overlap.
        if index in seen:
            raise ValueError(f"node {index} is reached twice")
        seen.add(index)
        name_at, flags, first, second = _NODE.unpack_from(blob, tree + index * node_size)
        path = _join(parent, _name(blob, names + name_at)) if index else ""
        if flags & _DIRECTORY:
            if first > len(blob) // node_size:
                raise ValueError(f"{path or 'the root'} claims {first} entries")
            pending.extend((second + child, path) for child in reversed(range(first)))
        else:
            # A file node holds a country and a language where a directory holds its number of children.
            yield path, _contents(blob, data + second, flags)


def _name(blob: bytes, at: int) -> str:
    (length,) = struct.unpack_from(">H", blob, at)
    return _slice(blob, at + 6, 2 * length).decode("utf-16-be")


def _join(parent: str, name: str) -> str:
    if name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
        raise ValueError(f"unsafe name {name!r}")
    return f"{parent}/{name}" if parent else name


def _contents(blob: bytes, at: int, flags: int) -> bytes:
    if flags & _COMPRESSED_ZSTD:
        raise ValueError("zstd compression is not supported")
    (length,) = struct.unpack_from(">I", blob, at)
    raw = _slice(blob, at + 4, length)
    if not flags & _COMPRESSED_ZLIB:
        return raw
    (expected,) = struct.unpack_from(">I", raw)
    unpacker = zlib.decompressobj()
    contents = unpacker.decompress(raw[4:], expected + 1)
    if len(contents) != expected:
        raise ValueError(f"compressed data does not unpack to the {expected} bytes that it claims")
    return contents


def _slice(blob: bytes, at: int, length: int) -> bytes:
    if at + length > len(blob):
        raise ValueError(f"data at {at} reaches beyond the end")
    return blob[at : at + length]
