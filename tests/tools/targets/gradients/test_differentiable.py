"""Gradients of a layer's units, of a copy of the model, and only where they are asked for."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms import v2

import line_neurons
from line_neurons.agent.errors import UsageError
from line_neurons.tools.targets.base import ModelBundle
from line_neurons.tools.targets.gradients.differentiable import differentiable
from line_neurons.tools.targets.hooked_target import HookedTarget

SIDE = 16
HOME = Path(line_neurons.__file__).parent
ALLOWED = ("tools/targets/gradients/",)
"""The only places that may ask torch for gradients."""
GRADIENTS = {"enable_grad", "backward", "autograd", "requires_grad", "set_grad_enabled", "captum"}


def prepare(image):
    return v2.functional.resize(v2.functional.pil_to_tensor(image).float() / 255, [SIDE, SIDE], antialias=True)


def target(*parts, **options):
    torch.manual_seed(0)
    module = nn.Sequential(*parts).eval()
    return HookedTarget(ModelBundle("own:net", "0", "0", prepare, lambda: module), device="cpu", **options)


def image(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def convolutional():
    return nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)


def test_the_units_are_those_of_the_target_and_their_gradient_is_that_of_the_formula():
    net = target(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 5))
    with differentiable(net, "1") as layer:
        batch = layer.batch([image(), image(1)]).requires_grad_(True)
        units = layer.units(batch)
        np.testing.assert_allclose(
            units.detach(), net.activate([image(), image(1)], ["1"])["1"], rtol=1e-5, atol=1e-6
        )
        (gradient,) = torch.autograd.grad(units[0, 3], batch)
        torch.testing.assert_close(gradient[0].flatten(), layer.module.weight[3])
    assert not gradient[1].any()


@pytest.mark.parametrize("layer", ["0", "1", "4"])
def test_modules_that_work_in_place_do_not_matter(layer):
    net = target(*convolutional())
    with differentiable(net, layer) as units:
        batch = units.batch([image()]).requires_grad_(True)
        found = units.units(batch)
        found[0, 0].backward()
    assert batch.grad.abs().sum() > 0
    np.testing.assert_allclose(found.detach(), net.activate([image()], [layer])[layer], rtol=1e-5, atol=1e-6)


def test_the_target_stays_as_it_is():
    net = target(*convolutional(), precision="bfloat16")
    before = net.activate([image()], ["4"])["4"]
    with differentiable(net, "4") as layer:
        layer.units(layer.batch([image()]).requires_grad_(True)).sum().backward()
        assert {parameter.dtype for parameter in layer.network.parameters()} == {torch.float32}
        assert not torch.is_inference_mode_enabled()
        assert all(parameter.grad is None for parameter in layer.network.parameters())
    own = net.module("")
    assert own.get_submodule("1").inplace is True
    assert {parameter.dtype for parameter in own.parameters()} == {torch.bfloat16}
    assert not any(module._forward_hooks for module in own.modules())
    np.testing.assert_array_equal(net.activate([image()], ["4"])["4"], before)


class Rounded(nn.Module):
    def forward(self, batch):
        return (batch.detach() * 3).round()


class Broken(nn.Module):
    def forward(self, batch):
        if batch.requires_grad:
            raise RuntimeError("no kernel for this")
        return batch * 2


@pytest.mark.parametrize(
    ("module", "reason"), [(Rounded, "do not follow from the image"), (Broken, "no kernel for this")]
)
def test_what_cannot_be_differentiated_is_one_line(module, reason):
    net = target(module(), nn.Conv2d(3, 4, 3))
    with (
        pytest.raises(UsageError, match=rf"1 of own:net cannot be differentiated: .*{reason}") as found,
        differentiable(net, "1") as layer,
    ):
        layer.units(layer.batch([image()]).requires_grad_(True))
    assert "--gradients" in str(found.value)


def test_targets_that_are_no_network_and_unknown_layers_are_refused():
    with pytest.raises(UsageError, match="gradients need the network itself"), differentiable(object(), "1"):
        pass
    with pytest.raises(UsageError, match="has no layer 'nine'"), differentiable(target(*convolutional()), "nine"):
        pass


def test_no_other_place_asks_for_gradients():
    asking = set()
    for folder in ("agent", "tools", "graphs", "eval", "tui"):
        for path in (HOME / folder).rglob("*.py"):
            place = path.relative_to(HOME).as_posix()
            if not place.startswith(ALLOWED):
                tree = ast.parse(path.read_text("utf-8"))
                names = {getattr(node, "attr", getattr(node, "id", "")) for node in ast.walk(tree)}
                modules = {
                    name.partition(".")[0]
                    for node in ast.walk(tree)
                    for name in (
                        [node.module or ""]
                        if isinstance(node, ast.ImportFrom)
                        else [alias.name for alias in node.names]
                        if isinstance(node, ast.Import)
                        else []
                    )
                }
                asking |= {place} if (names | modules) & GRADIENTS else set()
    assert asking == set()
