"""Class-labelled pictures that a unit is compared with, and their activations."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from line_neurons.agent.errors import UsageError
from line_neurons.agent.ports import Control, ControlSet, Progress, Target

if TYPE_CHECKING:
    from line_neurons.tools.concept_bank import ConceptBank

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
_REMEDY = "give a folder that has one folder of pictures for each class, named for the class"


class FolderControlSet:
    """A folder of class folders of pictures, as the ImageNet validation set is laid out.

    A class is called as its folder is, with ``_`` read as a space. The 1,000 folders of ImageNet-1K, named by
    WordNet ids, get torchvision's class names.

    Args:
        path: the folder.
        per_class: how many pictures of each class count, the first by file name.

    Raises:
        UsageError: the folder cannot be read, has no class folders with pictures, or these cannot be named.
    """

    def __init__(self, path: Path, per_class: int = 50) -> None:
        if per_class < 1:
            raise UsageError(f"{per_class} pictures a class are too few", "give 1 or more")
        try:
            folders = sorted(entry for entry in path.iterdir() if entry.is_dir() and entry.name[0] != ".")
            files = {
                folder: sorted(file for file in folder.iterdir() if file.suffix.lower() in _SUFFIXES)[:per_class]
                for folder in folders
            }
        except OSError as error:
            raise UsageError(f"the control set {path} cannot be read: {error.strerror}", _REMEDY) from error
        if not any(files.values()):
            raise UsageError(f"the control set {path} has no class folders with pictures", _REMEDY)
        names = _class_names([folder.name for folder in folders])
        self.path = path
        self._files = {
            name: files[folder] for name, folder in sorted(zip(names, folders, strict=True)) if files[folder]
        }
        self._skipped: set[str] = set()

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the relative paths, sizes and contents of the pictures; reads every file once."""
        digest = hashlib.sha256()
        for name, files in self._files.items():
            for file in files:
                try:
                    with file.open("rb") as opened:
                        content = hashlib.file_digest(opened, "sha256").hexdigest()
                    size = file.stat().st_size
                except OSError:
                    content, size = "unreadable", 0
                digest.update(f"{name}\0{file.relative_to(self.path).as_posix()}\0{size}\0{content}\n".encode())
        return f"folder:{digest.hexdigest()[:32]}"

    def classes(self) -> tuple[str, ...]:
        """The class names, sorted."""
        return tuple(self._files)

    def images(self, class_name: str) -> list[bytes]:
        """The pictures of one class that can be decoded; the others are noted in ``skipped``.

        Raises:
            UsageError: there is no such class.
        """
        if class_name not in self._files:
            raise UsageError(f"the control set {self.path} has no class {class_name!r}")
        return list(self._readable(self._files[class_name]))

    @property
    def skipped(self) -> tuple[str, ...]:
        """The pictures that were met and could not be decoded, as ``path: reason``."""
        return tuple(sorted(self._skipped))

    def _readable(self, files: Iterable[Path]) -> Iterable[bytes]:
        from PIL import Image, UnidentifiedImageError

        for file in files:
            try:
                content = file.read_bytes()
                with Image.open(BytesIO(content)) as image:
                    # A JPEG is checked to its end at a fraction of the cost of decoding it in full.
                    image.draft("RGB", (32, 32))
                    image.load()
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
                reason = "not a picture" if isinstance(error, UnidentifiedImageError) else str(error)
                self._skipped.add(f"{file.relative_to(self.path).as_posix()}: {reason}")
            else:
                yield content


def control_activations(
    bank: ConceptBank,
    target: Target,
    layer: str,
    control: ControlSet,
    progress: Progress | None = None,
) -> Control:
    """Activations of ``layer`` on the control set: from the bank, or computed once and kept there.

    Each class is kept as it is done, so that work that was cut off goes on where it stopped. A class none of
    whose pictures can be read is left out.

    Args:
        bank: where the activations are kept.
        target: the vision model.
        layer: dotted path.
        control: the pictures.
        progress: called after each class with the number of classes.

    Raises:
        UsageError: there is no such layer, or no picture can be read.
        BackendError: see ``Target.activate``.
        StoreError: the bank cannot be read or written.
    """
    import numpy as np

    key = "\n".join((target.fingerprint, layer, control.fingerprint))
    kept = bank.control(key)
    if kept is not None:
        return kept
    names = control.classes()
    parts = []
    for done, name in enumerate(names, start=1):
        part = bank.control(f"{key}\n{name}")
        if part is None:
            before = set(control.skipped)
            activations = target.activate(control.images(name), layer)
            labels = np.zeros(len(activations), np.int64)
            skipped = tuple(sorted(set(control.skipped) - before))
            part = Control((name,), labels, activations, skipped)
            bank.put_control(f"{key}\n{name}", part)
        parts.append(part)
        if progress:
            progress(done, len(names))
    seen = [part for part in parts if len(part.labels)]
    if not seen:
        raise UsageError("no picture of the control set can be read", _REMEDY)
    joined = Control(
        classes=tuple(part.classes[0] for part in seen),
        labels=np.repeat(np.arange(len(seen), dtype=np.int64), [len(part.labels) for part in seen]),
        activations=np.concatenate([part.activations for part in seen]),
        skipped=tuple(name for part in parts for name in part.skipped),
    )
    bank.put_control(key, joined)
    bank.drop_controls(f"{key}\n{name}" for name in names)
    return joined


def _class_names(folders: list[str]) -> list[str]:
    if not any(re.fullmatch(r"n\d{8}", folder) for folder in folders):
        return [folder.replace("_", " ") for folder in folders]
    if len(folders) != 1000:
        raise UsageError(
            f"{len(folders)} class folders with WordNet ids cannot be named, only ImageNet's 1,000 can",
            "rename the folders to the names of their classes",
        )
    from torchvision.models import get_model_weights

    # Sorted WordNet ids are the order of ImageNet-1K's classes.
    names: list[str] = get_model_weights("resnet50")["DEFAULT"].meta["categories"]
    return names
