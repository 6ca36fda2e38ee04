import os
from collections import Counter

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn
from torchvision import models
from torchvision.transforms import v2

from line_neurons.agent.errors import UsageError
from line_neurons.tools.targets.base import layer_fingerprint
from line_neurons.tools.targets.custom import bundle_from_module
from line_neurons.tools.targets.hooked_target import HookedTarget
from line_neurons.tools.targets.layers.layouts import IMAGES, find_layers

CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def prepared(height, width=None):
    steps = v2.Resize((height, width or height), antialias=True), v2.ToDtype(torch.float32, scale=True)
    return v2.Compose([v2.PILToTensor(), *steps])


def target(model, height, width=None, **settings):
    torch.manual_seed(0)
    return HookedTarget(bundle_from_module(model.eval(), prepared(height, width)), device="cpu", **settings)


def image(height, width=None):
    return np.random.default_rng(0).integers(0, 256, (height, width or height, 3), np.uint8)


def batch_of(pixels):
    height, width, _ = pixels.shape
    return prepared(height, width)(Image.fromarray(pixels))[None]


def found(model, height, width=None):
    batch = torch.rand(IMAGES, 3, height, width or height)
    with torch.inference_mode():
        return find_layers(model.eval(), model, batch)


def test_a_convolution_of_images_that_are_not_square_has_the_units_that_it_has():
    resnet = target(models.resnet18(), 128, 256)
    layers = {layer.path: layer for layer in resnet.layers()}
    # 64 x 64 x 128, 64 x 32 x 64 and 128 x 16 x 32.
    assert [layers[path].units for path in ("conv1", "relu", "maxpool", "layer1", "layer2")] == [64] * 4 + [128]
    # The two that equal sides were once taken for the image's are not mixed with what was measured of them then.
    assert [path for path, layer in layers.items() if layer.reading] == ["conv1", "bn1", "relu"]
    assert layer_fingerprint(resnet, "conv1") == f"{resnet.fingerprint} layout=channels-first"
    assert layer_fingerprint(resnet, "layer4") == resnet.fingerprint


class Block(nn.Module):
    """ConvNeXt's, which goes to units last and back with function calls, and adds up."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.norm = nn.LayerNorm(8)
        self.linear = nn.Linear(8, 8)

    def forward(self, maps):
        return maps + self.linear(self.norm(self.conv(maps).permute(0, 2, 3, 1))).permute(0, 3, 1, 2)


def test_a_block_with_as_many_units_as_rows_and_columns_is_pooled_over_rows_and_columns():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 4, 4), Block())
    pixels = image(32)
    with torch.inference_mode():
        expected = model(batch_of(pixels)).mean((2, 3))
    np.testing.assert_allclose(target(model, 32).activate([pixels], ["1"])["1"], expected, **CLOSE)


@pytest.mark.parametrize("library", ["timm", "transformers"])
def test_a_convnext_stage_with_as_many_units_as_rows_and_columns_has_its_units(library):
    if library == "timm":
        model = timm.models.convnext.ConvNeXt(depths=(1, 1, 1, 1), dims=(16, 24, 32, 40), num_classes=2)
        stage, block = "stages.0", "stages.0.blocks.0"
    else:
        import transformers

        config = transformers.ConvNextConfig(hidden_sizes=[16, 24, 32, 40], depths=[1, 1, 1, 1])
        model = transformers.ConvNextModel(config)
        stage, block = "encoder.stages.0", "encoder.stages.0.layers.0"
    layers = found(model, 64).known  # 16 x 16 x 16
    assert {layers[path].form for path in (stage, block)} == {"map"}
    assert {one.info.units for one in layers.values()} <= {16, 64, 24, 96, 32, 128, 40, 160, 2}


@given(st.integers(2, 9), st.integers(1, 3), st.integers(1, 3), st.booleans())
@settings(max_examples=15)
def test_units_are_those_of_the_convolution_whatever_the_sides_of_the_image(units, high, wide, last):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, units, 4, 4)
            self.twice = nn.Identity()

        def forward(self, images):
            maps = self.conv(images)
            return self.twice((maps.permute(0, 2, 3, 1) if last else maps) * 2)

    layers = found(Net(), 4 * units * high, 4 * units * wide).known
    assert {path: (one.form, one.info.units) for path, one in layers.items()} == {
        "conv": ("map", units),
        "twice": ("map-last" if last else "map", units),
    }


def vit(**changes):
    sizes = {"embed_dim": 12, "depth": 1, "num_heads": 2, "patch_size": 8, "num_classes": 2, "img_size": (32, 64)}
    return timm.models.vision_transformer.VisionTransformer(**sizes | changes)


def test_the_patches_of_a_rectangular_vit_are_averaged_and_its_class_token_is_taken():
    torch.manual_seed(0)
    model, pixels = vit(), image(32, 64)
    with torch.inference_mode():
        patches = model.patch_embed(batch_of(pixels))
        tokens = model.blocks(model.norm_pre(model._pos_embed(patches)))
        normed = model.norm(tokens)
    actual = target(model, 32, 64).activate([pixels], ["patch_embed", "blocks.0", "norm"])
    np.testing.assert_allclose(actual["patch_embed"], patches.mean(1), **CLOSE)
    np.testing.assert_allclose(actual["blocks.0"], tokens[:, 0], **CLOSE)
    np.testing.assert_allclose(actual["norm"], normed[:, 0], **CLOSE)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"reg_tokens": 4}, True),
        ({"reg_tokens": 4, "class_token": False, "global_pool": "avg"}, False),
        ({"class_token": False, "global_pool": "avg"}, False),
        ({"embed_dim": 34, "img_size": (32, 64)}, True),
    ],
    ids=["class token", "and registers", "registers alone", "neither", "as many units as tokens"],
)
def test_a_class_token_is_told_from_registers_and_patches_in_a_model_of_one_size(changes, expected):
    layers = found(vit(**changes), 32, 64).known
    block, patches = layers["blocks.0"], layers["patch_embed"]
    units = changes.get("embed_dim", 12)
    assert (block.form, block.info.units, block.class_token) == ("tokens", units, expected)
    assert (patches.form, patches.info.units, patches.class_token) == ("tokens", units, False)


class Unfolding(nn.Module):
    """Patches without a convolution; the model takes one size only."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(48, 6)
        self.cls_token = nn.Parameter(torch.rand(1, 1, 6))
        self.positions = nn.Parameter(torch.rand(1, 33, 6))
        self.block = nn.Linear(6, 6)

    def forward(self, images):
        patches = self.embed(nn.functional.unfold(images, 4, stride=4).transpose(1, 2))
        return self.block(torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], 1) + self.positions)


