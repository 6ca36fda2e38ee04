"""Open generator, target, autoencoder and directions of settings; in any process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from line_neurons.agent.errors import UsageError
from line_neurons.agent.ports import Generator
from line_neurons.agent.settings import Settings
from line_neurons.tools.generators.text_to_image import open_text_to_image
from line_neurons.tools.image_bank.bank import Bank
from line_neurons.tools.image_bank.opening import open_bank_generator, open_image_bank, uses_image_bank
from line_neurons.tools.targets.base import ModelBundle
from line_neurons.tools.targets.hooked_target import HookedTarget
from line_neurons.tools.targets.latents.directions import read_directions
from line_neurons.tools.targets.latents.formats import AutoencoderRequest, open_autoencoder
from line_neurons.tools.targets.latents.memory import IN_MEMORY
from line_neurons.tools.targets.latents.names import place_of
from line_neurons.tools.targets.latents.target import LatentTarget, UnitCode, check_model_name
from line_neurons.tools.targets.registry import open_network, open_target

_TARGET_OPTIONS = ("pool", "query_pool", "layout", "precision", "channels_last", "batch_size")


def target_of(
    settings: Settings, model: str, bundle: ModelBundle | None, assets: Path, code: UnitCode | None = None
) -> HookedTarget:
    """Open the target of settings: the model that a spec names, or a model in memory.

    ``code`` is an autoencoder in memory; else the settings may name one, or directions.

    Raises:
        LineError: the model cannot be opened, or a setting does not fit.
    """
    options: dict[str, Any] = {name: getattr(settings, name) for name in _TARGET_OPTIONS}
    options["device"] = settings.target_device or settings.device
    if bundle is not None and settings.weights is not None:
        path = str(settings.weights)
        raise UsageError(f"the weights {path!r} are not for a model in memory", "load them into it")
    code = code or open_code(settings, model)
    own: dict[str, Any] = {"assets": assets, "weights": settings.weights, "download": settings.download}
    if code is not None:
        network = bundle or open_network(model, **own)
        return LatentTarget(network, code, place_of(settings), tokens=settings.tokens, **options)
    return open_target(model, **own, **options) if bundle is None else HookedTarget(bundle, **options)


def generator_of(settings: Settings, assets: Path, store: Path, bank: Bank | None = None) -> Generator:
    """Open the generator of settings for a search; ``bank`` is its image bank, where that is open.

    Raises:
        LineError: the generator cannot be opened, or a setting does not fit.
    """
    if uses_image_bank(settings.generator):
        bank = bank or open_image_bank(settings, assets)
        return open_bank_generator(bank, settings, "search", assets=assets, store=store)
    return open_text_to_image(
        settings.generator,
        settings.diffusion,
        device=settings.generator_device or settings.device,
        download=settings.download,
        expected_batch=settings.images,
        callers=settings.max_concurrent_units,
    )


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
