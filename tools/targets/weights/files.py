"""Weights files of the user: which file, which of its networks, and the tensors in it."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from line_neurons.agent.errors import LineError, UsageError
from line_neurons.agent.text import clean_text
from line_neurons.tools.assets.manifest import hash_file
from line_neurons.tools.packages import required_package
from line_neurons.tools.weights_formats import SAVE, weights_format

if TYPE_CHECKING:
    from torch import Tensor

Key = tuple[str, ...]
"""Where a tensor stands in a file: the keys of the nested dicts, the last of them its dotted name."""

_INDEX = ".index.json"
_SHARD = re.compile(r"(.+)-\d{5}-of-(\d{5})\.(safetensors|bin)")
_UNKNOWN = re.compile(r"Unsupported global: GLOBAL ([\w.]+) was not")
_UNPICKLER = "WeightsUnpickler error: "
_MOST_UNKNOWN = 64
_DEEPEST = 8
_CUT = ("EOF", "Ran out of input", "unexpected end", "failed finding central directory", "PytorchStreamReader")


@dataclass(frozen=True)
class WeightsFile:
    """A checkpoint that the user named.

    Args:
        path: the file, or the index of a checkpoint in several files.
        network: dotted name of one of its networks; empty for tensors without a prefix, None if none was chosen.
    """

    path: Path
    network: str | None = None

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """The file, or the index and the files that it names.

        Raises:
            UsageError: the index cannot be read, or names a file that is not beside it.
        """
        if not self.path.name.endswith(_INDEX):
            return (self.path,)
        try:
            names = sorted(set(json.loads(self.path.read_bytes())["weight_map"].values()))
            shards = [self.path.parent / Path(name).name for name in names]
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise UsageError(
                f"{self.path} is not the index of a checkpoint", "copy or download it again"
            ) from error
        missing = [shard.name for shard in shards if not shard.is_file()]
        if missing or not shards:
            listed = clean_text(", ".join(missing[:3]), 200)
            raise UsageError(
                f"{len(missing)} of the {len(shards)} files that {self.path} names are missing: {listed}",
                "put them beside it",
            )
        return (self.path, *shards)

    @property
    def shards(self) -> tuple[Path, ...]:
        """The files that hold tensors."""
        return self.files[1:] or self.files

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the content, as hex; of several files, of their hashes by name."""
        digests = [hash_file(file) for file in self.files]
        return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()

    @property
    def identity(self) -> str:
        """The start of the hash, and the network where one was chosen, for fingerprints."""
        return self.sha256[:16] + self.mark

    @property
    def mark(self) -> str:
        """The chosen network as a part of an identity; empty if none was chosen."""
        return "" if self.network is None else f"#{clean_text(self.network, 200)}"


def weights_file(given: Path) -> WeightsFile:
    """Parse ``FILE`` or ``FILE#NETWORK``; a file whose name has ``#`` is itself.

    Raises:
        UsageError: there is no such file, or it is one shard of several.
    """
    text = str(given)
    ends = [len(text), *sorted((place for place, one in enumerate(text) if one == "#"), reverse=True)]
    end = next((end for end in ends if Path(text[:end]).is_file()), None)
    if end is None:
        if given.is_dir():
            raise UsageError(
                f"the weights {given} are a folder",
                f"give a .pth or .safetensors file, or the *{_INDEX} of a checkpoint in several files",
            )
        raise UsageError(f"there is no weights file {given}", "give the path of a .pth or .safetensors file")
    path = Path(text[:end])
    shard = _SHARD.fullmatch(path.name)
    if shard and int(shard[2]) > 1:
        raise UsageError(
            f"the weights file {path} is one of {int(shard[2])} parts",
            f"give the index of all, {shard[1]}.{shard[3]}{_INDEX}",
        )
    return WeightsFile(path, text[end + 1 :] if end < len(text) else None)


@dataclass
class Checkpoint:
    """All tensors of a file.

    Args:
        versions: version numbers of modules, which some models insist on, by the place of their state dict.
        attributes: plain attributes of the objects at the top of the file, by name; their code does not run.
    """

    file: WeightsFile
    tensors: dict[Key, Tensor] = field(default_factory=dict)
    versions: dict[Key, Mapping[str, Any]] = field(default_factory=dict)
    attributes: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def __str__(self) -> str:
        """The file."""
        return str(self.file.path)


