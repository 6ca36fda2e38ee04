"""Autoencoders in the memory of a Python session: modules, and any function from tokens to latents."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from line_neurons.agent.errors import BackendError, UsageError, reason_of
from line_neurons.agent.text import clean_text

if TYPE_CHECKING:
    from torch import Tensor

    from line_neurons.tools.targets.latents.autoencoder import TokenChoice, TokenPool

IN_MEMORY = "memory:"
"""What the setting ``sae`` begins with where the autoencoder lived in memory."""
_PROBES = 256
_DIGITS = 3


@dataclass(frozen=True)
class CodeInMemory:
    """A function of the user that makes units of the values of tokens.

    Args:
        function: float32 [T, d] to [T, K].
        module: what the function belongs to and is moved with it, if that is a module.
        units: number of units, K.
        identity: what decides the units' values.
        decode: units to tokens, float32 [T, K] to [T, d]; None if there is no such function.
    """

    source: str
    function: Callable[[Tensor], object]
    module: Any
    width: int
    units: int
    identity: str
    unit_names: None = None
    tokens: TokenChoice | None = None
    pool: TokenPool | None = None
    layer: str = ""
    model: str = ""
    decode: Callable[[Tensor], object] | None = None

    @property
    def has_decoder(self) -> bool:
        """Whether it can reconstruct tokens."""
        return self.decode is not None

    def encode(self, values: Tensor) -> Tensor:
        """Compute the units of tokens, float32 [T, d] to [T, K].

        Raises:
            BackendError: the function fails, or gives no such tensor.
        """
        return _encoded(self.function, values, self.source)

    def reconstructed(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return units, reconstruction and what was reconstructed, of tokens [T, d].

        Raises:
            BackendError: a function fails, or gives no such tensor.
        """
        import torch

        assert self.decode is not None
        units = self.encode(values)
        try:
            back = self.decode(units)
        except Exception as error:
            raise BackendError(f"decode of {self.source} failed: {reason_of(error)}") from error
        if not isinstance(back, torch.Tensor) or back.shape != values.shape:
            raise BackendError(f"decode of {self.source} gave no tensor {list(values.shape)}")
        return units, back.float(), values

    def on(self, device: object) -> CodeInMemory:
        """Return the same on a device; a function without a module moves its own tensors."""
        if self.module is None:
            return self
        moved = copy.deepcopy(self.module).eval().to(device)
        return replace(self, module=moved, function=_encoder(moved), decode=_decoder(moved))


def name_in_memory(sae: object) -> str:
    """Return what stands for an autoencoder in memory in the setting ``sae``."""
    owner = getattr(sae, "__self__", sae)
    name = getattr(sae, "__name__", "") if owner is sae else type(owner).__name__
    return f"{IN_MEMORY}{clean_text(name or type(sae).__name__, 60)}"


def code_in_memory(sae: object, width: int) -> CodeInMemory:
    """Make a code of a module with ``encode``, of such a method, or of a function.

    What it returns is the latents, a tuple that ends with them, or has them as ``f_x``. A module is copied. It is
    identified by its tensors; a function by its latents of fixed random tokens.

    Args:
        width: values of a token of the layer.

    Raises:
        UsageError: it is not callable and has no ``encode``, or cannot encode tokens of this width.
    """
    import torch

    name = name_in_memory(sae).removeprefix(IN_MEMORY)
    module = getattr(sae, "__self__", sae)
    if not isinstance(module, torch.nn.Module) or not (callable(getattr(module, "encode", None)) or sae is module):
        module = None
    if module is not None:
        module = copy.deepcopy(module).eval()
        function = _encoder(module)
    elif callable(encode := getattr(sae, "encode", None)):
        function = encode
    elif callable(sae):
        function = sae
    else:
        raise UsageError(
            f"sae is {type(sae).__name__}, which has no encode",
            "give a module with encode, or a function of tokens",
        )
    probes = torch.randn(_PROBES, width, generator=torch.Generator().manual_seed(0))
    try:
        with torch.inference_mode():
            found = _encoded(function, probes, name)
    except BackendError as error:
        raise UsageError(
            f"{error.message} (tokens of the layer have {width:,} values)", "is it of another layer?"
        ) from error
    digest = hashlib.sha256()
    if module is not None:
        digest.update(f"{type(module).__module__}.{type(module).__qualname__}".encode())
        for key, tensor in module.state_dict().items():
            digest.update(f"{key} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    # Attributes such as k are no tensors.
    scale = float(found.abs().max()) or 1.0
    digest.update((found / scale).mul(10**_DIGITS).round().to(torch.int32).cpu().numpy().tobytes())
    decode = _decoder(module if module is not None else getattr(sae, "__self__", sae))
    identity = f"sae={digest.hexdigest()[:16]} (in memory)"
    return CodeInMemory(name, function, module, width, found.shape[1], identity, decode=decode)


def _encoder(module: Any) -> Callable[[Tensor], object]:
    encode = getattr(module, "encode", None)
    found: Callable[[Tensor], object] = encode if callable(encode) else module
    return found


def _decoder(owner: object) -> Callable[[Tensor], object] | None:
    decode = getattr(owner, "decode", None)
    return decode if callable(decode) else None


def _encoded(function: Callable[[Tensor], object], values: Tensor, name: str) -> Tensor:
    import torch

    try:
        found = function(values)
    except Exception as error:
        raise BackendError(f"encode of {name} failed: {reason_of(error)}", "--debug shows where") from error
    found = getattr(found, "f_x", found)
    if isinstance(found, (tuple, list)) and found:
        found = found[-1]
    if not isinstance(found, torch.Tensor) or found.ndim != 2 or len(found) != len(values):
        shape = list(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
        raise BackendError(f"encode of {name} gave {shape} for {len(values)} tokens, not [{len(values)}, K]")
    return found.float()
