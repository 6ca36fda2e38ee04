"""Directions and probes as units: the projection of a token on a vector."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from line_neurons.agent.errors import UsageError
from line_neurons.agent.text import clean_text
from line_neurons.tools.array_files import UNREADABLE, read_arrays
from line_neurons.tools.targets.weights.files import WeightsFile, read_checkpoint

if TYPE_CHECKING:
    from torch import Tensor

    from line_neurons.tools.targets.latents.autoencoder import TokenChoice

_NAMES = ("directions", "weight", "W_dec")
_REMEDY = "give .npz or .safetensors with directions [K, d], and perhaps bias [K] and names [K]"


@dataclass(frozen=True)
class Directions:
    """Directions of the values of a token; unit k is <x, v_k> / |v_k| + b_k.

    Args:
        source: the file, for messages.
        vectors: float32 [K, d], of length 1.
        bias: [K].
        unit_names: names of the units; None if they have none.
        tokens: the tokens that they are made for; None if that is not known.
        layer: the layer that they are of, if that is known.
    """

    source: str
    vectors: Tensor
    bias: Tensor
    unit_names: Sequence[str] | None = None
    tokens: TokenChoice | None = None
    layer: str = ""

    @property
    def width(self) -> int:
        """Values of a token, d."""
        return self.vectors.shape[1]

    @property
    def units(self) -> int:
        """Number of directions, K."""
        return self.vectors.shape[0]

    @property
    def identity(self) -> str:
        """What decides the units' values, for fingerprints."""
        found = hashlib.sha256()
        for tensor in (self.vectors, self.bias):
            found.update(tensor.cpu().contiguous().numpy().tobytes())
        return f"directions={found.hexdigest()[:16]}"

    def encode(self, values: Tensor) -> Tensor:
        """Compute the units of tokens, float32 [T, d] to [T, K]."""
        return values @ self.vectors.T + self.bias

    def on(self, device: object) -> Directions:
        """Return the same on a device."""
        vectors, bias = self.vectors.to(device), self.bias.to(device)  # type: ignore[call-overload]
        return replace(self, vectors=vectors, bias=bias)


def read_directions(path: Path) -> Directions:
    """Read directions of an ``.npz`` or ``.safetensors`` file, or the weights of a linear probe.

    The file has ``directions`` [K, d] (or [d]), ``weight`` of a probe, or ``W_dec`` of an autoencoder; perhaps
    ``bias`` [K]; an ``.npz`` file perhaps ``names`` [K].

    Raises:
        UsageError: it cannot be read, has pickled objects or several of these, or its arrays do not fit.
    """
    import torch

    found, names = _read(path)
    given = [name for name in _NAMES if name in found]
    if len(given) != 1:
        has = f"has {' and '.join(given)}" if given else f"has none of {', '.join(_NAMES)}"
        raise UsageError(f"the file of directions {path} {has}", _REMEDY)
    vectors = found[given[0]]
    vectors = vectors[None] if vectors.ndim == 1 else vectors
    lengths = vectors.norm(dim=1) if vectors.ndim == 2 else torch.zeros(1)
    if vectors.ndim != 2 or not bool((lengths > 0).all()) or not bool(vectors.isfinite().all()):
        raise UsageError(f"the directions of {path} are no vectors [K, d] of finite length above 0", _REMEDY)
    bias = found["bias"].flatten() if "bias" in found else torch.zeros(len(vectors))
    if len(bias) != len(vectors) or not bool(bias.isfinite().all()):
        raise UsageError(f"{path} has {len(vectors)} directions and {len(bias)} finite values of bias", _REMEDY)
    if names is not None and (len(names) != len(vectors) or len(set(names)) < len(names)):
        raise UsageError(f"{path} has {len(vectors)} directions, and not as many different names", _REMEDY)
    return Directions(str(path), vectors / lengths[:, None], bias, names)


def _read(path: Path) -> tuple[dict[str, Tensor], Sequence[str] | None]:
    """Return the arrays of a file by name, and the names of its units."""
    import torch

    names: Sequence[str] | None = None
    if not path.is_file():
        raise UsageError(f"there is no file of directions {str(path)!r:.200}", _REMEDY)
    try:
        if path.suffix == ".npz":
            arrays = read_arrays(path, (*_NAMES, "bias", "names"))
            listed = arrays.pop("names", None)
            if any(array.dtype.kind not in "fiu" for array in arrays.values()):
                raise ValueError("its arrays are no numbers")
            found = {name: torch.from_numpy(array).float() for name, array in arrays.items()}
            if listed is not None:
                if listed.dtype.kind != "U":
                    raise ValueError("its names are no text")
                names = [clean_text(str(name), 100) for name in listed.flatten()]
        else:
            tensors = read_checkpoint(WeightsFile(path)).tensors
            found = {}
            for key, value in tensors.items():
                name = key[-1].rpartition(".")[2]
                if name in {*_NAMES, "bias"}:
                    if name in found:
                        raise UsageError(f"{path} has several tensors {name}", "give one probe")
                    found[name] = value.float()
    except (*UNREADABLE, TypeError) as error:
        raise UsageError(f"{path} cannot be read: {clean_text(str(error), 200)}", _REMEDY) from error
    return found, names
