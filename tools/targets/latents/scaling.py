"""Read what a sparse autoencoder's input is shifted and scaled by, where its file does not say."""

from __future__ import annotations

from pathlib import Path

from line_neurons.agent.errors import UsageError
from line_neurons.agent.text import clean_text
from line_neurons.tools.array_files import UNREADABLE, read_arrays
from line_neurons.tools.targets.latents.autoencoder import InputScaling
from line_neurons.tools.targets.weights.files import WeightsFile, read_checkpoint


def read_scaling(path: Path, width: int) -> InputScaling:
    """Read mean, scale and perhaps clamp of an ``.npz`` or ``.safetensors`` file.

    Raises:
        UsageError: it cannot be read, or has no such numbers for ``width`` values.
    """
    import torch

    names = ("mean", "scale", "scalar", "clamp")
    try:
        if path.suffix == ".npz":
            arrays = read_arrays(path, names)
            found = {name: torch.from_numpy(array).float() for name, array in arrays.items()}
        else:
            checkpoint = read_checkpoint(WeightsFile(path))
            found = {key[-1]: value.float() for key, value in checkpoint.tensors.items() if key[-1] in names}
    except (*UNREADABLE, TypeError) as error:
        raise UsageError(
            f"{path} cannot be read: {clean_text(str(error), 200)}", "give .npz or .safetensors"
        ) from error
    mean = found.get("mean", torch.zeros(1))
    scale = found.get("scale", found.get("scalar", torch.ones(1)))
    if not found or mean.shape not in {(width,), (1,), ()} or scale.shape not in {(width,), (1,), ()}:
        raise UsageError(
            f"{path} has no mean and scale of {width} values",
            f"save the arrays mean [{width}] and scale [1] or [{width}], and perhaps clamp [1]",
        )
    if not bool((scale != 0).all()) or not all(bool(value.isfinite().all()) for value in found.values()):
        raise UsageError(f"{path} has a scale of 0, or values that are not finite", "save it again")
    clamp = float(found["clamp"].flatten()[0]) if "clamp" in found else None
    return InputScaling(mean.expand(width) if mean.ndim else mean, scale, clamp)
