"""Units of a layer as a function of prepared images that torch can differentiate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from line_neurons.agent.errors import LineError, UsageError, reason_of
from line_neurons.tools.targets.hooked_target import HookedTarget
from line_neurons.tools.targets.latents.names import base_layer
from line_neurons.tools.targets.layers.outputs import LayerOutput, first_tensor, hooked

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from line_neurons.agent.ports import ImageData, Target


@dataclass(frozen=True)
class DifferentiableLayer:
    """A layer of a copy of a vision model, float32, in evaluation mode.

    Args:
        network: the copy; its weights get no gradients, its inputs may.
    """

    target: HookedTarget
    network: nn.Module
    module: nn.Module
    output: LayerOutput
    device: torch.device

    def batch(self, images: Sequence[ImageData]) -> Tensor:
        """Prepare images for the network: float32 [N, 3, H, W] on its device.

        Raises:
            UnmeasurableError: one cannot be decoded.
        """
        import torch

        return torch.stack([self.target.prepare(image) for image in images]).float().to(self.device)

    def units(self, batch: Tensor) -> Tensor:
        """Compute the pooled units of the layer, float32 [N, K], of prepared images [N, 3, H, W].

        Raises:
            UsageError: the images ask for gradients, and the units have none.
        """
        found: list[Tensor] = []

        def seen(_path: str, _module: nn.Module, output: object, _given: object) -> None:
            tensor = first_tensor(output)
            if tensor is not None:
                # Now: the next module may work in place.
                found[:] = [self.target.pool_output(tensor, self.output)]

        with hooked({"": self.module}, seen):
            self.target.forward(batch, self.network)
        if not found:
            raise _undifferentiable(self.target, self.output.info.path, "it put out nothing")
        if batch.requires_grad and not found[0].requires_grad:
            raise _undifferentiable(self.target, self.output.info.path, "its values do not follow from the image")
        return found[0]


@contextmanager
def differentiable(target: Target, layer: str) -> Iterator[DifferentiableLayer]:
    """Copy a vision model so that the units of a layer can be differentiated; the copy ends with the context.

    The target itself stays as it is, in its own precision and without gradients. Modules of the copy do not work
    in place.

    Raises:
        UsageError: there is no such layer, or torch cannot differentiate it (also if the body finds that out).
    """
    import torch

    if not isinstance(target, HookedTarget):
        raise UsageError(
            f"gradients need the network itself, and this target is {type(target).__name__}",
            "leave out --gradients, or the workers (--devices, --ray)",
        )
    output = target.output(layer)
    path = output.info.path
    try:
        with torch.inference_mode(False), torch.enable_grad():
            network = target.network_copy()
            for module in network.modules():
                if getattr(module, "inplace", False) is True:
                    setattr(module, "inplace", False)  # noqa: B010 - torch declares no such attribute
            modules = dict(network.named_modules())
            first = next(network.parameters(), None)
            device = torch.device("cpu") if first is None else first.device
            yield DifferentiableLayer(target, network, modules[base_layer(path)], output, device)
    except LineError:
        raise
    except RuntimeError as error:
        raise _undifferentiable(target, path, reason_of(error)) from error


def _undifferentiable(target: HookedTarget, path: str, reason: str) -> UsageError:
    return UsageError(f"{path} of {target.name} cannot be differentiated: {reason}", "leave out --gradients")
