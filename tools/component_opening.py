"""Open the generator and the target of settings; in any process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from line_neurons.agent.errors import UsageError
from line_neurons.agent.ports import Generator
from line_neurons.agent.settings import Settings
from line_neurons.tools.generators.text_to_image import open_text_to_image
from line_neurons.tools.image_bank.opening import open_bank_generator, open_image_bank, uses_image_bank
from line_neurons.tools.targets.hooked_target import HookedTarget
from line_neurons.tools.targets.registry import open_target

if TYPE_CHECKING:
    from line_neurons.tools.image_bank.bank import Bank
    from line_neurons.tools.targets.base import ModelBundle

_TARGET_OPTIONS = ("pool", "query_pool", "layout", "precision", "channels_last", "batch_size")


def target_of(settings: Settings, model: str, bundle: ModelBundle | None, assets: Path) -> HookedTarget:
    """Open the target of settings: the model that a spec names, or a model in memory.

    Raises:
        LineError: the model cannot be opened, or a setting does not fit.
    """
    options: dict[str, Any] = {name: getattr(settings, name) for name in _TARGET_OPTIONS}
    options["device"] = settings.target_device or settings.device
    if bundle is None:
        return open_target(model, assets=assets, weights=settings.weights, download=settings.download, **options)
    if settings.weights is not None:
        path = str(settings.weights)
        raise UsageError(f"the weights {path!r} are not for a model in memory", "load them into it")
    return HookedTarget(bundle, **options)


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
