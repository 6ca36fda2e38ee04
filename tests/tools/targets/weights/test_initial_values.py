import pytest
import torch
from torch import nn
from torchvision import models

from line_neurons.tools.targets.weights.initial_values import is_untrained, random_weights


def small():
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.Flatten(), nn.LazyLinear(5))


def trained(model, size=32, steps=2):
    optimiser = torch.optim.Adam(model.parameters(), 0.01)
    model.train()
    for _ in range(steps):
        optimiser.zero_grad()
        output = model(torch.rand(2, 3, size, size))
        ((output - 1) ** 2).mean().backward()
        optimiser.step()
    return model.eval()


def vit():
    return models.VisionTransformer(32, 8, 2, 2, 32, 64, num_classes=7)


MAKERS = [
    lambda: models.resnet18(num_classes=5), lambda: models.squeezenet1_1(num_classes=5), small, vit,
]  # fmt: skip


@pytest.mark.parametrize("make", MAKERS)
def test_a_model_that_nothing_was_loaded_into_has_random_weights(make):
    torch.manual_seed(0)
    model = make()
    if make is small:
        model(torch.rand(1, 3, 16, 16))
    assert is_untrained(model)
    assert random_weights(model, "own:net").startswith("the weights of own:net are random: all layers have their")


@pytest.mark.parametrize("make", [MAKERS[0], small, vit])
def test_a_model_that_was_trained_for_two_steps_has_not(make):
    torch.manual_seed(0)
    model = make()
    if make is small:
        model(torch.rand(1, 3, 32, 32))
    trained(model, 32 if make in {small, vit} else 64)
    assert not is_untrained(model)
    assert "all layers" not in random_weights(model, "own:net")


def test_a_class_layer_that_was_not_loaded_is_named():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model.append(nn.Linear(64, 32))
    trained(model)
    assert random_weights(model, "own:net") == ""
    model[4] = nn.Linear(64, 32)
    assert random_weights(model, "own:net").startswith("layer 4 of own:net has random weights, as nothing was")


def test_weights_that_were_written_by_hand_are_not_random():
    model = nn.Sequential(nn.Conv2d(3, 64, 3), nn.Flatten())
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].weight[:, :, 1, 1] = 1
        model[0].bias.zero_()
    assert not is_untrained(model) and random_weights(model, "own:net") == ""
