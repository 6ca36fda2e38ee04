"""Open a target from its spec, ``torchvision:mobilenet_v2``."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from line_neurons.agent.errors import MissingPartError
from line_neurons.tools.packages import missing_package, pip_install
from line_neurons.tools.target_specs import SOURCES
from line_neurons.tools.targets.base import ModelBundle, ModelRequest
from line_neurons.tools.targets.hooked_target import HookedTarget
from line_neurons.tools.targets.model_names import check_model

_PINNED = {"torchvision": "torchvision_models.pinned", "timm": "timm_models.pinned"}


def open_target(
    spec: str,
    *,
    assets: Path | None = None,
    weights: Path | None = None,
    download: bool = False,
    **options: Any,
) -> HookedTarget:
    """Open the target of ``spec``; see ``open_network``, and ``HookedTarget`` for the options.

    Raises:
        UsageError: no such prefix, model, weights or device, or the function fails.
        MissingPartError: the library is not installed, or weights are missing.
    """
    return HookedTarget(open_network(spec, assets=assets, weights=weights, download=download), **options)


def open_network(
    spec: str, *, assets: Path | None = None, weights: Path | None = None, download: bool = False
) -> ModelBundle:
    """Open the vision model of ``spec``; weights are hashed now and loaded on first use.

    Args:
        spec: ``prefix:model``, or ``package.module:function`` or ``path/to/file.py:function`` for a function that
            returns a module.
        weights: a user's own checkpoint, instead of the official weights.

    Raises:
        UsageError: no such prefix, model or weights, or the function fails.
        MissingPartError: the library is not installed, or weights are missing.
    """
    check_model(spec)
    prefix, _, model = spec.partition(":")
    _require_torchvision()
    request = ModelRequest(model, weights, assets, download)
    if prefix in SOURCES:
        module, _, function = SOURCES[prefix].rpartition(".")
        source = getattr(import_module(f"line_neurons.tools.targets.{module}"), function)
        return cast(Callable[[ModelRequest], ModelBundle], source)(request)
    from line_neurons.tools.targets.custom import open_function

    return open_function(spec, request)


def pinned_spec(spec: str) -> str:
    """Add the default version of the weights to a spec that names none.

    Only names are looked up, so that a repository of the hub stays as it is.
    """
    prefix, _, model = spec.partition(":")
    if prefix not in _PINNED or not model:
        return spec
    module, _, function = _PINNED[prefix].partition(".")
    pinned = cast(Callable[[str], str], getattr(import_module(f"line_neurons.tools.targets.{module}"), function))
    try:
        return f"{prefix}:{pinned(model)}"
    except ImportError:
        return spec


def _require_torchvision() -> None:
    try:
        import torchvision  # noqa: F401
    except (ImportError, OSError, MemoryError) as error:
        raise missing_package(error, "torch and torchvision", pip_install("torch")) from error
    except RuntimeError as error:
        # A torchvision built for another torch fails while it registers its operators.
        raise MissingPartError(
            f"torch and torchvision do not fit each other: {str(error).splitlines()[0]}",
            f"{pip_install('torch')} brings the pair",
        ) from error
