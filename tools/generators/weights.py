"""The files of a text-to-image model: selection, download and hash."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from line_neurons.agent.errors import MissingPartError, UsageError
from line_neurons.agent.text import clean_text
from line_neurons.tools.assets import manifest
from line_neurons.tools.generators.presets import HUB_ID, ModelSource, Preset
from line_neurons.tools.hub import cached, fetch, list_files
from line_neurons.tools.weights_formats import weights_format

logger = logging.getLogger(__name__)

INDEX = "model_index.json"

# These look at images that were drawn, or at images given as examples; drawing from text needs none of them.
SKIPPED_COMPONENTS = ("safety_checker", "feature_extractor", "image_encoder")

_WEIGHTS = re.compile(
    r"(?:diffusion_pytorch_model|model)(?:\.(\w+))?(?:-\d{5}-of-\d{5})?(?:\.(\w+))?\.safetensors"
)
_SHARD_INDEX = re.compile(r"(?:diffusion_pytorch_model|model)\.safetensors\.index(?:\.(\w+))?\.json")
_LORA = "pytorch_lora_weights.safetensors"
_PICKLE = (".bin", ".pt", ".pth", ".ckpt")
_SETTINGS = (".json", ".txt", ".model")
_SHA256 = re.compile(r"[0-9a-f]{64}")

_hashes: dict[tuple[Path, int, int], str] = {}


@dataclass(frozen=True)
class ModelFiles:
    """A model's files on this machine.

    Args:
        folder: the folder with ``model_index.json``.
        files: the files that are read, relative to the folder.
        pipeline: name of the pipeline's class.
        variant: which weights are read where there are several, None for the plain ones.
        commit: commit of the hub's repository, empty for a local folder.
        denoiser: a checkpoint that replaces the folder's denoiser.
    """

    folder: Path
    files: tuple[str, ...]
    pipeline: str
    variant: str | None
    commit: str = ""
    denoiser: Path | None = None

    def read_json(self, name: str) -> dict[str, Any]:
        """Read a settings file of the model, empty if it has none of that name.

        Raises:
            UsageError: the file is not a JSON object.
        """
        return _read_json(self.folder / name) if name in self.files else {}

    def sha256(self) -> str:
        """Hash names and contents of all files that are read, using the hub's hashes."""
        paths = {name: self.folder / name for name in self.files}
        if self.denoiser:
            paths["denoiser"] = self.denoiser
        rows = [(name, cached_hash(path)) for name, path in sorted(paths.items())]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def find_model(
    source: ModelSource, *, revision: str | None, full_precision: bool, steps: int, download: bool
) -> ModelFiles:
    """Find the files of a model; missing ones are downloaded from the hub if allowed.

    Args:
        revision: branch, tag or commit of the hub's repository.
        full_precision: read the float32 weights where there are half-precision ones too.
        steps: denoising steps, which choose among distilled denoisers.

    Raises:
        MissingPartError: the weights are missing, or could not be downloaded.
        UsageError: the folder holds no pipeline that can be loaded safely, or has no weights in safetensors, or a
            file of another kind under such a name.
    """
    variant = None if full_precision else "fp16"
    preset = source.preset
    denoisers = preset.denoisers if preset else {}
    if denoisers and steps not in denoisers:
        known = ", ".join(str(count) for count in denoisers)
        raise UsageError(f"{source.name} has no checkpoint for {steps} steps", f"set diffusion.steps to {known}")
    skipped = ("unet",) if denoisers else ()
    if source.folder:
        found = _read_folder(source.folder, source.name, variant, skipped)
        missing = missing_components(found, skipped)
        if missing:
            raise _incomplete(found, missing, source.name)
    else:
        found = _from_hub(source, revision, variant, skipped, download)
    if preset is None or not denoisers:
        return found
    return replace(found, denoiser=_find_denoiser(source, preset, denoisers[steps].file, download))


def find_lora(text: str, *, download: bool) -> tuple[Path, float]:
    """Find the file and the weight of a LoRA, ``PLACE`` or ``PLACE=WEIGHT``.

    The place is a safetensors file, ``owner/name`` of the hub, or ``owner/name/FILE``.

    Raises:
        UsageError: no such file, it is not safetensors, or the weight is not a number.
        MissingPartError: the hub's file is missing, or could not be downloaded.
    """
    place, equals, number = text.rpartition("=")
    if not equals or Path(text).expanduser().is_file():
        place, number = text, "1"
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    if not math.isfinite(weight):
        raise UsageError(f"the weight {number!r} of LoRA {place!r} is no number", "PLACE=0.8")
    path = Path(place).expanduser()
    if path.is_file():
        if path.suffix != ".safetensors":
            raise UsageError(f"LoRA {place!r} is not a .safetensors file", "other formats can hold code")
        weights_format(path)
        return path.resolve(), weight
    parts = place.split("/", 2)
    hub = "/".join(parts[:2])
    if not HUB_ID.fullmatch(hub):
        raise UsageError(f"there is no LoRA file {place!r}", "a .safetensors file, or owner/name of the hub")
    wanted = parts[2] if len(parts) == 3 else ""
    folder = cached(hub)
    if download and (folder is None or not _lora_files(folder, wanted)):
        folder = fetch(hub, [wanted or "*.safetensors"], absent=_not_here(ModelSource(place, hub=hub), tried=True))
    files = _lora_files(folder, wanted) if folder else []
    if not files or folder is None:
        raise MissingPartError(f"the LoRA {place!r} is not here", f"allow the download, or `hf download {hub}`")
    if len(files) > 1:
        raise UsageError(f"{hub} has several LoRA files: {', '.join(files[:8])}", f"name one: {hub}/FILE")
    others = len(_lora_files(folder, "", usual=False)) - 1
    if not wanted and others > 0:
        logger.warning("%s has %d LoRA files beside %s, which is used", hub, others, _LORA)
    return folder / files[0], weight


