"""Names of classes as people read them, from folder names, label names and WordNet ids."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from line_neurons.agent.errors import UsageError
from line_neurons.agent.text import clean_text
from line_neurons.tools.packages import missing_package

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_WORDNET_ID = re.compile(r"n\d{8}")
_IMAGENET_ENDS = ("n01440764", "n15075141")
_LONGEST = 200


def readable_names(raw: Sequence[str]) -> list[str]:
    """The names, cleaned, with ``_`` read as a space and WordNet ids translated; empty where nothing is left.

    The 1,000 ids of ImageNet-1K get torchvision's class names; any others get their WordNet lemmas from timm.

    Raises:
        UsageError: a WordNet id is of no class of ImageNet-21K.
        MissingPartError: timm or torchvision, which hold the names of the ids, is not installed.
    """
    ids = sorted({name for name in raw if _WORDNET_ID.fullmatch(name)})
    known = _named(ids) if ids else {}
    return [clean_text(known.get(name, name.replace("_", " ")), _LONGEST) for name in raw]


def arrange(names: Sequence[str]) -> tuple[tuple[str, ...], list[int]]:
    """The distinct names, sorted, and the index of each given name among them; -1 for an empty name."""
    classes = tuple(sorted(set(names) - {""}))
    index = {name: number for number, name in enumerate(classes)}
    return classes, [index.get(name, -1) for name in names]


def without_unused(
    classes: tuple[str, ...], labels: NDArray[np.int64]
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The classes that have an image, and the labels as indices among them.

    Args:
        classes: names.
        labels: int [n], indices into ``classes``; -1 for none, which stays.
    """
    import numpy as np

    used = np.unique(labels[labels >= 0])
    index = np.full(len(classes) + 1, -1, np.int64)
    index[used] = np.arange(len(used))
    return tuple(classes[label] for label in used), index[labels]


def _named(ids: list[str]) -> dict[str, str]:
    if len(ids) == 1000 and (ids[0], ids[-1]) == _IMAGENET_ENDS:
        try:
            from torchvision.models import get_model_weights
        except ImportError as error:
            raise missing_package(
                error,
                "torchvision",
                "pip install 'line-neurons[torch]'",
                needed="the names of ImageNet's classes need",
            ) from error
        # Sorted WordNet ids are the order of ImageNet-1K's classes.
        return dict(zip(ids, get_model_weights("resnet50")["DEFAULT"].meta["categories"], strict=True))
    try:
        from timm.data.imagenet_info import ImageNetInfo
    except ImportError as error:
        raise missing_package(
            error,
            "timm",
            "pip install 'line-neurons[targets]', or name the classes in words",
            needed=f"the classes are named by WordNet ids ({ids[0]} ...), whose names need",
        ) from error
    info: Any = ImageNetInfo("imagenet-22k-ms")
    unknown = sorted(set(ids) - set(info.label_names()))
    if unknown:
        raise UsageError(f"{unknown[0]} is the WordNet id of no known class", "name the classes in words")
    return {name: info.label_name_to_description(name) for name in ids}
