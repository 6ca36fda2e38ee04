"""Any vision model as a target: hooked at any layer, several in one forward pass."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from copy import deepcopy
from dataclasses import replace
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING

from line_neurons.agent.errors import BackendError, UnfitOutputError, UnmeasurableError, UsageError, reason_of
from line_neurons.agent.ports import LayerInfo, Progress
from line_neurons.tools.devices import (
    default_batch,
    deterministic_arithmetic,
    find_device,
    is_out_of_memory,
    single_core,
)
from line_neurons.tools.parallel import parallel_map
from line_neurons.tools.target_specs import display_spec
from line_neurons.tools.targets.base import find_layer
from line_neurons.tools.targets.input_errors import unfit_input
from line_neurons.tools.targets.layers.determinism import nondeterministic_layers
from line_neurons.tools.targets.layers.layouts import IMAGES, Layers, find_layers, split_layouts
from line_neurons.tools.targets.layers.outputs import (
    LayerOutput,
    check_layout,
    check_pool,
    first_tensor,
    hooked,
    last_kernel,
    pooled,
    unclear_layout,
)
from line_neurons.tools.targets.preparation import Preparation
from line_neurons.tools.targets.weights.checkpoint import check_finite, left_out

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor, nn

    from line_neurons.agent.diffusion_settings import Precision
    from line_neurons.agent.ports import Activations, ImageData
    from line_neurons.agent.setting_groups.target import Pool, QueryPool
    from line_neurons.tools.targets.base import ModelBundle

NO_OBJECT = "no object"
"""Name of the last unit of a detector's class layer, where it has one unit more than there are classes."""