def cached_hash(path: Path) -> str:
    """Compute a file's SHA-256, cached while its size and time do not change."""
    real = path.resolve()
    if real.parent.name == "blobs" and _SHA256.fullmatch(real.name):
        return real.name  # the hub's cache names large files by their SHA-256
    status = real.stat()
    key = (real, status.st_size, status.st_mtime_ns)
    if key not in _hashes:
        _hashes[key] = manifest.hash_file(real)
    return _hashes[key]


def choose_files(
    names: Iterable[str], index: Mapping[str, Any], variant: str | None, skipped: Iterable[str] = ()
) -> tuple[str, ...]:
    """Choose the files to read: settings, and one set of weights per component.

    Args:
        names: all files, relative to the model's folder, with ``/``.
        index: the contents of ``model_index.json``.
        variant: taken for each component that has it; the plain weights otherwise, or the only variant if there
            are none.
        skipped: components whose weights are not read.

    Raises:
        UsageError: a component has several variants, and none of them is a usual one.
    """
    parts: dict[str, list[str]] = {part: [] for part in _parts(index)}
    for name in names:
        path = PurePosixPath(name)
        if len(path.parts) == 2 and path.parts[0] in parts:
            parts[path.parts[0]].append(path.name)
    chosen = [INDEX]
    for part, files in parts.items():
        kinds = {file: kind for file in files if (kind := _variant(file)) is not None}
        weights = {} if part in skipped else kinds
        there = sorted(set(weights.values()))
        usual = [name for name in (variant or "", "", "fp16") if name in there]
        if not usual and len(there) > 1:
            listed = clean_text(", ".join(there), 200)
            raise UsageError(
                f"{clean_text(part, 40)} has several weights, none of a usual name: {listed}",
                "leave only those in the folder that you mean",
            )
        wanted = (usual or there or [""])[0]
        keep = [file for file, of in weights.items() if of == wanted]
        keep += [
            file for file in files if file.endswith(_SETTINGS) and _settings_of(file, wanted, part in skipped)
        ]
        chosen += [f"{part}/{file}" for file in keep]
    return tuple(sorted(chosen))


def missing_components(found: ModelFiles, skipped: Iterable[str] = ()) -> list[str]:
    """List the components whose settings or weights are not among a model's files."""
    index = _read_json(found.folder / INDEX)
    here = set(found.files)
    missing = []
    for part in _parts(index):
        files = [name for name in here if name.startswith(f"{part}/")]
        has_weights = any(name.endswith(".safetensors") for name in files)
        # A network has a config.json; schedulers and tokenizers name their settings otherwise.
        if not files or (f"{part}/config.json" in here and part not in skipped and not has_weights):
            missing.append(part)
        for shards in (name for name in files if _SHARD_INDEX.fullmatch(PurePosixPath(name).name)):
            listed = set(_read_json(found.folder / shards).get("weight_map", {}).values())
            if not {f"{part}/{shard}" for shard in listed} <= here:
                missing.append(part)
    return missing


def _from_hub(
    source: ModelSource, revision: str | None, variant: str | None, skipped: tuple[str, ...], download: bool
) -> ModelFiles:
    folder = cached(source.hub, revision)
    if folder and (folder / INDEX).is_file():
        found = _read_folder(folder, source.name, variant, skipped, commit=folder.name)
        if not missing_components(found, skipped):
            return found
    if not download:
        raise _not_here(source, revision=revision)
    absent = _not_here(source, tried=True)
    fetched = fetch(source.hub, [INDEX], revision, absent=absent)
    index = _check_index(_read_json(fetched / INDEX), source.name)
    names = list_files(source.hub, fetched.name, absent=absent)
    files = choose_files(names, index, variant, skipped)
    fetched = fetch(source.hub, files, fetched.name, absent=absent)
    found = _read_folder(fetched, source.name, variant, skipped, commit=fetched.name)
    missing = missing_components(found, skipped)
    if missing:
        raise UsageError(
            f"{source.hub} has no safetensors weights of {', '.join(missing)}", "choose a repository that has them"
        )
    return found


