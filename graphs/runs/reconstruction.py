"""Check before a run that a sparse autoencoder reconstructs the layer that it is to explain."""

from __future__ import annotations

import logging
from itertools import islice
from typing import TYPE_CHECKING

from line_neurons.agent.errors import UsageError
from line_neurons.graphs.runs.components import Components
from line_neurons.tools.component_opening import target_of
from line_neurons.tools.control_sets import PrecomputedControl
from line_neurons.tools.targets.latents.autoencoder import SparseAutoencoder
from line_neurons.tools.targets.latents.names import base_layer
from line_neurons.tools.targets.latents.target import LatentTarget, Reconstruction

if TYPE_CHECKING:
    from line_neurons.agent.ports import ControlSet

CHECKED_IMAGES = 64
POOR = 0.5
"""Explained variance below which a run is marked."""
_CLEARLY_LESS = 0.8
"""Share of the variance that stays unexplained, below which the other treatment of b_dec is pointed out."""
_PARTS = 8

logger = logging.getLogger(__name__)


def check_reconstruction(components: Components, layer: str) -> tuple[str, bool]:
    """Say how well the autoencoder of a layer reconstructs it, and whether labels are in doubt for it.

    Returns:
        a sentence, empty where the layer has no autoencoder; and whether labels may be wrong.

    Raises:
        UsageError: it explains less than the mean of the tokens does, and the user does not insist.
    """
    target = components.target
    if not isinstance(target, LatentTarget):
        if components.settings.sae is None:
            return "", False
        # Workers have the target of the run; the few images here are no work.
        settings = components.settings.model_copy(update={"device": "cpu", "target_device": ""})
        target = target_of(settings, components.model, components.bundle, components.assets)
        assert isinstance(target, LatentTarget)
    sae = target.code
    if not isinstance(sae, SparseAutoencoder):
        return "", False
    insisted = components.settings.sae_force
    if not insisted and sae.layer != base_layer(layer) and target.has_layer(sae.layer):
        raise UsageError(
            f"the configuration of {sae.source} names the layer {sae.layer}, not {base_layer(layer)}",
            "name that layer, or insist with --sae-force",
        )
    images = _sample(components)
    if not images:
        return f"{sae.source} was not checked on {base_layer(layer)}: there are no control images", True
    found = target.reconstruction(images, layer, sae)
    text = _sentence(sae, layer, found)
    if found.explained is None:
        return f"{text}; without a decoder nothing tells whether it fits the layer", True
    hint = ""
    for flag, variant in sae.variants().items():
        other = target.reconstruction(images, layer, variant).explained
        if other is not None and other > POOR and 1 - other < _CLEARLY_LESS * (1 - found.explained):
            hint = f"with {flag} it explains {other:.2f}"
    if found.explained < 0 and not insisted:
        raise UsageError(
            f"{text}: it was not trained on this, but on another layer, other tokens or another normalisation",
            hint or "check the layer, --tokens, --sae-input and --sae-activation, or insist with --sae-force",
        )
    if hint:
        return f"{text}; {hint}", True
    poor = found.explained < POOR
    return f"{text}: its latents may mean something else here" if poor else text, poor


def _sentence(sae: SparseAutoencoder, layer: str, found: Reconstruction) -> str:
    explains = "" if found.explained is None else f" explains {found.explained:.2f} of {base_layer(layer)}"
    return (
        f"{sae.source}{explains} on {found.images} images, {found.active:.1f} latents a token,"
        f" {found.seen:.0%} of {sae.units:,} seen"
    )


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
