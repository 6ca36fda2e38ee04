"""Where in an image a unit responds: on networks that look at a known place."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import v2

from line_neurons.agent.errors import UnmeasurableError, UsageError
from line_neurons.tools.targets.base import ModelBundle
from line_neurons.tools.targets.hooked_target import HookedTarget
from line_neurons.tools.targets.maps import WHOLE, linear_layer, unit_maps, visible_boxes

SIDE = 112


def crop(image):
    """Resize to 128 pixels and take the middle 112, as most networks do."""
    tensor = v2.functional.pil_to_tensor(image).float() / 255
    return v2.functional.center_crop(v2.functional.resize(tensor, [128, 128], antialias=True), [SIDE, SIDE])


class Corner(nn.Module):
    """Redness and blueness on a grid of 7 x 7, their means, and two weighted sums of these."""

    def __init__(self, bend=False):
        super().__init__()
        self.bend = bend
        self.features = nn.Conv2d(3, 2, 16, 16)
        self.features.weight.data = torch.zeros(2, 3, 16, 16)
        self.features.weight.data[0, 0], self.features.weight.data[1, 2] = 1 / 256, 1 / 256
        self.features.bias.data.zero_()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flat = nn.Flatten()
        self.act = nn.Sigmoid() if bend else nn.Identity()
        self.head = nn.Linear(2, 3)

    def forward(self, images):
        return self.head(self.act(self.flat(self.pool(self.features(images)))))


def network(module, prepare=crop):
    return HookedTarget(ModelBundle("own:corner", "0", "0", prepare, module.eval), device="cpu")


def with_red_corner(side=256):
    """A dark image with red in the lower right quarter of what the network sees, and a little elsewhere."""
    pixels = np.full((side, side, 3), 20, np.uint8)
    pixels[side * 9 // 16 : side * 15 // 16, side * 9 // 16 : side * 15 // 16, 0] = 250
    pixels[side // 8 : side // 4, side // 8 : side // 4, 0] = 60
    return pixels


def strongest(values):
    return tuple(int(place) for place in np.unravel_index(values.argmax(), values.shape))


def test_a_map_layer_has_its_own_maps():
    target = network(Corner())
    maps = unit_maps(target, [with_red_corner()], "features", [1, 0])
    raw = target.raw_outputs([with_red_corner()], ["features"])["features"].numpy()
    assert (maps.source, maps.layer) == ("map", "features")
    np.testing.assert_array_equal(maps.values, raw[:, [1, 0]])
    assert min(strongest(maps.values[0, 1])) >= 3


def test_a_mean_has_the_map_before_it_as_in_salient_imagenet():
    target = network(Corner())
    maps = unit_maps(target, [with_red_corner()], "flat", [0, 1])
    assert (maps.source, maps.layer) == ("map before the mean", "features")
    mean = target.activate([with_red_corner()], ["flat"])["flat"]
    np.testing.assert_allclose(maps.values.mean((2, 3)), mean, atol=1e-5)


@pytest.mark.parametrize("own", [True, False])
def test_the_class_activation_map_and_the_bias_are_the_logit(own, pixels):
    layer, module = ("head", network(Corner())) if own else ("fc", resnet())
    units = [2, 0, 1]
    maps = unit_maps(module, pixels[:3], layer, units)
    assert maps.source == "class activation map"
    bias = linear_layer(module, layer)[1].numpy()[units]
    logits = module.activate(pixels[:3], [layer])[layer][:, units]
    np.testing.assert_allclose(maps.values.mean((2, 3)) + bias, logits, rtol=1e-4, atol=1e-4)


def resnet():
    from torchvision import models

    torch.manual_seed(0)
    small = models.resnet18(num_classes=4).eval()
    return HookedTarget(ModelBundle("own:resnet", "0", "0", crop, lambda: small), device="cpu")


def test_a_linear_layer_on_something_else_than_a_mean_is_measured_by_occlusion():
    target = network(Corner(bend=True))
    maps = unit_maps(target, [with_red_corner()], "head", [0])
    assert (maps.source, maps.values.shape, maps.boxes) == ("occlusion", (1, 1, 7, 7), (WHOLE,))


def test_occlusion_finds_the_corner_that_the_map_finds_and_only_what_it_blurs_counts():
    target = network(Corner())
    image = with_red_corner()
    own = unit_maps(target, [image], "flat", [0]).values[0, 0]
    occluded = unit_maps(target, [image], "flat", [0], occlusion=True).values[0, 0]
    assert min(strongest(own)) >= 3
    # The mean of redness falls most where red goes: at the edges of the red part.
    assert min(strongest(occluded)) >= 3
    assert abs(occluded[0, 6]) < abs(occluded).max() / 20


def test_one_pass_for_all_units_gives_what_each_alone_gives():
    target = network(Corner())
    both = unit_maps(target, [with_red_corner()], "flat", [0, 1], occlusion=True).values
    alone = unit_maps(target, [with_red_corner()], "flat", [1], occlusion=True).values
    np.testing.assert_array_equal(both[:, 1:], alone)


@pytest.mark.parametrize(("width", "height"), [(256, 256), (300, 150), (64, 640)])
def test_what_the_network_sees_of_an_image_is_known_from_what_its_preprocessing_does(width, height):
    def shorter_side(image):
        tensor = v2.functional.pil_to_tensor(image).float() / 255
        return v2.functional.center_crop(v2.functional.resize(tensor, [128], antialias=True), [SIDE, SIDE])

    ((left, top, right, bottom),) = visible_boxes(
        network(Corner(), shorter_side), [np.zeros((height, width, 3), np.uint8)]
    )
    short = min(width, height)
    across, down = SIDE / 128 * short / width, SIDE / 128 * short / height
    expected = (0.5 - across / 2, 0.5 - down / 2, 0.5 + across / 2, 0.5 + down / 2)
    np.testing.assert_allclose((left, top, right, bottom), expected, atol=0.02)


def test_a_preprocessing_that_is_no_crop_leaves_occlusion():
    def mirrored(image):
        return crop(image).flip(2)

    target = network(Corner(), mirrored)
    assert visible_boxes(target, [with_red_corner()]) == []
    assert unit_maps(target, [with_red_corner()], "features", [0]).source == "occlusion"


def test_tokens_lie_on_their_grid_without_the_class_token(small_vit):
    model = small_vit().eval()

    def prepare(image):
        return v2.functional.resize(v2.functional.pil_to_tensor(image).float() / 255, [32, 32], antialias=True)

    target = HookedTarget(ModelBundle("own:vit", "0", "0", prepare, lambda: model), device="cpu")
    image = np.asarray(Image.effect_noise((64, 64), 90).convert("RGB"))
    layer = "layernorm"
    maps = unit_maps(target, [image], layer, [3])
    raw = target.raw_outputs([image], [layer])[layer]
    assert (maps.source, maps.values.shape) == ("tokens", (1, 1, 2, 2))
    np.testing.assert_array_equal(maps.values[0, 0].ravel(), raw[0, 1:, 3].numpy())


def test_a_function_without_a_network_is_measured_by_occlusion():
    class Redness:
        fingerprint, batch_size = "redness", 4

        def activate(self, images, layers, progress=None):
            return {layer: np.array([[image[..., 0].mean()] for image in images], np.float32) for layer in layers}

    maps = unit_maps(Redness(), [with_red_corner()], "out", [0])
    assert maps.source == "occlusion"
    assert min(strongest(maps.values[0, 0])) >= 3


def test_bad_input_names_the_layer_or_the_image():
    target = network(Corner())
    with pytest.raises(UsageError, match="nothing"):
        unit_maps(target, [with_red_corner()], "nothing", [0])
    with pytest.raises(UnmeasurableError, match="cannot be decoded"):
        unit_maps(target, [b"no image"], "features", [0])
