"""Check before a run that what makes its units, an autoencoder or directions, fits the layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from line_neurons.agent.errors import BackendError, UsageError
from line_neurons.graphs.runs.components import Components
from line_neurons.tools.component_opening import target_of
from line_neurons.tools.control_sets import PrecomputedControl
from line_neurons.tools.targets.latents.autoencoder import SparseAutoencoder
from line_neurons.tools.targets.latents.directions import Directions
from line_neurons.tools.targets.latents.memory import CodeInMemory
from line_neurons.tools.targets.latents.names import base_layer
from line_neurons.tools.targets.latents.reconstruction import Reconstruction, input_variants, reconstruction
from line_neurons.tools.targets.latents.target import LatentTarget

if TYPE_CHECKING:
    from torch import Tensor

    from line_neurons.agent.ports import ControlSet

CHECKED_IMAGES = 64
POOR = 0.5
"""Explained variance below which a run is marked."""
SYSTEMATIC = 0.15
"""Share of the unexplained variance that a trained autoencoder would not leave, above which one is refused."""
_NOTED = 0.1
"""The same share above which a run is marked."""
_CLEARLY_LESS = 0.8
"""Share of the variance that stays unexplained, below which another treatment of the input is the right one."""
_PARTS = 8
_REMEDY = "check the layer, --tokens, --sae-input and --sae-activation, or insist with --sae-force"


def check_code(components: Components, layer: str, units: Sequence[int]) -> tuple[str, bool]:
    """Say how well what makes the units fits the layer, and whether labels are in doubt for it.

    Returns:
        a sentence, empty where the units are the layer's own or nothing is to be said; and whether labels may be
        wrong.

    Raises:
        UsageError: an autoencoder or directions do not fit the layer, and the user does not insist.
    """
    target = components.target
    if not isinstance(target, LatentTarget):
        if components.settings.sae is None and components.settings.directions is None:
            return "", False
        # Workers have the target of the run; the few images here are no work.
        settings = components.settings.model_copy(update={"device": "cpu", "target_device": ""})
        target = target_of(settings, components.model, components.bundle, components.assets)
        assert isinstance(target, LatentTarget)
    code = target.code
    insisted = components.settings.sae_force
    if not insisted and code.layer not in {"", base_layer(layer)} and target.has_layer(code.layer):
        raise UsageError(
            f"{code.source} says that it is of the layer {code.layer}, not {base_layer(layer)}",
            "name that layer, or insist with --sae-force",
        )
    if isinstance(code, Directions):
        return random_directions(code, units)
    if not isinstance(code, SparseAutoencoder | CodeInMemory):
        return "", False
    images = _sample(components)
    if not images:
        return f"{code.source} was not checked on {base_layer(layer)}: there are no control images", True
    verdict = judge(code, target.tokens(images, layer), base_layer(layer), len(images))
    if verdict.refused and not insisted:
        raise UsageError(verdict.text, verdict.remedy)
    if verdict.refused:
        return f"{verdict.text}; {verdict.remedy}", True
    return verdict.text, verdict.doubtful


def random_directions(code: Directions, units: Sequence[int]) -> tuple[str, bool]:
    """Say which of the units are directions that separate their images no better than random ones."""
    random = [unit for unit in units if unit in code.random]
    if not random:
        return "", False
    names = code.unit_names
    listed = "; ".join(f"{names[unit] if names else unit} ({code.random[unit]})" for unit in random[:_PARTS])
    return f"directions of {code.source} no better than random, of which a label means nothing: {listed}", True


@dataclass(frozen=True)
class Verdict:
    """What the check of a reconstruction comes to.

    Args:
        text: a sentence with the numbers.
        remedy: what to do; empty if nothing is to be done.
        refused: the autoencoder does not fit.
        doubtful: labels may be wrong.
    """

    text: str
    remedy: str = ""
    refused: bool = False
    doubtful: bool = False


def judge(sae: SparseAutoencoder | CodeInMemory, tokens: Tensor, layer: str, images: int) -> Verdict:
    """Judge whether an autoencoder was trained on tokens like these, float32 [n, d].

    It is refused if it explains less than the mean of the tokens does; if another treatment of b_dec or of its
    input explains clearly more; or if its error is one that training removes: a trained autoencoder can reduce its
    squared error neither by a constant nor by rescaling its reconstruction.
    """
    import torch

    try:
        with torch.inference_mode():
            found = reconstruction(tokens, sae)
    except BackendError as error:
        return Verdict(f"{error.message}: nothing tells whether {sae.source} fits the layer", doubtful=True)
    explains = "" if found.explained is None else f" explains {found.explained:.2f} of {layer}"
    text = (
        f"{sae.source}{explains} on {images} images, {found.active:.1f} latents a token,"
        f" {found.seen:.0%} of {sae.units:,} seen"
    )
    if found.explained is None:
        return Verdict(f"{text}; without a decoder nothing tells whether it fits the layer", doubtful=True)
    return _judged(sae, tokens, found, found.explained, text)


def _judged(
    sae: SparseAutoencoder | CodeInMemory, tokens: Tensor, found: Reconstruction, explained: float, text: str
) -> Verdict:
    better = _better_variant(sae, tokens, explained) if isinstance(sae, SparseAutoencoder) else ""
    if isinstance(sae, SparseAutoencoder) and (sae.after is None or not bool(sae.after.any())):
        text += ", without a b_dec" if sae.after is None else ", with a b_dec of zeros"
    if better:
        return Verdict(text, f"{better}, or insist with --sae-force", refused=True)
    if explained < 0:
        return Verdict(
            f"{text}: it was not trained on this, but on another layer, other tokens or another normalisation",
            _REMEDY,
            refused=True,
        )
    if found.systematic > SYSTEMATIC:
        cause = (
            "it is of another layer, its b_dec is missing or wrong, or its input has to be centred"
            if found.constant > found.systematic / 2
            else "it is of another layer or of other tokens, or its input has to be normalised"
        )
        share = f"{found.systematic:.0%} of its error is a wrong shift or scale, which training removes"
        return Verdict(f"{text}: {share}; {cause}", _REMEDY, refused=True)
    if explained < POOR or found.systematic > _NOTED:
        return Verdict(f"{text}: its latents may mean something else here", doubtful=True)
    return Verdict(text)


def _better_variant(sae: SparseAutoencoder, tokens: Tensor, explained: float) -> str:
    """Return the remedy that explains clearly more of the tokens; empty if there is none."""
    others = {}
    for remedy, variant in input_variants(tokens, sae).items():
        other = reconstruction(tokens, variant).explained
        if other is not None and other > 0 and 1 - other < _CLEARLY_LESS * (1 - explained):
            others[remedy] = other
    if not others:
        return ""
    best = max(others, key=lambda remedy: others[remedy])
    known = "" if best in sae.variants() else "check the layer and --tokens; if they are right, "
    return f"{known}with {best} it explains {others[best]:.2f}"


def _sample(components: Components) -> list[bytes]:
    """Return some images of the control set, from several places of it."""
    source = components.control_set
    if source is None or isinstance(source, PrecomputedControl):
        return []
    total = source.total or 1
    starts = sorted({place * total // _PARTS for place in range(_PARTS)})
    share = -(-CHECKED_IMAGES // len(starts))
    return [image for start in starts for image in _images(source, start, share)][:CHECKED_IMAGES]


def _images(source: ControlSet, start: int, count: int) -> list[bytes]:
    found: list[bytes] = []
    for chunk in source.chunks(start):
        # Evenly spread, since neighbours are of one class.
        step = max(1, len(chunk.images) // (count - len(found)))
        found += islice(chunk.images[::step], count - len(found))
        if len(found) >= count:
            break
    return found
