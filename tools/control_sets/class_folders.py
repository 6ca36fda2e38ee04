"""Find the class folders of an image dataset, as torchvision's ``ImageFolder`` does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from line_neurons.agent.errors import UsageError
from line_neurons.tools.images.folders import images_below, list_folder
from line_neurons.tools.images.skipped import Remarks

ClassFolders = Mapping[str, tuple[Path, ...]]
"""The images of each class, by the name that its folder has, in the order of the folders."""

_PARTS = {
    "val": "val", "valid": "val", "validation": "val", "dev": "val", "train": "train", "training": "train",
    "test": "test", "testing": "test",
}  # fmt: skip
_RANK = ("val", "train", "test")
PLAIN = frozenset({"images", "image", "imgs", "img", "jpegimages", "pictures", "photos", "data", "all", *_PARTS})
"""Names of folders that hold a dataset rather than a class of it."""
_REMEDY = "give a folder with a folder of images for each class, or a folder of images"
_DATASET_FILES = frozenset({".parquet", ".arrow", ".tar"})


def class_folders(path: Path, remarks: Remarks) -> tuple[ClassFolders, tuple[Path, ...]]:
    """Find the classes of a folder, and its images without a class.

    A folder in ``path`` is a class, with all images below it. Where all are single letters, as in Places365, the
    folders below them are the classes. ``remarks`` counts what is skipped.

    Raises:
        UsageError: there are no images, or the folders in it are splits of a dataset, not classes.
        OSError: a folder cannot be read.
    """
    loose, folders = list_folder(path, remarks)
    found = {}
    for folder in folders:
        if images := tuple(images_below(folder, remarks)):
            found[folder] = images
        else:
            remarks.add(folder, "a folder without images")
    if not found and not loose:
        raise UsageError(f"the control set {path} has no images{_seen(remarks)}", _instead(path))
    _refuse_parts(path, found)
    if len(found) == 1 and not loose:
        ((folder, images),) = found.items()
        if not _has_own(folder, images):
            raise UsageError(f"the control set {path} has one folder, {folder.name!r}", _one_down(folder))
    if len(found) > 1 and all(_is_letter(folder, images) for folder, images in found.items()):
        for folder in found:
            remarks.add(folder, "a letter, in which each folder of images is a class, as in Places365")
        return _scenes(found), _beside(loose, remarks)
    if len(found) == 1 and not loose and folder.name.casefold() in PLAIN and len(_parents(images)) == 1:
        remarks.add(folder, "no class by its name, so its images have none")
        return {}, images
    if not found:
        return {}, tuple(loose)
    for folder, images in found.items():
        for inner in sorted(_parents(images) - {folder}):
            remarks.add(inner, "a folder inside a class folder; its images belong to that class")
    return {folder.name: images for folder, images in found.items()}, _beside(loose, remarks)


def _beside(loose: list[Path], remarks: Remarks) -> tuple[Path, ...]:
    for image in loose:
        remarks.add(image, "in no class folder")
    return ()


def _parents(images: tuple[Path, ...]) -> set[Path]:
    return {image.parent for image in images}


def _has_own(folder: Path, images: tuple[Path, ...]) -> bool:
    return any(image.parent == folder for image in images)


def _is_letter(folder: Path, images: tuple[Path, ...]) -> bool:
    return len(folder.name) == 1 and folder.name.isalpha() and not _has_own(folder, images)


def _scenes(letters: Mapping[Path, tuple[Path, ...]]) -> dict[str, tuple[Path, ...]]:
    """Return the classes of Places365, ``a/airfield`` and ``a/apartment_building/outdoor``."""
    scenes: dict[str, list[Path]] = {}
    for letter, images in letters.items():
        for image in images:
            scenes.setdefault(" ".join(image.parent.relative_to(letter).parts), []).append(image)
    return {name: tuple(images) for name, images in scenes.items()}


def _refuse_parts(path: Path, found: Mapping[Path, tuple[Path, ...]]) -> None:
    """Refuse folders named as splits of a dataset, which are no classes.

    Raises:
        UsageError: there are several, and nothing else or class folders in them.
    """
    parts = {folder: _PARTS[name] for folder in found if (name := folder.name.casefold()) in _PARTS}
    nested = [folder for folder in parts if not _has_own(folder, found[folder])]
    if len(set(parts.values())) < 2 or not (nested or len(parts) == len(found)):
        return
    names = ", ".join(sorted(folder.name for folder in parts))
    choice = sorted(nested or parts, key=lambda folder: (_RANK.index(parts[folder]), folder.name))
    raise UsageError(
        f"the folders {names} in {path} are parts of a dataset, not classes",
        f"name one of them: {' or '.join(map(str, choice))}",
    )


def _one_down(folder: Path) -> str:
    """Return the folder to name instead of one whose only folder holds the whole dataset."""
    while True:
        quiet = Remarks(folder)
        inner = {
            one: images for one in list_folder(folder, quiet)[1] if (images := tuple(images_below(one, quiet)))
        }
        try:
            _refuse_parts(folder, inner)
        except UsageError as error:
            return error.remedy
        if len(inner) != 1 or any(_has_own(one, images) for one, images in inner.items()):
            return f"its class folders are further down: give {folder}"
        (folder,) = inner


def _seen(remarks: Remarks) -> str:
    lines = remarks.lines()
    return f" ({'; '.join(lines)})" if lines else ""


def _instead(path: Path) -> str:
    if any(file.suffix in _DATASET_FILES for file in path.rglob("*")):
        return f"for the files of a Hugging Face dataset give hf:{path}"
    return _REMEDY