def read_checkpoint(file: WeightsFile) -> Checkpoint:
    """Read the tensors of a checkpoint, including those of nested dicts.

    Only tensors are read: any other object in the file is skipped, and no code of it runs.

    Raises:
        UsageError: the file holds no tensors by name, or cannot be read.
        MissingPartError: the package that reads .safetensors is not installed.
    """
    found = Checkpoint(file)
    unknown: list[str] = []
    for shard in file.shards:
        content = _read(shard, unknown)
        if isinstance(content, dict):
            found.attributes |= {
                str(name): value if isinstance(value, dict) else value.attributes
                for name, value in content.items()
                if isinstance(value, _Inert | dict)
            }
        for place, value in _walk(content, (), found.versions):
            if place in found.tensors:
                raise UsageError(f"{file.path}: {_dotted(place)} is in two of its files", "copy them again")
            found.tensors[place] = value
    if not found.tensors:
        modules = [name for name in unknown if not name.startswith(("collections.", "builtins.", "numpy."))]
        content = "holds no tensors by name"
        if modules:
            kind = clean_text(modules[0], 100)
            content = f"holds a whole object ({kind}), and its code is never run, but no state dict"
        raise UsageError(f"the weights file {file.path} {content}", SAVE)
    return found


def _dotted(place: Key) -> str:
    return clean_text(".".join(place), 200)


def _walk(value: Any, place: Key, versions: dict[Key, Mapping[str, Any]]) -> Iterator[tuple[Key, Tensor]]:
    """Collect every tensor of nested dicts and lists with its place; ``versions`` is filled."""
    import torch

    if isinstance(value, torch.Tensor):
        if place:
            yield place, value
        return
    if len(place) == _DEEPEST or not isinstance(value, (dict, list, tuple)):
        return
    if metadata := getattr(value, "_metadata", None):
        versions[place] = metadata
    for key, part in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(key, (str, int)):
            yield from _walk(part, (*place, str(key)), versions)


def _read(path: Path, unknown: list[str]) -> Any:
    try:
        return _read_safetensors(path) if weights_format(path) == "safetensors" else _read_pickled(path, unknown)
    except LineError:
        raise
    except Exception as error:
        # safetensors raises a class of its own, derived from Exception alone; unpickling raises almost any.
        told = str(error).partition(_UNPICKLER)[2] or str(error)
        reason = (told.strip().splitlines() or [type(error).__name__])[0].partition(". ")[0]
        if isinstance(error, EOFError) or any(sign in str(error) for sign in _CUT):
            raise UsageError(
                f"the weights file {path} is damaged or was cut off: {clean_text(reason, 200)}",
                "copy or download it again",
            ) from error
        raise UsageError(f"the weights file {path} cannot be read: {clean_text(reason, 200)}", SAVE) from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    with required_package("safetensors", "torch", needed="such weights need"):
        from safetensors.torch import load_file
    # Tensors of a mapped file lie anywhere in memory, and a CPU may compute other last bits with such weights.
    return {name: tensor.clone() for name, tensor in load_file(path).items()}


class _Inert:
    """Replaces any object of a checkpoint except tensors, and does nothing."""

    __hash__ = object.__hash__
    attributes: Mapping[str, Any]

    def __new__(cls, *_: object) -> _Inert:
        made = object.__new__(_Inert)
        made.attributes = {}
        return made

    def __call__(self, *_: object) -> _Inert:
        return self

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict):
            self.attributes = state

    def __eq__(self, other: object) -> bool:
        # The reader asks whether a callable is an allowed one; what an inert one returned is inert too.
        return other is _Inert or other is self


class _InertDict:
    """Replaces a kind of dict, which the reader fills."""

    def __new__(cls, *_: object) -> OrderedDict[Any, Any]:  # type: ignore[misc]
        return OrderedDict()


def _read_pickled(path: Path, names: list[str]) -> Any:
    """Read a file of torch.save; classes of other objects go to ``names``."""
    # As an open file: of a path, torch takes its ending for the format.
    return _unpickled(lambda: path.open("rb"), names)


def read_torch_file(content: bytes, source: str) -> Any:
    """Read what torch.save wrote, from memory; as careful as ``read_checkpoint``.

    Raises:
        UsageError: it cannot be read; names the source.
    """
    try:
        return _unpickled(lambda: io.BytesIO(content), [])
    except Exception as error:
        reason = clean_text(str(error).partition(_UNPICKLER)[2] or str(error), 200)
        raise UsageError(f"{source} cannot be read: {reason}", "copy or download it again") from error


def _unpickled(opened: Callable[[], BinaryIO], names: list[str]) -> Any:
    import torch

    # Training scripts save more than tensors: counters of numpy, schedules, functions. They are not on the list
    # of what torch reads, so each is read as an inert thing; the classes that the file names are never touched.
    inert: list[Any] = []
    while True:
        try:
            with (
                torch.serialization.safe_globals(inert),
                warnings.catch_warnings(action="ignore", category=UserWarning),
                opened() as file,
            ):
                return torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            unknown = _UNKNOWN.search(str(error))
            if unknown is None or len(inert) == _MOST_UNKNOWN:
                raise
            name = unknown[1] if "." in unknown[1] else f"builtins.{unknown[1]}"
            names.append(name)
            inert.append((_InertDict if "dict" in name.lower() else _Inert, name))
