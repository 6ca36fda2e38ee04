"""Directions and probes as units: the projection of a token on a vector."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from line_neurons.agent.errors import UsageError
from line_neurons.agent.text import clean_text
from line_neurons.tools.array_files import UNREADABLE, read_arrays
from line_neurons.tools.json_text import loads
from line_neurons.tools.store.atomic_files import write_file
from line_neurons.tools.targets.latents.autoencoder import TokenChoice, TokenPool
from line_neurons.tools.targets.weights.files import WeightsFile, read_checkpoint

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

_NAMES = ("directions", "weight", "W_dec")
_REMEDY = "give .npz or .safetensors with directions [K, d], and perhaps bias [K] and names [K]"


@dataclass(frozen=True)
class Directions:
    """Directions of the values of a token; unit k is <x, v_k> / |v_k| + b_k.

    Args:
        vectors: float32 [K, d], of length 1.
        bias: [K].
        unit_names: names of the units; None if they have none.
        tokens: the tokens that they are made for; None if that is not known.
        pool: how the tokens of an image become one number where the user does not say; None: the largest.
        random: for units that separate their images no better than random splits, what is known of them.
    """

    source: str
    vectors: Tensor
    bias: Tensor
    unit_names: Sequence[str] | None = None
    tokens: TokenChoice | None = None
    pool: TokenPool | None = None
    layer: str = ""
    model: str = ""
    random: Mapping[int, str] = field(default_factory=dict)

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
        return f"directions={found.hexdigest()[:16]}{f' pool={self.pool}' if self.pool else ''}"

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
    ``bias`` [K]; an ``.npz`` file perhaps ``names`` [K], and what ``write_directions`` records of a fit.

    Raises:
        UsageError: it cannot be read, has pickled objects or several of these, or its arrays do not fit.
    """
    import torch

    found, names, record = _read(path)
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
    plain = Directions(str(path), vectors / lengths[:, None], bias, names)
    return plain if record is None else _recorded(plain, record)


def write_directions(
    path: Path,
    vectors: NDArray[np.float64],
    bias: NDArray[np.float64],
    names: Sequence[str],
    record: Mapping[str, Any],
) -> None:
    """Write a file that ``read_directions`` reads.

    Args:
        path: ends with ``.npz``.
        vectors: [K, d], of length 1.
        bias: [K].
        record: ``model``, ``layer``, ``tokens`` (None where there are none) and ``pool`` that they were fitted
            with, and ``directions``: for each its ``name``, what it is worth, and whether it ``is_random``.

    Raises:
        UsageError: it cannot be written.
    """
    import numpy as np

    content = BytesIO()
    np.savez(
        content,
        directions=vectors.astype(np.float32),
        bias=bias.astype(np.float32),
        names=np.array(names),
        fit=np.array(json.dumps(record)),
    )
    write_file(path, content.getvalue())


def _recorded(plain: Directions, text: str) -> Directions:
    """Return directions with what the record of their fit says."""
    try:
        record = loads(text)
        fits = record["directions"]
        if len(fits) != plain.units or record["tokens"] not in {None, *get_args(TokenChoice)}:
            raise ValueError("it is of other directions")
        if record["pool"] not in get_args(TokenPool):
            raise ValueError(f"its pool is {record['pool']!r:.40}")
        random = {
            unit: f"AUC {float(fit['auc']):.2f}, random splits up to {float(fit['random_auc']):.2f}"
            for unit, fit in enumerate(fits)
            if fit["is_random"]
        }
        layer, model = (clean_text(record[name], 200) for name in ("layer", "model"))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(
            f"the record of the fit in {plain.source} cannot be read: {clean_text(str(error), 100)}",
            "fit the directions again with `line direction fit`",
        ) from error
    return replace(plain, tokens=record["tokens"], pool=record["pool"], layer=layer, model=model, random=random)


def _read(path: Path) -> tuple[dict[str, Tensor], Sequence[str] | None, str | None]:
    """Return the arrays of a file by name, the names of its units, and the record of a fit."""
    import torch

    names: Sequence[str] | None = None
    record: str | None = None
    if not path.is_file():
        raise UsageError(f"there is no file of directions {str(path)!r:.200}", _REMEDY)
    try:
        if path.suffix == ".npz":
            arrays = read_arrays(path, (*_NAMES, "bias", "names", "fit"))
            texts = {name: arrays.pop(name, None) for name in ("names", "fit")}
            if any(array.dtype.kind not in "fiu" for array in arrays.values()):
                raise ValueError("its arrays are no numbers")
            if any(listed is not None and listed.dtype.kind != "U" for listed in texts.values()):
                raise ValueError("its names are no text")
            found = {name: torch.from_numpy(array).float() for name, array in arrays.items()}
            if texts["names"] is not None:
                names = [clean_text(str(name), 100) for name in texts["names"].flatten()]
            record = str(texts["fit"]) if texts["fit"] is not None else None
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
    return found, names, record
