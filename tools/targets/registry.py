"""Open a target from its spec, ``torchvision:mobilenet_v2``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

from line_neurons.agent.errors import MissingPartError
from line_neurons.tools.packages import missing_package, pip_install
from line_neurons.tools.target_specs import SOURCES
from line_neurons.tools.targets.base import ModelBundle, ModelRequest
from line_neurons.tools.targets.hooked_target import HookedTarget
from line_neurons.tools.targets.model_names import check_model

if TYPE_CHECKING:
    from line_neurons.agent.diffusion_settings import Precision
    from line_neurons.agent.setting_groups.target import Pool, QueryPool

_PINNED = {"torchvision": "torchvision_models.pinned", "timm": "timm_models.pinned"}


def open_target(
    spec: str,
    *,
    assets: Path | None = None,
    weights: Path | None = None,
    pool: Pool = "auto",
    query_pool: QueryPool = "max",
    layout: Sequence[str] = (),
    precision: Precision = "float32",
    channels_last: bool = False,
    device: str = "auto",
    batch_size: int | None = None,
    download: bool = False,
) -> HookedTarget:
    """Open the target of ``spec``; weights are hashed now and loaded on first use.

    Args:
        spec: ``prefix:model``, or ``package.module:function`` or ``path/to/file.py:function`` for a function that
            returns a module.
        assets: folder of the installed asset packs.
        weights: a user's own checkpoint, instead of the official weights.
        pool: how a map or tokens become one number per unit.
        query_pool: what pool ``auto`` is for tokens that are a detector's queries.
        layout: where the units are in layers for which that cannot be determined; see the setting.
        precision: of weights and forward pass.
        channels_last: memory layout of the convolutions.
        device: ``auto``, or a torch device such as ``cpu`` or ``cuda:1``.
        batch_size: images in each forward pass; the target's own choice if None.
        download: let the library download missing official weights.

    Raises:
        UsageError: no such prefix, model, weights or device, or the function fails.
        MissingPartError: the library is not installed, or weights are missing.
    """
    check_model(spec)
    prefix, _, model = spec.partition(":")
    _require_torchvision()
    request = ModelRequest(model, weights, assets, download)
    if prefix in SOURCES:
        module, _, function = SOURCES[prefix].rpartition(".")
        source = getattr(import_module(f"line_neurons.tools.targets.{module}"), function)
        network = cast(Callable[[ModelRequest], ModelBundle], source)(request)
    else:
        from line_neurons.tools.targets.custom import open_function

        network = open_function(spec, request)
    return HookedTarget(
        network,
        pool=pool,
        query_pool=query_pool,
        layout=layout,
        precision=precision,
        channels_last=channels_last,
        device=device,
        batch_size=batch_size,
    )


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