def test_the_token_that_is_the_same_for_every_image_is_the_class_token_and_the_user_is_asked_about_others():
    layers = found(Unfolding(), 16, 32).known
    assert [(path, one.class_token) for path, one in layers.items()] == [("embed", None), ("block", True)]
    with pytest.raises(UsageError, match=r"first token of embed .*\(32 x 6\) .* not known .*--pool mean-tokens"):
        target(Unfolding(), 16, 32).activate([], ["embed"])
    assert target(Unfolding(), 16, 32, pool="mean-tokens").activate([], ["embed"])["embed"].shape == (0, 6)


class Mixed(nn.Module):
    """A product of two maps, with as many units as places: nothing says which side of it is which."""

    def __init__(self, side=8):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 4, 4)
        self.odd = nn.Identity()
        self.fixed = side

    def forward(self, images):
        assert images.shape[2:] == (32, 32)
        maps = self.conv(images)
        return self.odd(maps @ maps.transpose(1, 2))


def test_a_layer_that_is_not_known_is_refused_until_the_user_says_how_it_lies():
    with pytest.raises(UsageError, match=r"which side of the output of odd of .* \(8 x 8 x 8\) .*--layout odd="):
        target(Mixed(), 32).activate([], ["odd"])
    assert [layer.path for layer in target(Mixed(), 32).layers()] == ["conv"]
    torch.manual_seed(0)
    model, pixels = Mixed(), image(32)
    with torch.inference_mode():
        maps = model(batch_of(pixels))
    for layout, places in (("channels-first", (2, 3)), ("odd=channels-first", (2, 3)), ("channels-last", (1, 2))):
        told = target(model, 32, layout=[layout])
        np.testing.assert_allclose(told.activate([pixels], ["odd"])["odd"], maps.mean(places), **CLOSE)
        # It was once taken for channels first.
        mark = " layout=channels-last" if places == (1, 2) else ""
        assert layer_fingerprint(told, "odd") == told.fingerprint + mark
        assert layer_fingerprint(told, "conv") == told.fingerprint


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        ("odd=tokens", r"'tokens' does not fit odd, .* 8 x 8 x 8 \(for it: channels-first or channels-last\)"),
        ("add=tokens", r"layer 'add', which has no output .* near: odd"),
        (
            "channels-last",
            r"'channels-last' is not that of conv .*8 x 8 x 8.* channels-first .*conv=channels-last",
        ),
    ],
)
def test_a_layout_that_does_not_fit_is_refused(layout, said):
    with pytest.raises(UsageError, match=said):
        target(Mixed(), 32, layout=[layout]).activate([], ["conv"])


def test_a_layout_for_a_single_layer_stands_above_what_is_known():
    model, pixels = Mixed(), image(32)
    with torch.inference_mode():
        rows = model.conv(batch_of(pixels)).mean((1, 2))
    told = target(model, 32, layout=["conv=channels-last"])
    np.testing.assert_allclose(told.activate([pixels], ["conv"])["conv"], rows, **CLOSE)
    assert layer_fingerprint(told, "conv") != told.fingerprint


