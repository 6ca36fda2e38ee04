"""Image files below a folder, as torchvision's ``ImageFolder`` finds them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from line_neurons.tools.images.skipped import Remarks

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})
"""Endings of image files, in any case: those of torchvision's ``ImageFolder``, and GIF."""

_SYSTEM = frozenset({"__macosx", "thumbs.db", "desktop.ini"})


def list_folder(
    folder: Path, remarks: Remarks, beside: frozenset[str] = frozenset()
) -> tuple[list[Path], list[Path]]:
    """List the images of a folder, and the folders in it, both sorted; links are followed.

    Args:
        remarks: counts what else is in it.
        beside: endings of other files that belong there, which are not counted.

    Raises:
        OSError: the folder cannot be read.
    """
    images, folders = [], []
    for path in sorted(folder.iterdir()):
        if path.name[0] == ".":
            remarks.add(path, "hidden")
        elif path.name.casefold() in _SYSTEM:
            remarks.add(path, "left by an operating system")
        elif path.is_dir():
            folders.append(path)
        elif not path.is_file():
            remarks.add(path, "a link to nothing" if path.is_symlink() else "no file")
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            images.append(path)
        elif path.suffix.lower() not in beside:
            remarks.add(path, "without the ending of an image")
    return images, folders


def images_below(folder: Path, remarks: Remarks, beside: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Yield the images at any depth, a folder's own first; see ``list_folder``.

    Raises:
        OSError: a folder cannot be read.
    """
    real = os.path.realpath(folder)
    left = [(folder, frozenset({real, *map(str, Path(real).parents)}))]
    while left:
        at, above = left.pop()
        images, folders = list_folder(at, remarks, beside)
        yield from images
        for inner in reversed(folders):
            real = os.path.realpath(inner)
            if real in above:
                remarks.add(inner, "a link to a folder that it lies in")
            else:
                left.append((inner, above | {real}))
