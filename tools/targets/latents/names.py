"""Names of layers of latents: the layer's path, ``~`` and the name of the file."""

from __future__ import annotations

import re
from pathlib import Path

from line_neurons.agent.settings import Settings

MARK = "~"
_UNFIT = re.compile(r"[^\w.-]+")
_ENDING = re.compile(r"\.(?:pt|pth|bin|safetensors|npz)$")


def place_name(place: str) -> str:
    """Shorten the place of an autoencoder or of directions to a name, such as ``topk-512``."""
    path, _, part = place.removeprefix("hf:").removeprefix("memory:").partition("#")
    name = _ENDING.sub("", Path(path.rstrip("/")).name)
    return _UNFIT.sub("-", f"{name}-{part}" if part else name).strip("-") or "latents"


def latent_layer(layer: str, name: str) -> str:
    """Return the name of a layer of latents; one that is such a name already stays."""
    return layer if MARK in layer else f"{layer}{MARK}{name}"


def base_layer(layer: str) -> str:
    """Return the path of the vision model's layer."""
    return layer.partition(MARK)[0]


def layer_of(settings: Settings, layer: str) -> str:
    """Return the layer that a run is of, where the user names a layer of the vision model.

    >>> from line_neurons.agent.settings import Settings
    >>> layer_of(Settings(sae="topk-512.safetensors"), "features.18")
    'features.18~topk-512'
    """
    return latent_layer(layer, place_of(settings)) if settings.sae or settings.directions else layer


def place_of(settings: Settings) -> str:
    """Return the name of the autoencoder or of the directions of settings; ``sae`` of one in memory."""
    return place_name(settings.sae or str(settings.directions or "sae"))
