"""Where models come from, by the prefix of their specs; nothing is imported until one is opened."""

from __future__ import annotations

from collections.abc import Mapping

IN_MEMORY = "memory"
"""The prefix of a module that was handed over in Python, and of no file."""

SOURCES: Mapping[str, str] = {
    "torchvision": "torchvision_models.open_torchvision",
    "timm": "timm_models.open_timm",
    "hf": "transformers_models.open_hub",
    "places365": "published_resnet50.open_places365",
    "robust": "published_resnet50.open_robust",
    "keras": "keras_resnet50.open_keras",
    IN_MEMORY: "custom_module.refuse_absent",
}
"""The function of this package that opens each."""


def is_own_function(spec: str) -> bool:
    """Tell whether a spec names a function of the user's own, which is code to be run."""
    prefix, colon, _ = spec.partition(":")
    return bool(colon) and prefix not in SOURCES
