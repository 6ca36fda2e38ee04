from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from line_neurons.agent.errors import UsageError
from line_neurons.tools.targets.base import layer_fingerprint
from line_neurons.tools.targets.custom import bundle_from_module
from line_neurons.tools.targets.latents import target as latent_target
from line_neurons.tools.targets.latents.autoencoder import LatentActivation, SparseAutoencoder
from line_neurons.tools.targets.latents.directions import read_directions
from line_neurons.tools.targets.latents.reconstruction import reconstruction
from line_neurons.tools.targets.latents.target import LatentTarget

D = 6


class Net(nn.Module):
    """Maps of 6 units, their mean, and 4 classes."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, D, 4, 4)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.other = nn.Linear(D, D)
        self.fc = nn.Linear(D, 4)

    def forward(self, images):
        return self.fc(self.other(self.pool(self.conv(images)).flatten(1)))


class Vit(models.VisionTransformer):
    def __init__(self):
        torch.manual_seed(0)
        super().__init__(16, 8, 1, 2, D, 12, num_classes=4)


def whole(tokens=None):
    """An autoencoder that reconstructs everything: a latent for each value and one for its negative."""
    encoder = torch.cat([torch.eye(D), -torch.eye(D)], 1)
    zeros, after = torch.zeros(2 * D), torch.full((D,), 0.3)
    activation = LatentActivation("relu")
    return SparseAutoencoder(
        "x.pt", "", encoder, zeros, activation, after, encoder.T.clone(), after, tokens=tokens
    )


def prepare(image):
    return torch.from_numpy(np.asarray(image.resize((16, 16)), np.float32)).permute(2, 0, 1) / 255


@pytest.fixture
def pictures():
    draw = np.random.default_rng(1)
    return [draw.integers(0, 255, (16, 16, 3), dtype=np.uint8) for _ in range(7)]


def target(net, code=None, **options):
    bundle = bundle_from_module(net.eval(), prepare)
    return LatentTarget(bundle, code or whole(), "x", device="cpu", batch_size=3, **options)


def values(net, pictures, path):
    out = []
    handle = net.get_submodule(path).register_forward_hook(lambda *seen: out.append(seen[2]))
    with torch.inference_mode():
        net(torch.stack([torch.from_numpy(one.astype(np.float32)).permute(2, 0, 1) / 255 for one in pictures]))
    handle.remove()
    return out[0]


def test_latents_of_a_map_are_those_of_its_strongest_position(pictures):
    net = Net()
    tokens = values(net, pictures, "conv").flatten(2).transpose(1, 2)
    code = whole().encode(tokens)
    for pool, due in (("auto", code.amax(1)), ("max", code.amax(1)), ("mean", code.mean(1))):
        found = target(net, pool=pool).activate(pictures, ["conv~x"])["conv~x"]
        np.testing.assert_allclose(found, due, atol=1e-6)
    info = next(layer for layer in target(net).layers() if layer.path == "conv~x")
    assert (info.shape, info.units) == ((16, 2 * D), 2 * D)
    # A vector is one token; layers of other widths are not listed.
    assert [layer.path for layer in target(net).layers()] == ["conv~x", "pool~x", "other~x"]


@pytest.mark.parametrize(
    ("options", "pick"),
    [
        ({}, slice(1, None)),
        ({"tokens": "all"}, slice(None)),
        ({"tokens": "cls"}, slice(0, 1)),
        ({"pool": "cls"}, slice(0, 1)),
        ({"pool": "max-patches"}, slice(1, None)),
        ({"code": whole("cls")}, slice(0, 1)),
        ({"code": whole("cls"), "tokens": "patches"}, slice(1, None)),
    ],
)
def test_the_tokens_are_the_patches_unless_the_user_or_the_file_says_otherwise(options, pick, pictures):
    net = Vit()
    layer = "encoder.layers.encoder_layer_0"
    due = whole().encode(values(net.eval(), pictures, layer)[:, pick]).amax(1)
    found = target(net, **options).activate(pictures, [f"{layer}~x"])[f"{layer}~x"]
    np.testing.assert_allclose(found, due, atol=1e-5)


def test_an_images_latents_are_the_same_in_any_batch(pictures):
    alone = target(Vit()).activate(pictures[4:5], ["encoder~x"])["encoder~x"]
    together = target(Vit()).activate(pictures, ["encoder~x"])["encoder~x"]
    assert alone[0].tobytes() == together[4].tobytes()


def test_the_fingerprint_tells_the_encoder_and_the_tokens():
    net = Net()
    first = layer_fingerprint(target(net), "conv~x")
    other = whole()
    moved = SparseAutoencoder("y.pt", "", other.encoder * 2, other.bias, other.activation, decoder=other.decoder)
    assert layer_fingerprint(target(net, moved), "conv~x") != first
    assert layer_fingerprint(target(net, tokens="all"), "conv~x") != first
    assert layer_fingerprint(target(net), "conv~x") == first


@pytest.mark.parametrize(
    ("options", "layer", "message"),
    [
        ({}, "fc", r"x\.pt reads 6 values, and fc .* has 4.*layers of 6 values: conv, pool, other"),
        ({}, "covn", "no layer 'covn'.*near: conv"),
        ({"tokens": "cls"}, "conv", "conv .* has no class token.*leave out --tokens cls"),
        ({"pool": "cls"}, "conv", "conv .* has no class token.*leave out --pool cls"),
        ({"pool": "cls", "tokens": "patches"}, "conv", "pool 'cls' takes the class token"),
    ],
)
def test_what_does_not_fit_the_layer_is_refused(options, layer, message):
    with pytest.raises(UsageError, match=message):
        target(Net(), **options).activate([], [f"{layer}~x"])


def test_the_reconstruction_tells_whether_an_autoencoder_fits(pictures):
    right = whole()
    tokens = target(Net()).tokens(pictures, "conv~x")
    assert tokens.shape == (7 * 16, D)
    found = reconstruction(tokens, right)
    assert found.explained == pytest.approx(1, abs=1e-5)
    assert found.active == pytest.approx(D, abs=0.01)
    assert found.seen == pytest.approx(1, abs=0.5)
    shuffled = replace(right, decoder=right.decoder.roll(2, 0))
    assert reconstruction(tokens, shuffled).explained < 0
    without = replace(right, before=None, decoder=None, after=None)
    assert reconstruction(tokens, without).explained is None


def test_what_a_constant_and_a_scale_would_explain_is_told_apart(pictures):
    right = whole()
    tokens = target(Net()).tokens(pictures, "conv~x")
    moved = reconstruction(tokens, replace(right, after=right.after + 1))
    assert moved.shifted == pytest.approx(1, abs=1e-5) and moved.constant == pytest.approx(1, abs=1e-4)
    half = reconstruction(tokens, replace(right, decoder=right.decoder / 2))
    assert half.calibrated == pytest.approx(1, abs=1e-5) and half.systematic == pytest.approx(1, abs=1e-4)


def test_of_very_many_tokens_some_are_taken(pictures, monkeypatch):
    monkeypatch.setattr(latent_target, "_MOST_VALUES", 28 * D)
    assert 14 <= len(target(Net()).tokens(pictures, "conv~x")) <= 28


def test_directions_are_projections_with_names(pictures, tmp_path):
    draw = np.random.default_rng(3)
    vectors, bias = draw.normal(size=(2, D)).astype(np.float32), np.array([0.5, -1], np.float32)
    np.savez(tmp_path / "d.npz", directions=vectors, bias=bias, names=np.array(["striped", "dotted"]))
    code = read_directions(tmp_path / "d.npz")
    net = Net()
    made = target(net, code)
    assert list(made.unit_names("conv~x")) == ["striped", "dotted"]
    tokens = values(net, pictures, "conv").flatten(2).transpose(1, 2).numpy()
    due = tokens @ (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).T + bias
    np.testing.assert_allclose(made.activate(pictures, ["conv~x"])["conv~x"], due.max(1), atol=1e-5)
    save_file(
        {"head.weight": torch.from_numpy(vectors), "head.bias": torch.from_numpy(bias)}, tmp_path / "p.safetensors"
    )
    probe = read_directions(tmp_path / "p.safetensors")
    assert probe.identity == code.identity
    # A file that says that its directions were fitted on the mean is read with it.
    mean = target(net, replace(code, pool="mean"))
    np.testing.assert_allclose(mean.activate(pictures, ["conv~x"])["conv~x"], due.mean(1), atol=1e-5)
    largest = target(net, replace(code, pool="mean"), pool="max")
    np.testing.assert_allclose(largest.activate(pictures, ["conv~x"])["conv~x"], due.max(1), atol=1e-5)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"other": np.ones(3)}, "has none of directions, weight, W_dec"),
        ({"directions": np.ones((2, 3)), "weight": np.ones((2, 3))}, "has directions and weight"),
        ({"directions": np.zeros((2, 3))}, "no vectors .* length above 0"),
        ({"directions": np.ones((2, 3)), "bias": np.ones(3)}, "2 directions and 3"),
        ({"directions": np.ones((2, 3)), "names": np.array(["a", "a"])}, "not as many different names"),
        ({"directions": np.array([None])}, "cannot be read"),
    ],
)
def test_a_file_of_directions_that_does_not_fit_is_refused(arrays, message, tmp_path):
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(UsageError, match=message):
        read_directions(tmp_path / "d.npz")
    with pytest.raises(UsageError, match="there is no file of directions"):
        read_directions(tmp_path / "none.npz")
