"""Open what makes units of a layer's tokens: the autoencoder or the directions that settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from line_neurons.agent.errors import UsageError
from line_neurons.tools.targets.latents.directions import read_directions
from line_neurons.tools.targets.latents.formats import AutoencoderRequest, open_autoencoder
from line_neurons.tools.targets.latents.memory import IN_MEMORY
from line_neurons.tools.targets.latents.target import UnitCode, check_model_name

if TYPE_CHECKING:
    from line_neurons.agent.settings import Settings


def open_code(settings: Settings, model: str) -> UnitCode | None:
    """Open the autoencoder or the directions of settings; None where they name neither.

    Raises:
        UsageError: it cannot be read, is of another model, or both are named.
        MissingPartError: a repository of the hub is not here.
    """
    if settings.directions is not None:
        if settings.sae is not None:
            raise UsageError("both an autoencoder and directions are named", "give --sae or --directions")
        directions = read_directions(settings.directions)
        if not settings.sae_force:
            check_model_name(directions, model)
        return directions
    if settings.sae is None:
        return None
    if settings.sae.startswith(IN_MEMORY):
        raise UsageError(
            f"the autoencoder {settings.sae.removeprefix(IN_MEMORY)} lived in the memory of a Python session",
            "pass it again: line_neurons.explain(model, layer, units, sae=...)",
        )
    request = AutoencoderRequest(
        settings.sae,
        settings.sae_activation,
        settings.sae_minus_b_dec,
        settings.sae_input,
        download=settings.download,
    )
    sae = open_autoencoder(request)
    if not settings.sae_force:
        check_model_name(sae, model)
    return sae