def _find_denoiser(source: ModelSource, preset: Preset, file: str, download: bool) -> Path:
    folder = source.folder or cached(preset.denoiser_hub)
    if folder and (folder / file).is_file():
        return folder / file
    if source.folder:
        raise MissingPartError(
            f"{source.name}: there is no {file} in the folder", f"put the file of {preset.denoiser_hub} there"
        )
    if not download:
        raise _not_here(source)
    absent = _not_here(replace(source, hub=preset.denoiser_hub), tried=True)
    return fetch(preset.denoiser_hub, [file], absent=absent) / file


def _read_folder(
    folder: Path, name: str, variant: str | None, skipped: tuple[str, ...], commit: str = ""
) -> ModelFiles:
    if not (folder / INDEX).is_file():
        raise UsageError(
            f"{name}: the folder has no {INDEX}",
            "name a folder as a diffusers pipeline's save_pretrained writes it",
        )
    index = _check_index(_read_json(folder / INDEX), name)
    listed = [path.relative_to(folder).as_posix() for path in folder.glob("*/*") if path.is_file()]
    code = [file for file in listed if file.endswith(".py") and file.split("/")[0] in _parts(index)]
    if code:
        raise UsageError(f"{name} brings code of its own ({code[0]}), which is never run", "choose another model")
    files = choose_files(listed, index, variant, skipped)
    kinds = {kind for file in files if (kind := _variant(PurePosixPath(file).name))}
    read = min(kinds, default=None)
    if read != variant:
        files = choose_files(listed, index, read, skipped)
    for file in files:
        if file.endswith(".safetensors"):
            weights_format(folder / file)
    return ModelFiles(folder, files, index["_class_name"], read, commit)


def _check_index(index: dict[str, Any], name: str) -> dict[str, Any]:
    class_name = index.get("_class_name")
    if isinstance(class_name, list):
        raise UsageError(f"{name} brings code of its own, which is never run", "choose another model")
    if not isinstance(class_name, str) or not class_name.isidentifier():
        raise UsageError(f"{name}: {INDEX} names no pipeline class", "choose a diffusers pipeline")
    for part in _parts(index):
        library = index[part][0]
        if library not in {"diffusers", "transformers"}:
            raise UsageError(
                f"{name}: its {clean_text(part, 40)} comes from {clean_text(str(library), 40)!r}",
                "only parts of diffusers and transformers are loaded",
            )
    return index


def _parts(index: Mapping[str, Any]) -> list[str]:
    def is_part(name: str, value: Any) -> bool:
        pair = isinstance(value, list) and len(value) == 2 and value[0] is not None
        return pair and not name.startswith("_") and name not in SKIPPED_COMPONENTS

    return [name for name, value in index.items() if is_part(name, value)]


def _variant(file: str) -> str | None:
    match = _WEIGHTS.fullmatch(file)
    return (match[1] or match[2] or "") if match else None


def _settings_of(file: str, wanted: str, skipped: bool) -> bool:
    shards = _SHARD_INDEX.fullmatch(file)
    if shards:
        return not skipped and (shards[1] or "") == wanted
    return not file.endswith(".index.json")


def _not_here(source: ModelSource, *, revision: str | None = None, tried: bool = False) -> MissingPartError:
    """Return the error for a missing model: what it is, how large, and where to get it."""
    preset = source.preset
    how = "check the network" if tried else "allow the download with --download"
    at = f" at revision {revision!r}" if revision else ""
    if preset is None or source.hub != preset.hub:
        return MissingPartError(
            f"{source.hub}{at} is not here, neither as a folder nor in the hub's cache",
            f"{how}, or `hf download {source.hub}{f' --revision {revision}' if revision else ''}`",
        )
    parts = preset.hub if not preset.denoiser_hub else f"{preset.hub} and {preset.denoiser_hub}"
    half = f" ({preset.variant})" if preset.variant else ""
    licence = "; accept its licence on the hub first, and `hf auth login`" if preset.gated else ""
    name = source.name.partition("=")[0]
    return MissingPartError(
        f"{name}{at} is not here: {parts}, {preset.gigabytes} GB{half}",
        f"{how}, or name a copy as {name}=FOLDER{licence}",
    )


def _incomplete(found: ModelFiles, missing: list[str], name: str) -> UsageError:
    pickled = [path.name for part in missing for path in (found.folder / part).glob("*") if path.suffix in _PICKLE]
    parts = ", ".join(missing)
    if pickled:
        return UsageError(
            f"{name}: {parts} has weights only as {pickled[0]}, which can hold code and is never read",
            "load it once yourself and save it with save_pretrained(FOLDER, safe_serialization=True)",
        )
    return UsageError(f"{name}: the folder has no safetensors weights of {parts}", "copy the whole folder")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}", "copy the model again") from None
    if not isinstance(content, dict):
        raise UsageError(f"{path} is not a JSON object", "copy the model again")
    return content


def _lora_files(folder: Path, wanted: str, *, usual: bool = True) -> list[str]:
    """List LoRA files: the ``wanted`` one, that of the ``usual`` name, or all."""
    if wanted:
        return [wanted] if wanted.endswith(".safetensors") and (folder / wanted).is_file() else []
    names = sorted(path.name for path in folder.glob("*.safetensors"))
    return [_LORA] if usual and _LORA in names else names
