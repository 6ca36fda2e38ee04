"""Explain why a model does not take images as a batch [N, 3, H, W]: cause and remedy."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING

from line_neurons.agent.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

_IMAGES = "pixel_values"
# What a convolution of torch and the patch embeddings of transformers raise.
_CHANNELS = re.compile(
    r"to have (?P<wanted>\d+) channels, but got (?P<given>\d+) channels"
    r"|channel dimension of the pixel values.*Expected (?P<other>\d+) but got (?P<their>\d+)"
)
_TEXTS = ("input_ids", "inputs_embeds", "text", "tokens", "token_ids")


def unfit_input(model: nn.Module, name: str, error: Exception, argument: str = "") -> UsageError | None:
    """Explain why an image failed as input; None if it is not the cause.

    ``argument`` is the forward argument that takes the images; the first one if empty.
    """
    others = _other_inputs(model, argument)
    if others:
        return UsageError(
            f"the forward pass of {name} wants more than images: {', '.join(others):.100}",
            "explain the module that takes only images (of CLIP and its kin model.vision_model, or hf:NAME), or "
            "wrap it in a module with a forward(images) that fills in the rest",
        )
    if found := _CHANNELS.search(str(error)):
        wanted, given = found["wanted"] or found["other"], found["given"] or found["their"]
        return UsageError(
            f"{name} takes images of {wanted} channel{'' if wanted == '1' else 's'}, and its preprocessing gives"
            f" {given}",
            f"give a transform that makes [{wanted}, H, W] of an RGB image: transform= in Python, or a function "
            "that returns (module, transform): FILE.py:FUNCTION",
        )
    return None


def _other_inputs(model: nn.Module, argument: str) -> list[str]:
    """List the required inputs of a forward pass other than the images."""
    try:
        taken = list(inspect.signature(model.forward).parameters.values())
    except (TypeError, ValueError):
        return []
    named = [
        parameter
        for parameter in taken
        if parameter.kind in {parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD}
    ]
    images = argument or (named[0].name if named else "")
    needed = [
        parameter.name for parameter in named if parameter.default is parameter.empty and parameter.name != images
    ]
    if not argument and images in _TEXTS:
        # Models of images and text have both as keywords, the text first.
        return [images, *(name for name in needed if name != _IMAGES)]
    return needed