class HookedTarget:
    """A vision model, hooked at any layer; it is built on first use.

    Every forward pass has the same batch shape, short batches being filled up: an image's activations are then
    bitwise the same in any batch, on one machine with one number of threads.

    Args:
        pool: how a map or tokens become one number per unit.
        query_pool: what pool ``auto`` is for tokens that are a detector's queries.
        layout: where the units are in layers for which that cannot be determined; see the setting.
        precision: of weights and forward pass; the pooling is done in float32.
        channels_last: memory layout of the convolutions.
        device: ``auto`` (CUDA if there is one), or a torch device.
        batch_size: images in each forward pass; that of ``devices.default_batch`` if None.

    Raises:
        UsageError: there is no such device, or the batch is empty.
    """

    def __init__(
        self,
        network: ModelBundle,
        *,
        pool: Pool = "auto",
        query_pool: QueryPool = "max",
        layout: Sequence[str] = (),
        precision: Precision = "float32",
        channels_last: bool = False,
        device: str = "auto",
        batch_size: int | None = None,
    ) -> None:
        if batch_size is not None and batch_size < 1:
            raise UsageError(f"a batch of {batch_size} images is not possible", "give 1 or more")
        self._network = network
        self._pool = pool
        self._query_pool = query_pool
        self._layout = tuple(layout)
        self._precision = precision
        self._channels_last = channels_last
        self._device = find_device(device)
        self.batch_size = batch_size or default_batch(self._device.type)
        # A hook sees every forward pass of the module, so passes from several threads take turns; and the model
        # is built, and its layers are found, by one thread while others wait.
        self._lock = threading.RLock()
        self._preparation = Preparation(network, self.name)

    @property
    def name(self) -> str:
        """The model with its version, ``torchvision:mobilenet_v2@IMAGENET1K_V1``; a function as it was typed."""
        network = self._network
        if network.typed:
            return network.typed
        own = "(own" in network.weights
        return network.name if own else display_spec(network.spec or network.name, self.fingerprint)

    @property
    def spec(self) -> str:
        """The spec of this version of the weights; empty without versions."""
        return self._network.spec

    @property
    def note(self) -> str:
        """A choice that the user did not make, as a line for the screen; empty if there is none."""
        return self._network.note

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why labels may be wrong, a sentence each: random weights, a preprocessing that was guessed."""
        return self._network.doubts

    @property
    def fingerprint(self) -> str:
        """Model, weights, preprocessing, pool and precision."""
        network = self._network
        return (
            f"{network.name} weights={network.weights} transforms={network.preprocessing}"
            f" pool={self._pool} precision={self._precision}"
        )

    def with_transform(self, prepare: Callable[[Image], Tensor], identity: str) -> HookedTarget:
        """Return the model with another preprocessing, identified by ``identity``."""
        return HookedTarget(
            replace(self._network, prepare=prepare, preprocessing=identity, own_preprocessing=False),
            pool=self._pool,
            query_pool=self._query_pool,
            layout=self._layout,
            precision=self._precision,
            channels_last=self._channels_last,
            device=str(self._device),
            batch_size=self.batch_size,
        )

    def layers(self) -> list[LayerInfo]:
        """List layers with units in forward order, except ``refused_layers``.

        Raises:
            UsageError: preprocessing or all layers are random, prepared images differ in size, or a layout does
                not fit.
            BackendError: preprocessing or forward pass failed.
        """
        with self._lock:
            return [output.info for output in self._found.values()]

    def refused_layers(self) -> dict[str, UsageError]:
        """Say by path why other layers cannot be measured, and what to do; in forward order.

        Raises:
            LineError: see ``layers``.
        """
        with self._lock:
            return {path: self._refused[path] for path in self._layers.observed.layers if path in self._refused}

    @property
    def output_layer(self) -> str | None:
        """Return the path of the logits' layer: the last with a matrix or kernel.

        None where there is none, where the weights do not have it, or where it is a refused layer: a layer before
        it has other units.
        """
        if left_out(self._model):
            return None
        with self._lock:
            last = self._network.head or self._last_kernel
            return last if last in self._found else None

    def unit_names(self, layer: str) -> Sequence[str] | None:
        """Return the class names if ``layer`` outputs the logits of known classes, else None.

        Raises:
            UsageError: there is no such layer, or it has no units.
        """
        info = self.output(layer).info
        names, head = self._network.classes, self._network.head
        if head:
            own = layer == head and info.units - len(names) in {0, 1}
            return [*names, NO_OBJECT][: info.units] if names and own else None
        paths = list(self._found)
        is_output = self.output_layer is not None and paths.index(layer) >= paths.index(self.output_layer)
        return names if names and is_output and info.units == len(names) else None

    def check_classes(self) -> None:
        """Check that the user's class names are as many as the output units.

        Raises:
            UsageError: they are not.
        """
        names, paths = self._network.classes, list(self._found)
        if not self._network.own_classes or not names or not paths or self._last_kernel in self._refused:
            return
        output = self.output_layer or paths[-1]
        last = {self._found[path].info.units for path in paths[paths.index(output) :]}
        if len(names) not in last:
            units = self._found[output].info.units
            raise UsageError(
                f"{self.name} names {len(names):,} classes, and its output layer {output} has {units:,} units",
                "give one name for each unit, in their order, or no names",
            )

    def activate(
        self, images: Sequence[ImageData], layers: Sequence[str], progress: Progress | None = None
    ) -> dict[str, Activations]:
        """Compute pooled activations of all units of each of ``layers``; see ``Target.activate``.

        Args:
            images: encoded images, read by ``images.reader``, or pixels, uint8 [H, W, 3].
            layers: dotted paths; of a module used several times in one forward pass, the last output counts.

        Returns:
            float32 [n_images, n_units] for each layer.

        Raises:
            UsageError: there is no such layer, it has no units, or the pool does not fit it.
            UnmeasurableError: an image cannot be decoded, or gave NaN or infinity.
            BackendError: the forward pass failed.
        """
        import numpy as np

        outputs = {layer: self.output(layer) for layer in layers}
        everywhere, _ = split_layouts(self._layout)
        for output in outputs.values():
            check_layout(output, everywhere, self.name)
            self._check_pool(output)
        result = {layer: np.empty((len(images), one.info.units), np.float32) for layer, one in outputs.items()}
        # While a batch is in the model, the next ones are prepared.
        with closing(
            parallel_map(single_core(self._preparation.prepare), enumerate(images if outputs else ()))
        ) as prepared:
            done = 0
            while batch := list(islice(prepared, self.batch_size)):
                start, done = done, done + len(batch)
                for layer, rows in self._forward(batch, outputs).items():
                    result[layer][start:done] = rows
                    if not np.isfinite(rows).all():
                        bad = start + int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
                        large = "float16 ends at 65,504: use bfloat16" if self._precision == "float16" else ""
                        raise UnmeasurableError(
                            f"{self.name} gave values that are not finite at {layer}", large, index=bad
                        )
                if progress:
                    progress(done, len(images))
        return result

    def outputs(self) -> dict[str, LayerOutput]:
        """Return the layers with units in forward order, and which dimension of their outputs is which."""
        with self._lock:
            return self._found

    def prepare(self, image: ImageData) -> Tensor:
        """Prepare an image for the network: float [3, H, W]; see ``Preparation.prepare``."""
        return self._preparation.prepare((0, image))

    def module(self, path: str) -> nn.Module:
        """Return the module of a layer."""
        return self._modules[path]

    def raw_outputs(self, images: Sequence[ImageData], layers: Sequence[str]) -> dict[str, Tensor]:
        """Compute outputs of layers that are not pooled: float32 [n_images, ...]; errors as of ``activate``."""
        import torch

        outputs = {layer: self.output(layer) for layer in layers}
        at = {layer: int(outputs[layer].form == "sequence") for layer in layers}
        parts: dict[str, list[Tensor]] = {layer: [] for layer in layers}
        prepared = list(map(self._preparation.prepare, enumerate(images)))
        for start in range(0, len(prepared), self.batch_size):
            batch = prepared[start : start + self.batch_size]
            for layer, tensor in self._captured(batch, outputs, lambda tensor, _: tensor.float()).items():
                parts[layer].append(tensor.narrow(at[layer], 0, len(batch)))
        return {layer: torch.cat(found, at[layer]) for layer, found in parts.items()}

    def output(self, path: str) -> LayerOutput:
        """Return which dimension of a layer's output is which.

        Raises:
            UsageError: there is no such layer, or it has no units.
        """
        left = left_out(self._model)
        if left and path not in self._found and f"{left}.".startswith(f"{path}."):
            raise UsageError(
                f"the weights of {self.name} have no {left}, the class layer, so {path!r} puts out no classes",
                "name a layer before it, or give weights that have it",
            )
        if (refused := self.refused_layers().get(path)) is not None:
            raise refused
        return self._found[find_layer(self.layers(), path, self.name).path]

    def _forward(self, batch: list[Tensor], outputs: Mapping[str, LayerOutput]) -> dict[str, Activations]:
        found = self._captured(batch, outputs, self.pool_output)
        return {path: rows[: len(batch)].numpy() for path, rows in found.items()}

    def _captured(
        self,
        batch: list[Tensor],
        outputs: Mapping[str, LayerOutput],
        read: Callable[[Tensor, LayerOutput], Tensor],
    ) -> dict[str, Tensor]:
        """Return what ``read`` makes of each layer's output, of the whole filled-up batch."""
        import torch

        captured: dict[str, Tensor] = {}

        def seen(path: str, _module: nn.Module, output: object, _given: object) -> None:
            tensor = first_tensor(output)
            if tensor is not None:
                # Now, and as a copy: the next module may work in place (a ReLU, a residual sum).
                captured[path] = read(tensor, outputs[path]).clone()

        filled = batch + [batch[-1]] * (self.batch_size - len(batch))
        try:
            with self._lock, torch.inference_mode():
                with hooked({path: self.module(path) for path in outputs}, seen):
                    self.forward(self._batch(filled))
                missing = [path for path in outputs if path not in captured]
                if missing:
                    raise UnfitOutputError(f"{self.name} {missing[0]} put out nothing")
                return {path: captured[path].cpu() for path in outputs}
        except Exception as error:
            raise self._failure(error) from error

    def _check_pool(self, output: LayerOutput) -> None:
        check_pool(output, self._pool, self.name)

    def pool_output(self, tensor: Tensor, output: LayerOutput) -> Tensor:
        """Pool the output of a forward pass to float32 [N, K]."""
        return pooled(tensor, output, self._pool)

    def _failure(self, error: Exception) -> BackendError:
        if isinstance(error, BackendError):
            return error
        remedy = ""
        if is_out_of_memory(error):
            smaller = self.batch_size > 1
            remedy = (
                f"try a --batch-size below {self.batch_size}"
                if smaller
                else "try a smaller model, or --device cpu"
            )
        if self._precision != "float32" and "not implemented for" in str(error):
            remedy = f"this device cannot do it in {self._precision}: use float32"
        return BackendError(f"the forward pass of {self.name} failed: {reason_of(error)}", remedy)

    def _batch(self, images: Sequence[Tensor]) -> Tensor:
        import torch

        batch = torch.stack(list(images)).to(self._device, getattr(torch, self._precision))
        return batch.to(memory_format=torch.channels_last) if self._channels_last else batch

    def forward(self, batch: Tensor, network: nn.Module | None = None) -> object:
        """Pass prepared images, [N, 3, H, W], through the network, or through a copy of it."""
        with deterministic_arithmetic():
            name, model = self._network.argument, network or self._model
            return model(**{name: batch}) if name else model(batch)

    def network_copy(self) -> nn.Module:
        """Copy the network, in float32: what is done with the copy does not reach this target."""
        with self._lock:
            return deepcopy(self._model).float()

    @cached_property
    def _model(self) -> nn.Module:
        import torch

        model = self._network.build()
        check_finite(model, self.name)
        model = model.to(self._device, getattr(torch, self._precision))
        if self._channels_last:
            model = model.to(memory_format=torch.channels_last)
        return model.eval().requires_grad_(False)

    @cached_property
    def _modules(self) -> dict[str, nn.Module]:
        return dict(self._model.named_modules())

    @cached_property
    def _layers(self) -> Layers:
        import torch

        probes, model = self._preparation.probes, self._model
        try:
            with self._lock, torch.inference_mode():
                return find_layers(
                    model,
                    self.forward,
                    self._batch(probes[:IMAGES]),
                    layouts=self._layout,
                    pool=self._pool,
                    query_pool=self._query_pool,
                )
        except UsageError:
            raise
        except Exception as error:
            unfit = unfit_input(model, self.name, error, self._network.argument)
            raise unfit or self._failure(error) from error

    @property
    def _last_kernel(self) -> str | None:
        """The last measured or refused layer with a matrix or kernel."""
        usable = (path for path in self._layers.observed.layers if path in self._found or path in self._refused)
        return last_kernel(self._model, usable)

    @cached_property
    def _refused(self) -> dict[str, UsageError]:
        """Layers that cannot be measured, by path."""
        import torch

        probes = self._preparation.probes
        refused = {path: unclear_layout(path, shape, self.name) for path, shape in self._layers.unknown.items()}
        try:
            with self._lock, torch.inference_mode():
                unsteady = nondeterministic_layers(
                    self._model,
                    self.forward,
                    self._layers.observed,
                    self._batch(probes[:IMAGES]),
                    self._batch([probes[3], probes[0], probes[0]]),
                    half=self._precision != "float32",
                )
        except Exception as error:
            raise self._failure(error) from error
        return refused | {path: fault.error(path, self.name) for path, fault in unsteady.items()}

    @cached_property
    def _found(self) -> dict[str, LayerOutput]:
        return self._measurable()

    def _measurable(self) -> dict[str, LayerOutput]:
        known = self._layers.known
        found = {path: output for path, output in known.items() if path not in self._refused}
        if left := left_out(self._model):
            # What comes after it would put out the features as though they were classes.
            paths = list(self._layers.observed.layers)
            before = set(paths[: paths.index(left)])
            found = {path: output for path, output in found.items() if path in before}
        if known and not found:
            raise next(error for path, error in self._refused.items() if path in known)
        return found
