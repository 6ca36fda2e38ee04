"""Read files of sparse autoencoders: tensors, configuration and input scaling; no code of them runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from line_neurons.agent.errors import MissingPartError, UsageError
from line_neurons.agent.text import clean_text
from line_neurons.tools.array_files import UNREADABLE, read_arrays
from line_neurons.tools.hub import cached, cached_snapshot, list_files
from line_neurons.tools.json_text import loads
from line_neurons.tools.targets.latents.autoencoder import InputScaling
from line_neurons.tools.targets.weights.files import WeightsFile, read_checkpoint, read_torch_file

if TYPE_CHECKING:
    from torch import Tensor

_USUAL = ("sae_weights.safetensors", "weights.pt", "ae.pt", "sae.pt", "sae.safetensors")
_ENDINGS = (".pt", ".pth", ".bin", ".safetensors")
_CONFIGS = ("cfg.json", "config.json")
_MOST_HEADER = 1 << 16
_MOST_CONFIG = 1 << 22


@dataclass(frozen=True)
class StoredAutoencoder:
    """What a file of a sparse autoencoder holds.

    Args:
        place: as the user named it.
        tensors: by name, without the prefix of the part that was chosen.
        config: its configuration; empty if there is none.
        header: the line of JSON at the start of a file of saev; None in other files.
    """

    place: str
    tensors: Mapping[str, Tensor]
    config: Mapping[str, Any] = field(default_factory=dict)
    header: Mapping[str, Any] | None = None


def read_autoencoder(place: str, anchors: tuple[str, ...], *, download: bool = False) -> StoredAutoencoder:
    """Read a file, a folder or a repository of the hub.

    Args:
        place: ``FILE``, ``FOLDER`` or ``hf:OWNER/NAME[@REVISION][/PATH]``; ``#PREFIX`` chooses one of several
            autoencoders of a file.
        anchors: names of the encoder's matrix; what stands before one is a prefix.
        download: download from the hub what is not here.

    Raises:
        UsageError: there is no such file, it has several autoencoders or none, or it cannot be read.
        MissingPartError: the repository is not here.
    """
    path, prefix = _find(place, download=download)
    header, content = _without_header(path)
    if header is not None:
        tensors, config = _flat(read_torch_file(content, str(path))), {}
    else:
        checkpoint = read_checkpoint(WeightsFile(path))
        tensors = {".".join(key): value for key, value in checkpoint.tensors.items()}
        config = {**checkpoint.attributes.get("cfg", {}), **_config(path)}
    chosen = _part(place, tensors, anchors, prefix)
    return StoredAutoencoder(place, chosen, config, header)


def _find(place: str, *, download: bool) -> tuple[Path, str | None]:
    if place.startswith("hf:"):
        named, _, prefix = place.partition("#")
        return _on_hub(named, download=download), prefix or None
    whole = Path(place).expanduser()
    named, mark, prefix = ("", "", "") if whole.exists() else place.rpartition("#")
    path = Path(named).expanduser() if mark else whole
    if not path.exists():
        raise UsageError(
            f"there is no sparse autoencoder {place!r:.200}", "name a file, a folder or hf:OWNER/NAME"
        )
    if path.is_dir():
        path /= _one_file([file.name for file in path.iterdir()], f"the folder {path}", str(path))
    return path, prefix if mark else None


def _on_hub(place: str, *, download: bool) -> Path:
    """Find or download a file of a repository with the configuration beside it, and no other."""
    owner, _, rest = place.removeprefix("hf:").partition("/")
    name, _, inside = rest.partition("/")
    name, _, revision = name.partition("@")
    if not owner or not name:
        raise UsageError(f"{place!r:.200} names no repository", "hf:OWNER/NAME, and the file: hf:OWNER/NAME/PATH")
    repository, inside, at = f"{owner}/{name}", inside.strip("/"), revision or None
    needs = f"--sae {place}"
    if not download:
        folder = cached_snapshot(repository, (), name=needs, revision=at)
        return folder / _file_of(_names(folder), repository, place, inside)
    try:
        absent = MissingPartError(
            f"{repository}, which {needs} needs, is not here", "check the network, or give a folder with the files"
        )
        names = list_files(repository, at, absent=absent)
    except MissingPartError:
        # Without a network it may be here from before.
        if (folder_before := cached(repository, at)) is None:
            raise
        names = _names(folder_before)
    file = _file_of(names, repository, place, inside)
    files = [file, *(str(PurePosixPath(file).with_name(config)) for config in _CONFIGS)]
    return cached_snapshot(repository, [*map(escape, files)], name=needs, revision=at, download=True) / file


def _names(folder: Path) -> list[str]:
    return [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()]


def _file_of(names: Sequence[str], repository: str, place: str, inside: str) -> str:
    """Choose the file of an autoencoder among the names of a repository's files."""
    if inside in names:
        return inside
    start = f"{inside}/" if inside else ""
    within = [name.removeprefix(start) for name in names if name.startswith(start)]
    if inside and not within:
        raise UsageError(
            f"{repository} has no {inside!r:.200}",
            "name a file or folder of it, or look again with --download",
        )
    return start + _one_file(within, place, place.rstrip("/"))


