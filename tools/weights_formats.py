"""Detect the format of a weights file from its content."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Literal

from line_neurons.agent.errors import UsageError
from line_neurons.agent.text import clean_text

Format = Literal["safetensors", "torch"]

SAVE = "save the model's state_dict() with torch.save, or as .safetensors"
_AGAIN = "copy or download it again"
_UNPACK = "unpack it, and give the checkpoint that is in it"

# How other files begin, what they are, and what to do instead.
_OTHERS = (
    (b"version https://git-lfs", "is a Git LFS pointer, not the weights", "get them with: git lfs pull"),
    (b"<", "is a web page or XML, not weights", "open the link in a browser and save the file that it offers"),
    (b"\x89HDF\r\n\x1a\n", "is an HDF5 file, as Keras writes them", SAVE),
    (b"\x93NUMPY", "is one array of NumPy", SAVE),
    (b"GGUF", "is a GGUF file", SAVE),
    (b"\x1f\x8b", "is a gzip archive", _UNPACK),
    (b"BZh", "is a bzip2 archive", _UNPACK),
    (b"\xfd7zXZ\0", "is an xz archive", _UNPACK),
    (b"7z\xbc\xaf", "is a 7z archive", _UNPACK),
    (b"Rar!", "is a RAR archive", _UNPACK),
)
_TAR = (257, b"ustar")
_START = 512
_SHOWN = 40


def weights_format(path: Path) -> Format:
    """Return the format of a weights file for torch or safetensors.

    Raises:
        UsageError: it is something else, such as a Git LFS pointer or a web page, or it was cut off.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(_START)
    except OSError as error:
        raise UsageError(f"the weights file {path} cannot be read: {error.strerror or error}", _AGAIN) from error
    if not start:
        raise _refused(path, "is empty (0 bytes)", _AGAIN)
    for beginning, told, remedy in _OTHERS:
        if start.lstrip().startswith(beginning):
            raise _refused(path, told, remedy)
    if start[_TAR[0] :].startswith(_TAR[1]):
        raise _refused(path, "is a tar archive", _UNPACK)
    if start.startswith(b"PK"):
        _check_zip(path)
        return "torch"
    if start[8:9] == b"{":
        _check_safetensors(path, size)
        return "safetensors"
    if start.startswith(b"\x80"):
        return "torch"
    try:
        text = start.decode()
    except UnicodeDecodeError as error:
        # The last character may be cut in two.
        text = start[: error.start].decode() if error.start > _START - 4 else "\0"
    if "\0" not in text:
        raise _refused(path, f"is a text file that begins with {clean_text(text, _SHOWN)!r}", _AGAIN)
    raise _refused(
        path, f"is neither a file of torch.save nor .safetensors: it begins with {start[:8].hex()}", SAVE
    )


def _refused(path: Path, told: str, remedy: str) -> UsageError:
    return UsageError(f"the weights file {path} {told}", remedy)


def _check_zip(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.rpartition("/")[2]: name for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise _refused(path, "was cut off: the end of the file is missing", _AGAIN) from error
    if "constants.pkl" in names:
        raise _refused(path, "is a TorchScript archive, and its layers cannot be accessed", SAVE)
    if "data.pkl" in names:
        return
    if any(name.endswith(".npy") for name in names):
        raise _refused(path, "is an archive of NumPy arrays (.npz)", SAVE)
    if any(name.endswith(".h5") for name in names):
        raise _refused(path, "is a model of Keras", SAVE)
    raise _refused(path, "is a zip archive of other files", _UNPACK)


def _check_safetensors(path: Path, size: int) -> None:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(length) if length <= size else b""
    try:
        entries = json.loads(header) if header else {}
        ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"]
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise _refused(path, "is damaged: its table of tensors cannot be read", _AGAIN) from error
    whole = 8 + length + max(ends, default=0)
    if size < whole:
        raise _refused(path, f"was cut off: {size:,} of {whole:,} bytes are there", _AGAIN)
