"""Check before a run what would fail only after its expensive work."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from line_neurons.agent.concepts import class_concept, concept_key
from line_neurons.agent.errors import UsageError
from line_neurons.agent.setting_groups.guidance import FROM_CONTROL_SET, WITHOUT_LANGUAGE_MODEL
from line_neurons.agent.settings import Settings
from line_neurons.graphs.loop.guidance import uses_guide
from line_neurons.graphs.runs.components import Components
from line_neurons.tools.guidance.words import check_candidates
from line_neurons.tools.image_bank.bank import BUNDLED
from line_neurons.tools.image_bank.generator import ImageBankGenerator
from line_neurons.tools.image_bank.opening import uses_image_bank
from line_neurons.tools.targets.architectures import module_paths
from line_neurons.tools.targets.base import absent_layer
from line_neurons.tools.targets.latents.names import base_layer
from line_neurons.tools.targets.unit_selectors import check_selectors

_EXAMPLES = 3
_WORDS = {"control": "classes", "images": "classes", "vocabulary": "words of the vocabulary"}


def check_selection(components: Components, layer: str, selectors: Sequence[str]) -> None:
    """Check what can be known of a layer and its units before any weights are loaded.

    Raises:
        UsageError: the architecture has no such layer, or a file of units cannot be used.
    """
    check_selectors(selectors, layer)
    _check_files(components)
    loaded = components.bundle is not None or "target" in components.opened()
    # A checkpoint may be of a network of its own.
    if loaded or components.settings.weights is not None:
        return
    paths = module_paths(components.model)
    if paths and base_layer(layer) not in paths:
        raise absent_layer(base_layer(layer), paths, components.model)


def _check_files(components: Components) -> None:
    """Check the settings that name files or choose candidates, which are read only after weights are loaded.

    Raises:
        UsageError: one does not exist, or does not fit the others.
        MissingPartError: the text encoder, or WordNet, is not installed.
    """
    settings = components.settings
    if settings.class_names and not settings.class_names.exists():
        raise UsageError(
            f"the file of class names {str(settings.class_names)!r} does not exist", "name one with --class-names"
        )
    if uses_guide(settings):
        check_candidates(settings, components.assets)
        # Its weights are read at first use.
        _ = components.text_encoder
    for note in _without_effect(settings):
        logging.getLogger(__name__).warning("%s", note)


def _without_effect(settings: Settings) -> list[str]:
    """Name the settings of prompts that have no effect, as no prompt is sent."""
    if settings.llm not in WITHOUT_LANGUAGE_MODEL:
        return []
    given = {
        "hints_by improvement": settings.hints_by == "improvement",
        f"proposals {settings.proposals}": settings.proposals > 1,
    }
    return [f"{name} has no effect: llm {settings.llm} sends no prompts" for name, on in given.items() if on]


def doubts(components: Components, vocabulary: Sequence[str] | None) -> list[str]:
    """Say why the labels of a run may be poor, a sentence each; for the record.

    Raises:
        UsageError: the generator can make images of none of the words that first scoreboards are made of.
    """
    bank = _absent_from_bank(components, vocabulary or ())
    if bank:
        logging.getLogger(__name__).warning("%s", bank)
    return [*getattr(components.target, "doubts", ()), *([bank] if bank else [])]


def _absent_from_bank(components: Components, vocabulary: Sequence[str]) -> str:
    """Say how many of the words that first scoreboards are made of are not in the image bank."""
    settings = components.settings
    # Plans of images are made where the bank is, not by workers.
    at_hand = components.engine and uses_image_bank(settings.generator)
    generator = components.bank_generator("search") if at_hand else components.generator
    # The classes of the bank's own control set are its captions, and the cache has images of its concepts.
    own = settings.init in FROM_CONTROL_SET and settings.control == "bank"
    if settings.init not in _WORDS or own or not isinstance(generator, ImageBankGenerator):
        return ""
    excluded = {concept_key(concept) for concept in settings.exclude}
    named = dict.fromkeys(map(class_concept, vocabulary))
    words = [word for word in named if word and concept_key(word) not in excluded]
    absent = generator.absent(words, components.progress_for(f"{_WORDS[settings.init]} in the image bank"))
    if not absent:
        return ""
    bundled = settings.generator in BUNDLED
    bank = "the bundled image bank" if bundled else f"the image bank {settings.generator.removeprefix('bank:')}"
    more = ", ..." if len(absent) > _EXAMPLES else ""
    listed = f"({', '.join(absent[:_EXAMPLES])}{more})"
    remedy = (
        "use --generator bank+icons, which has more captions, bank:FOLDER, a folder with images of them, or a "
        "text-to-image model"
        if settings.generator == "bank"
        else "use --generator bank:FOLDER, a folder with images of them, or a text-to-image model"
        if bundled
        else f"add images of them, or use another generator than {settings.generator}"
    )
    if len(absent) == len(words):
        # Other words that can be on a first scoreboard: ImageNet's names, and what a language model proposes.
        own_words = settings.init == "vocabulary" or settings.vocabulary is not None
        other = "--init model" if own_words else "--init vocabulary or --init model"
        raise UsageError(
            f"none of your {_WORDS[settings.init]} {listed} is in {bank}",
            f"{remedy}; or let the search start from other concepts, with {other}",
        )
    return (
        f"{len(absent):,} of {len(words):,} {_WORDS[settings.init]} {listed} are not in {bank} and cannot be on "
        f"an initial scoreboard ({remedy})"
    )
