from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from line_neurons.agent.errors import MissingPartError, UsageError
from line_neurons.tools.assets.location import state
from line_neurons.tools.assets.packs import find
from line_neurons.tools.targets.planted.models import PlantedLayer, PlantedNetwork
from line_neurons.tools.targets.planted.truth import LAYER, NETWORK, PIXEL_UNITS, PIXELS, planted_units
from line_neurons.tools.targets.registry import open_target


def png(pixels):
    file = BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(file, "png")
    return file.getvalue()


def of_kind(kind):
    return [unit for unit in planted_units(NETWORK) if unit.kind == kind]


def activations(logits, images=None):
    """Activations of the planted units for one image of these logits."""
    layer = PlantedLayer()
    images = torch.zeros(1, 3, 4, 4) if images is None else images
    return layer(images, torch.zeros(1, 5), torch.as_tensor(logits, dtype=torch.float32)[None])[0]


def standardised(logits, true):
    return (logits[true.index] - true.mean) / true.sd


def test_each_kind_is_computed_from_the_logits_of_its_classes():
    logits = np.random.default_rng(0).normal(0, 3, 1000)
    found = activations(logits).numpy()
    rules = {"single": lambda z: z[0], "larger": max, "smaller": min, "minus": lambda z: -z[0]}
    for kind, rule in rules.items():
        for unit in of_kind(kind):
            expected = rule([standardised(logits, true) for true in unit.classes])
            assert found[unit.unit] == pytest.approx(expected, abs=1e-5), (kind, unit.name)
    (dead,) = of_kind("dead")
    assert found[dead.unit] == 0


def test_the_dense_unit_is_a_constant_and_noise_of_the_pixels():
    (dense,) = of_kind("dense")
    values = [float(activations(np.zeros(1000), torch.rand(1, 3, 4, 4))[dense.unit]) for _ in range(20)]
    assert all(9.9 <= value <= 10.1 for value in values) and len(set(values)) > 10


class SmallNetwork(nn.Module):
    """Parts of MobileNetV2's names: 4 features of an image, and logits of them."""

    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(3, 4, 1)
        self.classifier = nn.Linear(4, 1000)


def test_the_features_of_the_network_follow_the_planted_units():
    network = PlantedNetwork(SmallNetwork()).eval()
    images = torch.rand(2, 3, 6, 6)
    with torch.inference_mode():
        found = network(images)
        features = network.network.features(images).mean((2, 3))
    count = len(planted_units(NETWORK))
    assert found.shape == (2, count + 4)
    torch.testing.assert_close(found[:, count:], features)


def test_units_of_pixels_respond_to_what_they_are_named_for():
    target = open_target(PIXELS)
    assert tuple(target.unit_names(LAYER)) == PIXEL_UNITS
    grey = np.full((224, 224, 3), 128)
    red, left, stripes = grey.copy(), grey.copy(), grey.copy()
    red[64:160, 64:160] = (255, 0, 0)
    left[:, :112] = 255
    stripes[:, [x for x in range(224) if x // 16 % 2 == 0]] = 255
    rows = target.activate([png(image) for image in (grey, red, left, stripes)], [LAYER])[LAYER]
    assert np.abs(rows[0]).max() < 0.01
    assert [int(np.argmax(np.abs(row))) for row in rows[1:]] == [0, 1, 2]
    assert rows[1, 0] > 0.4 and rows[2, 1] > 0.2 and rows[3, 2] > 0.2


@pytest.mark.parametrize(
    ("spec", "options", "said"),
    [
        ("planted:resnet50", {}, "there is no model 'planted:resnet50' with planted units"),
        (PIXELS, {"weights": "x.pth"}, "takes no weights of your own"),
    ],
)
def test_other_models_and_weights_are_refused(spec, options, said, tmp_path):
    options = {name: tmp_path / value for name, value in options.items()}
    with pytest.raises(UsageError, match=said):
        open_target(spec, **options)


def test_without_the_weights_of_the_network_the_remedy_is_named(tmp_path):
    with pytest.raises(MissingPartError, match="line assets install mobilenet_v2"):
        open_target(NETWORK, assets=tmp_path)


@pytest.mark.e2e
def test_the_layer_has_names_and_the_network_s_own_features():
    from line_neurons.tools.assets.location import assets_root

    if state(find("mobilenet_v2")) != "installed":
        pytest.skip("needs mobilenet_v2")
    target = open_target(NETWORK, assets=assets_root())
    names = target.unit_names(LAYER)
    assert len(names) == 123 + 1280 and names[123] == "feature 0"
    image = png(np.random.default_rng(1).integers(0, 255, (256, 256, 3)))
    rows = target.activate([image], [LAYER, "network.features.18", "network.classifier.1"])
    np.testing.assert_allclose(rows[LAYER][:, 123:], rows["network.features.18"], rtol=1e-5)
    unit = planted_units(NETWORK)[0]
    logit = rows["network.classifier.1"][0, unit.classes[0].index]
    assert rows[LAYER][0, 0] == pytest.approx((logit - unit.classes[0].mean) / unit.classes[0].sd, abs=1e-4)
