import random

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms import v2

from line_neurons.agent.errors import UsageError
from line_neurons.tools.targets.custom import bundle_from_module
from line_neurons.tools.targets.hooked_target import HookedTarget
from line_neurons.tools.targets.registry import open_target

PREPARED = v2.Compose([v2.PILToTensor(), v2.Resize((8, 8)), v2.ToDtype(torch.float32, scale=True)])


def target(model, **settings):
    torch.manual_seed(0)
    return HookedTarget(bundle_from_module(model.eval(), PREPARED), device="cpu", **settings)


class Net(nn.Module):
    """Two layers on the mean colour; ``between`` changes what the second one sees of a batch."""

    def __init__(self, between=None, side=None):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.second = nn.Linear(4, 5)
        self.beside = nn.Linear(4, 3)
        self.between, self.side = between, side

    def forward(self, images):
        hidden = self.first(images.mean((2, 3)))
        if self.side:
            self.beside(self.side(hidden))
        output = self.second(self.between(hidden) if self.between else hidden)
        return {"loss": output.mean(), "logits": output}


def noisy(values):
    return values + torch.rand_like(values)


def seldom(values):
    return values * (torch.rand(()) > 0.4)


def hardly_ever(values):
    return values * (torch.rand(()) > 1e-3)


def dropped_hardly_ever(values):
    return nn.functional.dropout(values, 1e-4, training=True)


def by_python(values):
    return values * random.choice([1, 2])


def by_numpy(values):
    return values + np.random.normal()


def by_batch(values):
    return (values - values.mean(0)) / (values.std(0) + 1e-3)


def attending(values):
    return torch.softmax(values @ values.T, 1) @ values


def by_place(values):
    return values * torch.arange(len(values))[:, None]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (noisy, "gives several values for the same image .*leave out the random operations"),
        (seldom, "gives several values for the same image"),
        (hardly_ever, "gives several values for the same image"),
        (dropped_hardly_ever, "gives several values for the same image"),
        (by_python, "gives several values for the same image"),
        (by_numpy, "gives several values for the same image"),
        (by_batch, "gives an image other values beside other images of a batch .*recorded statistics"),
        (attending, "gives an image other values beside other images"),
        (by_place, "gives an image other values beside other images"),
    ],
)
@pytest.mark.parametrize("place", ["between", "side"])
def test_a_layer_whose_values_differ_is_refused_by_name_and_others_are_measured(fault, said, place, pixels):
    layer = "second" if place == "between" else "beside"
    model = Net(**{place: fault})
    one = target(model)
    with pytest.raises(UsageError, match=rf"^layer {layer} of memory:Net {said}"):
        one.activate(pixels, [layer])
    with pytest.raises(UsageError, match=f"layer {layer}"):
        one.activate([], [layer])
    others = [info.path for info in one.layers()]
    assert layer not in others and "first" in others
    assert list(one.refused_layers()) == [layer]
    expected = model.first(torch.stack([PREPARED(v2.functional.to_pil_image(one)) for one in pixels]).mean((2, 3)))
    np.testing.assert_allclose(one.activate(pixels, ["first"])["first"], expected.detach(), rtol=1e-4, atol=1e-5)


def test_normalisation_that_forgets_its_statistics_is_refused_and_what_it_normalises_is_not():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Conv2d(4, 2, 3))
    assert [layer.path for layer in target(model).layers()] == ["0"]


def test_a_model_of_which_no_layer_is_steady_is_refused_as_a_whole():
    class Random(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden = nn.Linear(3, 4)

        def forward(self, images):
            hidden = self.hidden(images.mean((2, 3)) + torch.rand(len(images), 3))
            return {"loss": hidden.mean(), "logits": hidden}

    with pytest.raises(UsageError, match=r"layer hidden of .* several values for the same image"):
        target(Random()).layers()


def test_values_that_are_not_finite_are_no_difference():
    assert [layer.path for layer in target(Net(lambda values: values / 0)).layers()] == ["first", "second"]


def test_half_precision_is_steady_but_for_rounding():
    assert [layer.path for layer in target(Net(), precision="bfloat16").layers()] == ["first", "second"]


@pytest.fixture
def masked(tmp_path):
    """A masked autoencoder, which masks at random in evaluation too and begins its outputs with the loss."""
    import transformers

    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    decoder = {f"decoder_{name}": size for name, size in (shape | {"num_hidden_layers": 1}).items()}
    config = transformers.ViTMAEConfig(**shape, **decoder, image_size=32, patch_size=8)
    transformers.ViTMAEForPreTraining(config).save_pretrained(tmp_path)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    return open_target(f"hf:{tmp_path}", device="cpu", pool="mean-tokens")


def test_what_a_masked_autoencoder_masks_at_random_is_refused_and_its_patches_are_measured(masked, pixels):
    with pytest.raises(UsageError, match=r"layer vit\.layernorm of .* several values for the same image"):
        masked.activate(pixels, ["vit.layernorm"])
    patches = "vit.embeddings.patch_embeddings"
    assert {layer.path for layer in masked.layers()} >= {patches, f"{patches}.projection"}
    assert not any(layer.path.startswith(("vit.layers", "vit.encoder", "decoder")) for layer in masked.layers())
    twice = [masked.activate(pixels, [patches])[patches] for _ in range(2)]
    np.testing.assert_array_equal(*twice)
