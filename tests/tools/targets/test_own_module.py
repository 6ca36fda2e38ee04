import copy

import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.models import squeezenet1_1
from torchvision.transforms import v2

from line_neurons.agent.errors import UsageError
from line_neurons.tools.targets.hooked_target import HookedTarget
from line_neurons.tools.targets.own_module import network_of


class Net(nn.Module):
    def __init__(self, power=1):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)
        self.power = power

    def forward(self, pictures):
        return self.conv(pictures) ** self.power


class Squared(Net):
    def forward(self, pictures):
        return self.conv(pictures) * self.conv(pictures)


def net(kind=Net, **arguments):
    torch.manual_seed(0)
    return kind(**arguments)


def known(module, transform="imagenet"):
    return HookedTarget(network_of(module, transform)).fingerprint


def hooked():
    module = net()
    module.conv.register_forward_hook(lambda _module, _given, output: output * 0)
    return module


def shifted():
    module = net()
    with torch.no_grad():
        module.conv.bias[0] += 1e-6
    return module


@pytest.mark.parametrize(
    "other",
    [shifted(), net(Squared), net(power=2), hooked(), net().double(), nn.Sequential(net())],
    ids=["weights", "forward", "attribute", "hook", "type", "structure"],
)
def test_a_module_that_computes_something_else_is_another_target(other):
    assert known(other) != known(net())


@pytest.mark.parametrize(
    "same",
    [lambda one: one.train(), copy.deepcopy, nn.DataParallel, lambda one: one.requires_grad_(False)],
    ids=["training", "copy", "wrapped", "frozen"],
)
def test_a_module_that_computes_the_same_is_the_same_target(same):
    assert known(same(net())) == known(net())


def resized(size):
    return lambda picture: v2.functional.to_dtype(
        v2.functional.resize(v2.functional.pil_to_tensor(picture), [size, size]), torch.float32, scale=True
    )


class Resize:
    def __init__(self, size):
        self.size = size

    def __call__(self, picture):
        return resized(self.size)(picture)


@pytest.mark.parametrize("transform", [resized, Resize, v2.Resize], ids=["closure", "object", "torchvision"])
def test_a_transform_is_known_by_what_it_does(transform):
    assert known(net(), transform(8)) == known(net(), transform(8))
    assert known(net(), transform(8)) != known(net(), transform(9))


def test_what_is_done_to_a_module_later_has_no_effect():
    module = net()
    target = HookedTarget(network_of(module, resized(8)))
    picture = torch.zeros(4, 4, 3, dtype=torch.uint8).numpy()
    with torch.no_grad():
        module.conv.bias += 5
    expected = HookedTarget(network_of(net(), resized(8))).activate([picture], ["conv"])["conv"]
    assert (target.activate([picture], ["conv"])["conv"] == expected).all()


def test_the_preprocessing_of_torchvisions_and_timms_models_is_known():
    assert "resize 256" not in network_of(squeezenet1_1(weights=None)).preprocessing
    assert (
        known(squeezenet1_1(weights=None).eval(), None).split("transforms=")[1]
        == known(net()).split("transforms=")[1]
    )
    timm = pytest.importorskip("timm")
    prepared = network_of(timm.create_model("test_vit"))
    assert tuple(prepared.prepare(Image.new("RGB", (300, 200))).shape) == (3, 160, 160)


def test_a_torchscript_module_and_one_that_cannot_be_copied_are_refused():
    with pytest.raises(UsageError, match="TorchScript"):
        network_of(torch.jit.script(net().conv), "imagenet")
    module = net()
    module.kept = module.conv(torch.zeros(1, 3, 4, 4))
    with pytest.raises(UsageError, match="cannot be copied"):
        network_of(module, "imagenet")
