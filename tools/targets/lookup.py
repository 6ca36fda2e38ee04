"""Find the model, layer or unit that a user named, or say which names are near."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from line_neurons.agent.errors import UsageError
from line_neurons.agent.ports import LayerInfo, Target


def near_names(name: str, names: Iterable[str]) -> str:
    """The up to five ``names`` most like ``name``, as ``near: a, b``; empty if none is like it."""
    known = {candidate.casefold(): candidate for candidate in names}
    wanted = name.casefold()
    near = difflib.get_close_matches(wanted, known, n=5, cutoff=0.5)
    near += [key for key in known if wanted and wanted in key and key not in near]
    return "near: " + ", ".join(known[key] for key in near[:5]) if near else ""


def find_layer(layers: Sequence[LayerInfo], path: str, model: str) -> LayerInfo:
    """The layer at the dotted ``path``.

    Raises:
        UsageError: ``model`` has no such layer, or its output has no units.
    """
    for layer in layers:
        if layer.path == path:
            return layer
    near = near_names(path, (layer.path for layer in layers))
    raise UsageError(
        f"{model} has no layer {path!r} with units{'; ' + near if near else ''}",
        f"`line layers {model}` lists them",
    )


def layer_fingerprint(target: Target, path: str) -> str:
    """What identifies a layer's values: the target's fingerprint, with the layer's ``reading``."""
    reading = next((layer.reading for layer in target.layers() if layer.path == path), "")
    return target.fingerprint + reading
