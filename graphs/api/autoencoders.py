"""Autoencoders in memory, given to ``explain`` as the setting ``sae``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from line_neurons.agent.errors import UsageError
from line_neurons.agent.settings import Settings
from line_neurons.tools.assets.location import assets_root
from line_neurons.tools.component_opening import target_of
from line_neurons.tools.targets.base import ModelBundle, find_layer
from line_neurons.tools.targets.latents.memory import code_in_memory, name_in_memory
from line_neurons.tools.targets.latents.names import base_layer
from line_neurons.tools.targets.latents.target import UnitCode


def split_autoencoder(settings: Mapping[str, Any]) -> tuple[object | None, dict[str, Any]]:
    """Return the autoencoder in memory of some settings, if there is one, and the settings with its name."""
    given = settings.get("sae")
    if given is None or isinstance(given, str):
        return None, dict(settings)
    if isinstance(given, Path):
        return None, {**settings, "sae": str(given)}
    return given, {**settings, "sae": name_in_memory(given)}


def code_of(
    sae: object | None, settings: Settings, model: str, bundle: ModelBundle | None, layer: str
) -> UnitCode | None:
    """Return what makes units of a layer's tokens, where an autoencoder is in memory.

    Raises:
        LineError: the model has no such layer, or the autoencoder cannot encode its tokens.
    """
    if sae is None:
        return None
    if settings.uses_workers:
        raise UsageError(
            f"the autoencoder {settings.sae} cannot be sent to workers",
            "save it to a file and name that, or leave out devices and ray",
        )
    without = settings.model_copy(update={"sae": None})
    base = target_of(without, model, bundle, settings.assets or assets_root())
    return code_in_memory(sae, find_layer(base.layers(), base_layer(layer), base.name).units)
