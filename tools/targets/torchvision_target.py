"""Any torchvision classification model as a target."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from line_neurons.agent.errors import BackendError, MissingPartError, UsageError
from line_neurons.agent.ports import LayerInfo, Progress
from line_neurons.tools.targets.layer_outputs import Pooling, Tokens, find_layers, first_tensor, hooked, pool
from line_neurons.tools.targets.lookup import find_layer
from line_neurons.tools.targets.weights import WeightsFile, find_recipe, find_weights, read_state

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from line_neurons.agent.ports import Activations

# A CPU is as fast with a few pictures as with many, and five are one concept's; a GPU wants more.
_CPU_BATCH = 5
_GPU_BATCH = 32


class TorchvisionTarget:
    """A torchvision classification model, hooked at any layer.

    Every forward pass has the same batch shape, short batches being filled up: a picture's activations are
    then the same bits whatever it is batched with, on one machine with one number of threads.

    Args:
        model: ``mobilenet_v2``, or ``resnet50@IMAGENET1K_V1`` for one of several official weights.
        assets: folder of the asset packs.
        weights: a checkpoint of the user's own; the number of classes is read from it.
        pooling: of convolutional outputs, over H and W.
        tokens: of transformer outputs, over the tokens.
        device: ``auto`` (CUDA if there is one), or a torch device.
        batch_size: pictures in each forward pass; 5 on a CPU and 32 on a GPU if None.
        download: let torchvision fetch official weights that are not here.

    Raises:
        UsageError: no such model, official weights or device.
        MissingPartError: torch or torchvision is not installed, or they do not fit each other.
    """

    def __init__(
        self,
        model: str,
        *,
        assets: Path | None = None,
        weights: Path | None = None,
        pooling: Pooling = "mean",
        tokens: Tokens = "cls",
        device: str = "auto",
        batch_size: int | None = None,
        download: bool = False,
    ) -> None:
        if batch_size is not None and batch_size < 1:
            raise UsageError(f"a batch of {batch_size} pictures is not possible", "give 1 or more")
        self.model_name, _, entry = model.partition("@")
        _require_torchvision()
        self._recipe = find_recipe(self.model_name, entry or None)
        self._assets = assets
        self._own = weights
        self._download = download
        self._pooling = pooling
        self._tokens = tokens
        self._device = _device(device)
        self.batch_size = batch_size or (_CPU_BATCH if self._device.type == "cpu" else _GPU_BATCH)
        # A hook sees every forward pass of the module, so passes from several threads take turns.
        self._lock = threading.RLock()

    @property
    def name(self) -> str:
        """The spec without the choice of weights, ``torchvision:mobilenet_v2``."""
        return f"torchvision:{self.model_name}"

    @cached_property
    def fingerprint(self) -> str:
        """Model, weights hash, preprocessing and pooling; reads the weights file once to hash it."""
        weights = self._weights
        preset = hashlib.sha256(repr(weights.recipe.transforms()).encode()).hexdigest()[:8]
        recipe = weights.recipe.name if weights.official else f"own, transforms of {weights.recipe.name}"
        return (
            f"{self.name} weights={weights.sha256[:16]} ({recipe}) transforms={preset}"
            f" pooling={self._pooling} tokens={self._tokens}"
        )

    def layers(self) -> list[LayerInfo]:
        """Every layer whose output is [N, K], [N, T, K] or [N, K, H, W], in forward order."""
        return list(self._found[0].values())

    def layer(self, path: str) -> LayerInfo:
        """The layer at the dotted ``path``.

        Raises:
            UsageError: there is no such layer, or it has no units.
        """
        return self._found[0].get(path) or find_layer(self.layers(), path, self.name)

    @cached_property
    def output_layer(self) -> str:
        """Path of the layer that puts out the logits: the last with a weight matrix or kernel."""
        modules = self._modules
        weighted = [path for path in self._found[0] if _kernel(modules[path]) is not None]
        return weighted[-1]

    def unit_names(self, layer: str) -> Sequence[str] | None:
        """The class names if ``layer`` puts out the logits of official weights, else None.

        Raises:
            UsageError: there is no such layer, or it has no units.
        """
        info = self.layer(layer)
        names: Sequence[str] = self._weights.recipe.meta.get("categories") or ()
        paths = list(self._found[0])
        is_output = paths.index(layer) >= paths.index(self.output_layer) and info.units == len(names)
        return names if self._weights.official and is_output else None

    def activate(self, images: Sequence[bytes], layer: str, progress: Progress | None = None) -> Activations:
        """Pooled activations of all units of ``layer``; see ``Target.activate``.

        Args:
            images: encoded pictures, read as RGB (an alpha channel is dropped).
            layer: dotted path; of a module used several times in one forward, the last output counts.
            progress: called after each forward batch.

        Returns:
            float32 [n_images, n_units].

        Raises:
            UsageError: there is no such layer, or it has no units.
            BackendError: a picture cannot be decoded, the forward pass failed or gave NaN or infinity.
        """
        import numpy as np

        info = self.layer(layer)
        result = np.empty((len(images), info.units), np.float32)
        for start in range(0, len(images), self.batch_size):
            batch = [
                self._prepare(images[index], index)
                for index in range(start, min(start + self.batch_size, len(images)))
            ]
            rows = self._forward(batch, layer)
            done = start + len(batch)
            result[start:done] = rows
            if not np.isfinite(rows).all():
                bad = start + int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
                raise BackendError(f"{self.name} {layer} gave values that are not finite for picture {bad}")
            if progress:
                progress(done, len(images))
        return result

    def _prepare(self, image: bytes, index: int) -> Tensor:
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(BytesIO(image)) as opened:
                picture = opened.convert("RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            reason = "not a picture" if isinstance(error, UnidentifiedImageError) else str(error)
            raise BackendError(f"picture {index} cannot be decoded: {reason}") from error
        prepared: Tensor = self._preset(picture)
        return prepared

    def _forward(self, batch: list[Tensor], layer: str) -> Activations:
        import torch

        captured: list[Tensor | None] = [None]

        def seen(_path: str, _module: nn.Module, output: object) -> None:
            captured[0] = first_tensor(output)

        filled = torch.stack(batch + [batch[-1]] * (self.batch_size - len(batch)))
        exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
        try:
            with self._lock, torch.inference_mode(), exact, hooked({layer: self._modules[layer]}, seen):
                self._model(filled.to(self._device))
                if captured[0] is None:
                    raise BackendError(f"{self.name} {layer} put out nothing")
                pooled = pool(
                    captured[0],
                    units_last=layer in self._found[1],
                    pooling=self._pooling,
                    tokens=self._tokens,
                )
                rows: Activations = pooled[: len(batch)].float().cpu().numpy()
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0]
            remedy = "a smaller batch size" if isinstance(error, torch.OutOfMemoryError) else ""
            raise BackendError(f"the forward pass of {self.name} failed: {reason}", remedy) from error
        return rows

    @cached_property
    def _weights(self) -> WeightsFile:
        return find_weights(
            self.model_name, self._recipe, own=self._own, assets=self._assets, download=self._download
        )

    @cached_property
    def _preset(self) -> Any:
        return self._weights.recipe.transforms()

    @cached_property
    def _model(self) -> nn.Module:
        import torch
        from torchvision import models

        state = read_state(self._weights)
        options = _options(self.model_name, self._recipe)
        # On the meta device a model is a plan without memory: the file's tensors become its weights.
        with torch.device("meta"):
            model: nn.Module = models.get_model(self.model_name, weights=None, **options)
            classes = _classes(model, state)
            if classes:
                model = models.get_model(self.model_name, weights=None, num_classes=classes, **options)
        try:
            model.load_state_dict(state, assign=True)
        except (RuntimeError, ValueError) as error:
            lines = [line.strip() for line in str(error).splitlines()]
            reason = (lines[1] if len(lines) > 1 else lines[0])[:200]
            raise UsageError(
                f"{self._weights.path} does not fit {self.name}: {reason}", "name the model it was trained as"
            ) from error
        return model.float().to(self._device).eval().requires_grad_(False)

    @cached_property
    def _modules(self) -> dict[str, nn.Module]:
        return dict(self._model.named_modules())

    @cached_property
    def _found(self) -> tuple[dict[str, LayerInfo], frozenset[str]]:
        import torch
        from PIL import Image

        blank = torch.zeros_like(self._preset(Image.new("RGB", (256, 256))))
        with self._lock, torch.inference_mode():
            return find_layers(self._model, torch.stack([blank, blank]).to(self._device))


def _require_torchvision() -> None:
    try:
        import torchvision  # noqa: F401
    except ImportError as error:
        raise MissingPartError(
            "torch and torchvision are not installed", "pip install 'line-neurons[torch]'"
        ) from error
    except RuntimeError as error:
        # A torchvision built for another torch fails while it registers its operators.
        raise MissingPartError(
            f"torch and torchvision do not fit each other: {str(error).splitlines()[0]}",
            "pip install 'line-neurons[torch]' brings the pair",
        ) from error


def _device(name: str) -> torch.device:
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(
            f"the device {name!r} cannot be used: {str(error).splitlines()[0]}", "auto or cpu"
        ) from error
    return device


def _options(model: str, recipe: Any) -> dict[str, Any]:
    # What the builders set when they are given official weights, and the weights alone do not tell.
    if model in {"googlenet", "inception_v3"}:
        return {"transform_input": True, "init_weights": False}
    return {"image_size": recipe.meta["min_size"][0]} if model.startswith("vit_") else {}


def _kernel(module: nn.Module) -> Tensor | None:
    weight: Tensor | None = getattr(module, "weight", None)
    return weight if weight is not None and weight.ndim >= 2 else None


def _classes(model: nn.Module, state: Mapping[str, Tensor]) -> int | None:
    # The number of classes of a checkpoint whose last layer is not the model's usual size.
    path, usual = [
        (path, kernel) for path, part in model.named_modules() if (kernel := _kernel(part)) is not None
    ][-1]
    kernel = state.get(f"{path}.weight")
    return None if kernel is None or kernel.shape[0] == usual.shape[0] else int(kernel.shape[0])
