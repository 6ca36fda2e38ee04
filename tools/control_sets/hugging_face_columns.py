"""Find the columns of a Hugging Face dataset with images and classes, and read its images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from line_neurons.agent.errors import BackendError, UsageError
from line_neurons.agent.text import clean_text
from line_neurons.tools.control_sets.images import as_png

_IMAGES = ("image", "img", "picture", "photo", "jpg", "jpeg", "png", "webp", "pixels")
_LABELS = ("label", "labels", "fine_label", "class", "class_name", "label_name", "label_text", "category")


@dataclass(frozen=True)
class Columns:
    """The columns that count.

    Args:
        label: name of the column of classes; None if the images have no named classes.
        names: the class names that the labels count; None if the labels are the names themselves.
    """

    image: str
    label: str | None
    names: tuple[str, ...] | None


def find_columns(features: Mapping[str, Any], dataset: str) -> Columns:
    """Find the image column and the class column of a dataset's features.

    Images are a column of the type Image, or of encoded files or uint8 arrays with a usual name. Classes are a
    ClassLabel, or texts in a column with a usual name; numbers without names are no classes.

    Raises:
        UsageError: there is no column of images.
    """
    from datasets import Array2D, Array3D, ClassLabel, Image

    arrays = (Array2D, Array3D)
    images = _preferred((name for name, kind in features.items() if isinstance(kind, Image)), _IMAGES)
    images += [
        name
        for name in _IMAGES
        if (kind := features.get(name)) is not None
        and (_is_file(kind) or (isinstance(kind, arrays) and kind.dtype == "uint8"))
    ]
    if not images:
        columns = ", ".join(clean_text(name, 40) for name in features) or "texts and numbers"
        raise UsageError(
            f"the dataset {dataset} has no column of images, only {columns:.200}", "give a dataset of images"
        )
    classes = _preferred((name for name, kind in features.items() if isinstance(kind, ClassLabel)), _LABELS)
    if classes:
        return Columns(images[0], classes[0], tuple(features[classes[0]].names))
    texts = [name for name in _LABELS if getattr(features.get(name), "dtype", "") in {"string", "large_string"}]
    return Columns(images[0], texts[0] if texts else None, None)


def read_image(value: Any, roots: Iterable[str]) -> bytes:
    """Read the image file of a row's value; arrays become PNG files.

    ``roots`` are folders and addresses below which a file that the row only names may lie.

    Raises:
        ValueError: there is no image, or its file lies elsewhere.
        OSError: its file cannot be read.
        BackendError: its file could not be downloaded from the hub.
    """
    if isinstance(value, bytes):
        return value
    if isinstance(value, list):
        import numpy as np

        return as_png(np.array(value))
    if isinstance(value, dict) and value.get("bytes"):
        return bytes(value["bytes"])
    if not isinstance(value, dict) or not value.get("path"):
        raise ValueError("no image")
    return _read_file(str(value["path"]), roots)


def _read_file(path: str, roots: Iterable[str]) -> bytes:
    import fsspec

    # A row may name any file of this machine or address of the network.
    place = path.rpartition("::")[2]
    allowed = (
        place.startswith(f"{root}/") if "://" in root else _is_below(place, root)
        for root in roots
        if ("://" in root) == ("://" in place)
    )
    if not any(allowed):
        raise ValueError("its file is not in the dataset")
    try:
        with fsspec.open(path, "rb") as file:
            content: bytes = file.read()
    except Exception as error:
        if "://" not in place:
            raise
        # A network that fails is no damaged image: the chunk is asked for again, not kept with a gap.
        reason = clean_text(str(error), 200)
        raise BackendError(f"an image of the dataset could not be fetched: {reason}", "run it again") from error
    return content


def _is_below(place: str, root: str) -> bool:
    return ".." not in Path(place).parts and Path(place).is_relative_to(Path(root).absolute())


def _preferred(names: Iterable[str], order: tuple[str, ...]) -> list[str]:
    return sorted(names, key=lambda name: order.index(name) if name in order else len(order))


def _is_file(kind: Any) -> bool:
    binary = {"binary", "large_binary"}
    return getattr(kind, "dtype", "") in binary or (
        isinstance(kind, dict) and getattr(kind.get("bytes"), "dtype", "") in binary
    )