def test_looking_at_other_sizes_leaves_nothing_in_the_model():
    class Keeping(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 4, 4)
            self.act = nn.Identity()
            self.tables = {}

        def forward(self, images):
            self.last = self.conv(images)
            self.tables[images.shape] = self.last
            return self.act(self.last @ self.last.transpose(2, 3))

    model = Keeping()
    layers = found(model, 32)
    assert layers.known["act"].rule == "sizes"
    assert [shape[0] for shape in model.tables] == [IMAGES]
    assert type(model.last) is torch.Tensor and len(model.last) == IMAGES


def test_a_model_that_looks_at_values_is_tried_on_other_sizes_all_the_same():
    class Looking(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 4, 4)
            self.pool = nn.Identity()

        def forward(self, images):
            maps = self.conv(images)
            scale = 2.0 if float(maps.sum()) > 1e9 else 1.0
            return self.pool(torch.einsum("nchw,cd->ndhw", maps, torch.eye(8)) * scale)

    layers = found(Looking(), 32).known
    assert (layers["pool"].form, layers["pool"].rule) == ("map", "sizes")


def architectures():
    for name in models.list_models(models):
        yield f"torchvision:{name}"
    for name in timm.list_models():
        yield f"timm:{name}"


_SOME = (
    "torchvision:resnet18",
    "torchvision:squeezenet1_1",
    "torchvision:swin_t",
    "torchvision:vit_b_32",
    "timm:convnext_atto",
    "timm:deit_tiny_distilled_patch16_224",
    "timm:edgenext_xx_small",
    "timm:gmixer_12_224",
    "timm:xcit_nano_12_p16_224",
)


def scanned(spec):
    """How many layers of an architecture each rule decides, and which are not known."""
    library, _, name = spec.partition(":")
    # RegNets look at values of their weights while they are made.
    with torch.device("cpu" if name.startswith("regnet_") and library == "torchvision" else "meta"):
        if library == "timm":
            model = timm.create_model(name)
            shape = model.pretrained_cfg["input_size"]
        else:
            more = {"init_weights": False} if name in {"googlenet", "inception_v3"} else {}
            model = models.get_model(name, weights=None, **more).to("meta")
            shape = (3, 299, 299) if name == "inception_v3" else (3, 224, 224)
    with torch.inference_mode():
        layers = find_layers(model.eval(), model, torch.empty(IMAGES, *shape, device="meta"))
    rules = Counter("vector" if one.form == "vector" else one.rule for one in layers.known.values())
    return rules, list(layers.unknown)


# LINE_SCAN=all takes every architecture of torchvision and timm, an hour or more; --junitxml has the counts.
_SCANNED = tuple(architectures()) if os.environ.get("LINE_SCAN") == "all" else _SOME
# What attention has for each head, where several sides stay as they are, parts of a linear layer's output, and
# layers of models of one size that no known layer is next to.
_OPEN = {
    "attn_drop",
    "softmax",
    "kernel_func",
    "unfold",
    "q_norm",
    "k_norm",
    "v_norm",
    "act",
    "mlp_act",
    "mlp_drop",
    "q",
    "kv",
    "qkv",
    "ln",
    "ln1",
    "rel_pos",
    "window_attention",
    "departition_op",
    "pool",
}


@pytest.mark.parametrize("spec", _SCANNED)
def test_the_layers_of_an_architecture_are_known_by_kind_neighbour_or_sizes(spec, record_property):
    rules, unknown = scanned(spec)
    record_property("layers", f"{spec} {dict(rules)} unknown={len(unknown)}")
    assert rules.total() > 0
    assert rules.keys() <= {"vector", "kind", "neighbour", "sizes", "usual kind"}
    last = {"stages", "stages.3"} if spec.startswith("timm:gcvit_") else set()
    names = {path.rpartition(".")[2] for path in set(unknown) - last}
    assert names <= _OPEN | {f"crpe{stage}" for stage in range(1, 5)}


MODEL = """
import torch


class Odd(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 4, 4)
        self.odd = torch.nn.Identity()

    def forward(self, images):
        assert images.shape[2:] == (224, 224)
        maps = self.conv(images)[:, :, :8, :8]
        return self.odd(maps @ maps.transpose(1, 2))


def odd():
    torch.manual_seed(0)
    return Odd()
"""


def test_the_command_names_layers_that_are_left_out_and_takes_a_layout(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "line_test_odd.py").write_text(MODEL)
    status, out, _ = line("layers", "line_test_odd.py:odd")
    said = " ".join(out.split())
    assert status == 0 and "left out: which side of the output of odd" in said and "--layout odd=LAYOUT" in said
    status, out, _ = line("layers", "line_test_odd.py:odd", "--layout", "odd=channels-last")
    assert status == 0 and "left out" not in out and "odd" in out
    status, _, err = line("layers", "line_test_odd.py:odd", "--layout", "rows")
    assert status == 2 and "layout" in err and "channels-first" in err
