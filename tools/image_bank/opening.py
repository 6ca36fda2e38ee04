"""Open the image bank that a generator's name stands for, and its generator."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from line_neurons.agent.errors import UsageError
from line_neurons.agent.settings import Settings
from line_neurons.tools.image_bank.bank import BUNDLED, Bank, Selection

if TYPE_CHECKING:
    from line_neurons.tools.image_bank.generator import ImageBankGenerator

NAMES = f"use {', '.join(BUNDLED)} or bank:FOLDER"


def uses_image_bank(generator: str) -> bool:
    """Return whether a generator is an image bank: a name of ``BUNDLED`` or ``bank:FOLDER``."""
    return generator in BUNDLED or generator.partition(":")[0] == "bank"


def open_image_bank(settings: Settings, assets: Path) -> Bank:
    """Open the image bank of the settings' generator, or else the bundled one.

    Raises:
        UsageError: the generator names no folder, or the folder is no image bank.
        MissingPartError: the bundled bank is not installed.
    """
    _, colon, folder = settings.generator.partition(":") if uses_image_bank(settings.generator) else ("", "", "")
    if colon and not folder:
        raise UsageError(f"the generator {settings.generator!r} names no folder", NAMES)
    if folder:
        from line_neurons.tools.image_bank.folder import open_bank

        return open_bank(folder, settings.image_range)
    from line_neurons.tools.image_bank.bank import bundled_bank

    return bundled_bank(assets, settings.generator if settings.generator in BUNDLED else "bank")


def open_bank_generator(
    bank: Bank, settings: Settings, split: Selection, *, assets: Path, store: Path
) -> ImageBankGenerator:
    """Open a generator of the images of one split of a bank; its embeddings are kept in the store.

    Raises:
        UsageError: the split has no image.
        MissingPartError: the text encoder is not installed.
    """
    from line_neurons.tools.image_bank.generator import BankSettings, ImageBankGenerator
    from line_neurons.tools.image_bank.text_encoder import SentenceEncoder

    threshold = settings.threshold
    return ImageBankGenerator(
        bank,
        SentenceEncoder(assets / "minilm"),
        split,
        settings=BankSettings() if threshold is None else BankSettings(threshold=threshold),
        cache=store / "embeddings",
    )
