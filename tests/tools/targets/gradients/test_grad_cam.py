"""Grad-CAM: the class activation map where there is one, and the formula where there is none."""

import sys

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms import v2

from line_neurons.agent.errors import MissingPartError, UsageError
from line_neurons.tools.targets.base import ModelBundle
from line_neurons.tools.targets.gradients.grad_cam import grad_cam
from line_neurons.tools.targets.hooked_target import HookedTarget
from line_neurons.tools.targets.maps import unit_maps

pytest.importorskip("captum")
SIDE = 32


def prepare(image):
    return v2.functional.resize(v2.functional.pil_to_tensor(image).float() / 255, [SIDE, SIDE], antialias=True)


def network(*parts, transform=prepare):
    torch.manual_seed(0)
    module = nn.Sequential(*parts).eval()
    return HookedTarget(ModelBundle("own:net", "0", "0", transform, lambda: module), device="cpu")


def images(count=2):
    return list(np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8))


def pooled(*head):
    return network(nn.Conv2d(3, 6, 4, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), *head)


def test_of_a_linear_layer_on_a_mean_it_is_the_class_activation_map():
    net = pooled(nn.Linear(6, 4))
    cam = unit_maps(net, images(), "4", [2, 0])
    found = grad_cam(net, images(), "4", [2, 0])
    assert (cam.source, found.source, found.layer) == ("class activation map", "Grad-CAM", "1")
    assert found.boxes == cam.boxes
    np.testing.assert_allclose(found.values * cam.values[0, 0].size, cam.values, rtol=1e-4, atol=1e-5)


def test_of_other_heads_it_is_channels_by_their_mean_gradient():
    net = pooled(nn.Sigmoid(), nn.Linear(6, 4))
    assert unit_maps(net, images(1), "5", [1]).source == "occlusion"
    found = grad_cam(net, images(1), "5", [1])
    module = net.network_copy()
    batch = torch.stack([net.prepare(image) for image in images(1)])
    with torch.enable_grad():
        maps = module[1](module[0](batch)).detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(module[2:](maps)[0, 1], maps)
    expected = (gradient.mean((2, 3), keepdim=True) * maps.detach()).sum(1, keepdim=True)
    np.testing.assert_allclose(found.values, expected.numpy(), rtol=1e-4, atol=1e-7)


def test_of_tokens_the_nearest_that_reach_the_class_token(small_vit):
    model = small_vit().eval()
    net = HookedTarget(ModelBundle("own:vit", "0", "0", prepare, lambda: model), device="cpu")
    layer = net.output_layer
    found = grad_cam(net, images(1), layer, [0, 1])
    assert (found.source, found.values.shape[:2]) == ("Grad-CAM", (1, 2))
    assert found.values.shape[2] == found.values.shape[3] > 1
    assert found.values.any()


def test_a_unit_without_a_gradient_has_a_map_of_zeros():
    net = pooled(nn.Linear(6, 2))
    net.module("4").weight.data.zero_()
    assert not grad_cam(net, images(1), "4", [0]).values.any()


def test_what_has_no_grad_cam_is_refused_in_one_line():
    with pytest.raises(UsageError, match=r"no layer before 1 puts out a map.*--occlusion"):
        grad_cam(network(nn.Flatten(), nn.Linear(3 * SIDE**2, 2)), images(1), "1", [0])
    mirrored = network(nn.Conv2d(3, 2, 4, 4), transform=lambda image: prepare(image).flip(2))
    with pytest.raises(UsageError, match=r"does more than resize and crop.*--occlusion"):
        grad_cam(mirrored, images(1), "0", [0])


def test_captum_is_asked_for_only_with_gradients(monkeypatch):
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    net = pooled(nn.Linear(6, 2))
    assert unit_maps(net, images(1), "4", [0]).values.any()
    with pytest.raises(MissingPartError, match=r"--gradients needs.*captum"):
        grad_cam(net, images(1), "4", [0])


class Differentiated(Exception):
    """Torch was asked for a gradient."""


def test_without_gradients_nothing_differentiates(monkeypatch):
    def refuse(*given, **named):
        raise Differentiated

    for place, name in ((torch.Tensor, "backward"), (torch.autograd, "grad"), (torch.autograd, "backward")):
        monkeypatch.setattr(place, name, refuse)
    net = pooled(nn.Sigmoid(), nn.Linear(6, 4))
    for layer in ("1", "2", "5"):
        unit_maps(net, images(1), layer, [0])
        net.activate(images(1), [layer])
    assert not any(parameter.requires_grad for parameter in net.module("").parameters())
    with pytest.raises(Differentiated):
        grad_cam(net, images(1), "5", [0])
