"""Open a target from its spec, ``torchvision:mobilenet_v2``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

from line_neurons.agent.errors import MissingPartError, UsageError
from line_neurons.tools.packages import missing_package
from line_neurons.tools.targets.base import ModelBundle, Wanted
from line_neurons.tools.targets.hooked_target import HookedTarget
from line_neurons.tools.targets.sources import IN_MEMORY, SOURCES

if TYPE_CHECKING:
    from line_neurons.agent.diffusion_settings import Precision
    from line_neurons.agent.settings import Pool

_PINNED = {"torchvision": "torchvision_models.pinned", "timm": "timm_models.pinned"}


def open_target(
    spec: str,
    *,
    assets: Path | None = None,
    weights: Path | None = None,
    pool: Pool = "auto",
    layout: Sequence[str] = (),
    precision: Precision = "float32",
    channels_last: bool = False,
    device: str = "auto",
    batch_size: int | None = None,
    download: bool = False,
) -> HookedTarget:
    """The target that ``spec`` names; its weights are looked for and hashed here, and loaded on first use.

    Args:
        spec: ``prefix:model``, or ``package.module:function`` or ``path/to/file.py:function`` for a function
            that returns a module.
        assets: folder of the installed asset packs.
        weights: a checkpoint of the user's own, instead of the official weights.
        pool: how a map or tokens become one number a unit.
        layout: where the units of layers are of which that cannot be known; see the setting.
        precision: of weights and forward pass.
        channels_last: memory layout of the convolutions.
        device: ``auto``, or a torch device such as ``cpu`` or ``cuda:1``.
        batch_size: images in each forward pass; the target's own choice if None.
        download: let the library fetch official weights that are not here.

    Raises:
        UsageError: no such prefix, model, weights or device, or the function fails.
        MissingPartError: the library is not installed, or weights are not here.
    """
    prefix, colon, model = spec.partition(":")
    if not colon or not model or not prefix:
        raise UsageError(f"{spec!r} names no model", f"a model starts with {known_prefixes()}")
    _require_torchvision()
    wanted = Wanted(model, weights, assets, download)
    if prefix in SOURCES:
        module, _, function = SOURCES[prefix].partition(".")
        source = getattr(import_module(f"line_neurons.tools.targets.{module}"), function)
        network = cast(Callable[[Wanted], ModelBundle], source)(wanted)
    else:
        from line_neurons.tools.targets.custom_function import open_function

        network = open_function(spec, wanted)
    return HookedTarget(
        network,
        pool=pool,
        layout=layout,
        precision=precision,
        channels_last=channels_last,
        device=device,
        batch_size=batch_size,
    )


def pinned_spec(spec: str) -> str:
    """The spec with the version of the weights that it stands for where it names none; else as it is.

    Only names are looked at, so that one of the hub's repositories stays as it is.
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


def absolute_spec(spec: str) -> str:
    """The spec with the file or folder that it names as an absolute path, to name the same model from anywhere.

    A module of one file in the current folder becomes that file; other specs stay as they are.
    """
    before, path, after = _placed(spec)
    return f"{before}{path.expanduser().absolute()}{after}" if path else spec


def short_spec(spec: str) -> str:
    """The spec with the file or folder that it names by name alone, wherever that lies."""
    before, path, after = _placed(spec)
    return f"{before}{path.expanduser().absolute().name}{after}" if path else spec


def _placed(spec: str) -> tuple[str, Path | None, str]:
    """What stands before the path of a file or folder in a spec, the path, and what stands behind it."""
    prefix, _, model = spec.partition(":")
    if prefix == "hf" and model and Path(model).expanduser().is_dir():
        return "hf:", Path(model), ""
    place, _, function = spec.rpartition(":")
    if prefix in SOURCES or not place:
        return spec, None, ""
    if place.endswith(".py"):
        return "", Path(place), f":{function}"
    file = Path(f"{place}.py")
    return ("", file, f":{function}") if place.isidentifier() and file.is_file() else (spec, None, "")


def known_prefixes() -> str:
    """How specs can begin, in words."""
    names = ", ".join(f"{name}:" for name in SOURCES if name != IN_MEMORY)
    return f"{names} as in torchvision:mobilenet_v2, or is MODULE:FUNCTION"


def _require_torchvision() -> None:
    try:
        import torchvision  # noqa: F401
    except (ImportError, OSError, MemoryError) as error:
        raise missing_package(error, "torch and torchvision", "pip install 'line-neurons[torch]'") from error
    except RuntimeError as error:
        # A torchvision built for another torch fails while it registers its operators.
        raise MissingPartError(
            f"torch and torchvision do not fit each other: {str(error).splitlines()[0]}",
            "pip install 'line-neurons[torch]' brings the pair",
        ) from error