def _one_file(names: Sequence[str], where: str, place: str) -> str:
    """Choose the file of an autoencoder among the names of a folder's files; deeper ones count if it has none."""
    files = sorted(name for name in names if name.endswith(_ENDINGS))
    direct = [name for name in files if "/" not in name]
    found = [name for name in _USUAL if name in direct] or direct or files
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError(f"{where} has no file of a sparse autoencoder", "name the file")
    raise UsageError(
        f"{where} has {len(found)} files: {', '.join(found[:5])}{', ...' * (len(found) > 5)}",
        f"name one: {place}/{found[0]}",
    )


def _without_header(path: Path) -> tuple[Mapping[str, Any] | None, bytes]:
    """Split a file that begins with a line of JSON, as those of saev do."""
    try:
        with path.open("rb") as file:
            if file.read(1) != b"{":
                return None, b""
            file.seek(0)
            line = file.readline(_MOST_HEADER)
            if not line.endswith(b"\n"):
                raise ValueError(f"its first line is longer than {_MOST_HEADER:,} bytes")
            header = loads(line.decode("utf-8"))
            if not isinstance(header, dict):
                raise ValueError("its first line is no JSON object")
            return header, file.read()
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path} cannot be read: {clean_text(str(error), 200)}", "copy or download it again"
        ) from error


def _flat(state: object) -> dict[str, Tensor]:
    import torch

    if not isinstance(state, dict):
        return {}
    return {str(name): value for name, value in state.items() if isinstance(value, torch.Tensor)}


def _config(path: Path) -> dict[str, Any]:
    """Read the configuration beside a file."""
    for name in _CONFIGS:
        file = path.with_name(name)
        if not file.is_file():
            continue
        try:
            if file.stat().st_size > _MOST_CONFIG:
                raise ValueError(f"it is larger than {_MOST_CONFIG:,} bytes")
            found = loads(file.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{file} cannot be read: {clean_text(str(error), 200)}", "copy or download it again"
            ) from error
        return found if isinstance(found, dict) else {}
    return {}


def _part(
    place: str, tensors: Mapping[str, Tensor], anchors: tuple[str, ...], prefix: str | None
) -> dict[str, Tensor]:
    """Return the tensors of one autoencoder, without the prefix."""
    prefixes = dict.fromkeys(
        name[: -len(anchor)]
        for anchor in anchors
        for name in tensors
        if name == anchor or name.endswith(f".{anchor}")
    )
    if not prefixes:
        listed = ", ".join(list(tensors)[:4])
        raise UsageError(
            f"{place} is no sparse autoencoder: it has no {anchors[0]} and no {anchors[1]}, but {listed:.200}",
            "give a file of saev, Prisma, dictionary_learning, overcomplete or sae-lens, or name its tensors"
            " W_enc, b_enc, W_dec and b_dec",
        )
    labels = {label.removesuffix("."): label for label in prefixes}
    if prefix is None and len(labels) > 1:
        raise UsageError(
            f"{place} holds {len(labels)} autoencoders: {', '.join(list(labels)[:6]):.200}",
            f"choose one: --sae {place}#{next(iter(labels))}",
        )
    chosen = prefix if prefix is not None else next(iter(labels))
    if chosen not in labels:
        raise UsageError(f"{place} has no part {chosen!r:.80}", f"there is {', '.join(list(labels)[:6]):.200}")
    start = labels[chosen]
    return {name.removeprefix(start): value.float() for name, value in tensors.items() if name.startswith(start)}


def read_scaling(path: Path, width: int) -> InputScaling:
    """Read mean, scale and perhaps clamp of an ``.npz`` or ``.safetensors`` file.

    Raises:
        UsageError: it cannot be read, or has no such numbers for ``width`` values.
    """
    import torch

    names = ("mean", "scale", "scalar", "clamp")
    try:
        if path.suffix == ".npz":
            arrays = read_arrays(path, names)
            found = {name: torch.from_numpy(array).float() for name, array in arrays.items()}
        else:
            checkpoint = read_checkpoint(WeightsFile(path))
            found = {key[-1]: value.float() for key, value in checkpoint.tensors.items() if key[-1] in names}
    except (*UNREADABLE, TypeError) as error:
        raise UsageError(
            f"{path} cannot be read: {clean_text(str(error), 200)}", "give .npz or .safetensors"
        ) from error
    mean = found.get("mean", torch.zeros(1))
    scale = found.get("scale", found.get("scalar", torch.ones(1)))
    if not found or mean.shape not in {(width,), (1,), ()} or scale.shape not in {(width,), (1,), ()}:
        raise UsageError(
            f"{path} has no mean and scale of {width} values",
            f"save the arrays mean [{width}] and scale [1] or [{width}], and perhaps clamp [1]",
        )
    if not bool((scale != 0).all()) or not all(bool(value.isfinite().all()) for value in found.values()):
        raise UsageError(f"{path} has a scale of 0, or values that are not finite", "save it again")
    clamp = float(found["clamp"].flatten()[0]) if "clamp" in found else None
    return InputScaling(mean.expand(width) if mean.ndim else mean, scale, clamp)
