"""Readable class names, from folder names, label names and WordNet ids."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from line_neurons.agent.errors import UsageError
from line_neurons.agent.text import clean_text
from line_neurons.tools.packages import required_package
from line_neurons.tools.vocabulary import imagenet_classes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_WORDNET_ID = re.compile(r"n\d{8}")
_IMAGENET_IDS = "385e0240499426c022b773be1ae4da780f057b89c9694c7f47199f62746b6edd"
"""SHA-256 of the sorted WordNet ids of ImageNet-1K, a line each."""
_LONGEST = 200


def readable_names(raw: Sequence[str]) -> list[str]:
    """Clean names: ``_`` is a space, WordNet ids are translated; may be empty.

    The 1,000 ids of ImageNet-1K get torchvision's class names; any others get their WordNet lemmas from timm.

    Raises:
        UsageError: a WordNet id is of no class of ImageNet-21K.
        MissingPartError: timm or torchvision, which have the names of the ids, is not installed.
    """
    ids = sorted({name for name in raw if _WORDNET_ID.fullmatch(name)})
    known = _named(ids) if ids else {}
    return [clean_text(known.get(name, name.replace("_", " ")), _LONGEST) for name in raw]


def index_classes(names: Sequence[str]) -> tuple[tuple[str, ...], list[int]]:
    """Return the distinct names, sorted, and each name's index; -1 for an empty one."""
    classes = tuple(sorted(set(names) - {""}))
    index = {name: number for number, name in enumerate(classes)}
    return classes, [index.get(name, -1) for name in names]


def drop_unused_classes(
    classes: tuple[str, ...], labels: NDArray[np.int64]
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Drop classes without images, and renumber the labels; -1, no class, stays."""
    import numpy as np

    used = np.unique(labels[labels >= 0])
    index = np.full(len(classes) + 1, -1, np.int64)
    index[used] = np.arange(len(used))
    return tuple(classes[label] for label in used), index[labels]


def _named(ids: list[str]) -> dict[str, str]:
    if hashlib.sha256("\n".join(ids).encode()).hexdigest() == _IMAGENET_IDS:
        # Sorted WordNet ids are the order of ImageNet-1K's classes.
        return dict(zip(ids, imagenet_classes(), strict=True))
    with required_package(
        "timm",
        "targets",
        remedy="{}, or name the classes in words",
        needed=f"the names of the classes with WordNet ids ({ids[0]} ...) need",
    ):
        from timm.data.imagenet_info import ImageNetInfo
    info: Any = ImageNetInfo("imagenet-22k-ms")
    unknown = sorted(set(ids) - set(info.label_names()))
    if unknown:
        raise UsageError(f"{unknown[0]} is the WordNet id of no known class", "name the classes in words")
    return {name: info.label_name_to_description(name) for name in ids}
