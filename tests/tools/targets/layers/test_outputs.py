from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import nn
from torchvision import models

from line_neurons.agent.errors import UsageError
from line_neurons.agent.ports import LayerInfo
from line_neurons.agent.setting_groups.target import Pool
from line_neurons.tools.targets.layers.layouts import find_layers
from line_neurons.tools.targets.layers.outputs import (
    LayerOutput,
    check_pool,
    first_tensor,
    hooked,
    pooled,
)


def found_in(model, size):
    images = torch.rand(3, 3, size, size)
    with torch.inference_mode():
        return find_layers(model.eval(), model, images).known, images


def output(form, *shape, class_token=False):
    units = shape[0] if form == "map" else shape[-1]
    return LayerOutput(LayerInfo("there", "Kind", shape, units), form, class_token)


def test_transformer_tokens_have_units_last_and_pool_to_the_class_token_or_the_mean():
    model = models.VisionTransformer(16, 8, 1, 2, 12, 24)
    layers, images = found_in(model, 16)
    assert (layers["encoder"].info.shape, layers["encoder"].info.units) == ((5, 12), 12)
    attention = layers["encoder.layers.encoder_layer_0.self_attention"]
    assert (attention.form, attention.class_token, attention.info.units) == ("tokens", True, 12)
    out = []
    module = model.get_submodule(attention.info.path)
    with hooked({"attention": module}, lambda *seen: out.append(first_tensor(seen[2]))):
        model(images)
    for pool, expected in (
        ("auto", out[0][:, 0]),
        ("cls", out[0][:, 0]),
        ("mean-tokens", out[0].mean(1)),
        ("max", out[0].amax(1)),
        ("patches", out[0][:, 1:].mean(1)),
        ("max-patches", out[0][:, 1:].amax(1)),
    ):
        torch.testing.assert_close(pooled(out[0], attention, pool), expected)


def test_maps_of_a_swin_transformer_have_their_units_last_where_they_do():
    model = models.SwinTransformer([4, 4], 8, [1, 1], [1, 1], [4, 4])
    layers, _ = found_in(model, 32)
    # 8 x 8 x 8: the shape says nothing, the kind of module does.
    assert (layers["features.0.0"].info.units, layers["features.0.0"].form) == (8, "map")
    assert (layers["features.1.0.mlp"].info.units, layers["features.1.0.mlp"].form) == (8, "map-last")
    assert (layers["features.3"].info.units, layers["features.3"].form) == (16, "map-last")
    assert (layers["permute"].info.shape, layers["permute"].form) == ((16, 4, 4), "map")
    tiles = torch.rand(2, 4, 4, 8)
    torch.testing.assert_close(pooled(tiles, output("map-last", 4, 4, 8), "max"), tiles.flatten(1, 2).amax(1))


class Permuting(nn.Module):
    """A ConvNeXt block that permutes with function calls, as timm's and transformers' do."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 12, 4, 4)
        self.linear = nn.Linear(12, 24)
        self.act = nn.GELU()
        self.block = nn.Identity()

    def forward(self, images):
        tiles = self.act(self.linear(self.conv(images).permute(0, 2, 3, 1)))
        return self.block(tiles.permute(0, 3, 1, 2))


def test_the_shape_tells_where_the_units_are_when_a_function_call_permutes():
    layers, _ = found_in(Permuting(), 32)
    assert {path: (one.form, one.info.units) for path, one in layers.items()} == {
        "conv": ("map", 12),
        "linear": ("map-last", 24),
        "act": ("map-last", 24),
        "block": ("map", 24),
    }


class Tokens(nn.Module):
    """A patch embedding and a mixing of tokens; ``extra`` tokens go before."""

    def __init__(self, extra, name, *, batch_second=False):
        super().__init__()
        self.embed = nn.Conv2d(3, 6, 4, 4)
        self.batch_second = batch_second
        if extra:
            self.register_parameter(name, nn.Parameter(torch.rand(1, extra, 6)))
        self.extra = name if extra else None
        self.block = nn.Linear(6, 6)

    def forward(self, images):
        tokens = self.embed(images).flatten(2).transpose(1, 2)
        if self.extra:
            tokens = torch.cat([getattr(self, self.extra).expand(len(tokens), -1, -1), tokens], 1)
        return self.block(tokens.transpose(0, 1) if self.batch_second else tokens)


@pytest.mark.parametrize(
    ("extra", "name", "expected"),
    [
        (0, "", False),
        (1, "cls_token", True),
        (1, "first", True),  # one token more than the grid has places
        (5, "class_token", True),  # with registers
        (4, "registers", False),
    ],
)
def test_a_class_token_is_known_by_its_parameter_or_by_the_count_of_tokens(extra, name, expected):
    layers, _ = found_in(Tokens(extra, name), 32)
    assert layers["block"].class_token is expected


def test_tokens_with_the_batch_second_are_understood():
    layers, _ = found_in(Tokens(1, "class_token", batch_second=True), 32)
    block = layers["block"]
    assert (block.form, block.info.shape, block.info.units, block.class_token) == ("sequence", (65, 6), 6, True)
    tokens = torch.rand(65, 3, 6)
    torch.testing.assert_close(pooled(tokens, block, "auto"), tokens[0])
    torch.testing.assert_close(pooled(tokens, block, "mean-tokens"), tokens.mean(0))


def test_the_first_tensor_is_found_inside_of_tuples_lists_mappings_and_model_outputs():
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    request, other = torch.rand(2), torch.rand(2)
    for given in (
        request,
        (None, request, other),
        [[request], other],
        {"aux": None, "out": (request,)},
        BaseModelOutputWithPooling(last_hidden_state=request, pooler_output=other),
    ):
        assert first_tensor(given) is request
    assert first_tensor({"loss": 3.0}) is None


@pytest.mark.parametrize(
    ("layer", "pool", "said"),
    [
        (
            output("tokens", 5, 12, class_token=True),
            "mean",
            r"'mean'.*tokens \(5 x 12\).*auto, cls, mean-tokens, max",
        ),
        (
            replace(output("tokens", 5, 12), no_patches=None),
            "patches",
            "which tokens of there .* not known.*use max",
        ),
        (
            replace(output("tokens", 1, 12), no_patches=frozenset({0})),
            "max-patches",
            "no token of there .* is a patch",
        ),
        (output("map", 5, 7, 7), "mean-tokens", r"'mean-tokens'.*maps \(5 x 7 x 7\).*auto, mean, max"),
        (output("sequence", 5, 12), "cls", r"'cls'.*no class token.*mean-tokens"),
    ],
)
def test_a_pool_that_does_not_fit_is_refused_with_those_that_do(layer, pool, said):
    with pytest.raises(UsageError, match=said):
        check_pool(layer, pool, "some:model")


@pytest.mark.parametrize("pool", get_args(Pool))
def test_a_vector_needs_no_pool_and_takes_any(pool):
    vector = torch.rand(2, 4)
    check_pool(output("vector", 4), pool, "some:model")
    torch.testing.assert_close(pooled(vector, output("vector", 4), pool), vector)


def test_pooling_is_done_in_float32():
    # Above 2,048, float16 has no odd numbers.
    tiles = torch.tensor([[[[2048.0, 2050.0]]]], dtype=torch.float16)
    assert tiles.mean().item() != 2049
    assert pooled(tiles, output("map", 1, 1, 2), "mean").item() == 2049


@pytest.mark.parametrize(
    ("extra", "name", "places"), [(0, "", 0), (1, "cls_token", 1), (5, "class_token", 5), (4, "registers", 4)]
)
def test_patches_are_the_tokens_without_class_token_and_registers(extra, name, places):
    layers, _ = found_in(Tokens(extra, name), 32)
    assert layers["block"].no_patches == frozenset(range(places))


class Queries(nn.Module):
    """A detector's decoder: parameters that look at the patches."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(3, 6, 4, 4)
        self.start = nn.Parameter(torch.rand(1, 7, 6))
        self.first = nn.Linear(6, 6)
        self.attention = nn.MultiheadAttention(6, 1, batch_first=True)
        self.boxes = nn.Linear(6, 4)
        self.depth = Depth()

    def forward(self, images):
        patches = self.embed(images)
        tokens = patches.flatten(2).transpose(1, 2)
        queries = self.first(self.start.expand(len(tokens), -1, -1))
        self.depth(patches)
        return self.boxes(self.attention(queries, tokens, tokens)[0])


class Depth(nn.Module):
    def forward(self, patches):
        return patches.repeat_interleave(2, 2).repeat_interleave(2, 3).sum(1)


def test_the_largest_query_counts_where_tokens_are_queries_and_old_runs_take_the_mean():
    model, images = Queries().eval(), torch.rand(3, 3, 32, 32)
    with torch.inference_mode():
        now = find_layers(model, model, images).known["boxes"]
        before = find_layers(model, model, images, query_pool="mean").known["boxes"]
        named = find_layers(model, model, images, pool="mean-tokens").known["boxes"]
    assert (now.queries, now.info.reading, named.info.reading, before.info.reading) == (True, " pool=max", "", "")
    tokens = torch.rand(3, 7, 4)
    torch.testing.assert_close(pooled(tokens, now, "auto"), tokens.amax(1))
    torch.testing.assert_close(pooled(tokens, before, "auto"), tokens.mean(1))
    torch.testing.assert_close(pooled(tokens, now, "mean-tokens"), tokens.mean(1))
    check_pool(now, "auto", "model")
    with pytest.raises(UsageError, match="no token of boxes"):
        check_pool(now, "patches", "model")


def test_an_output_that_grows_with_both_sides_of_the_image_is_a_map_of_one_unit():
    layers, _ = found_in(Queries(), 32)
    depth = layers["depth"]
    assert (depth.form, depth.info.shape, depth.info.units, depth.rule) == ("plane", (16, 16), 1, "sizes")
    plane = torch.rand(3, 16, 16)
    torch.testing.assert_close(pooled(plane, depth, "auto"), plane.mean((1, 2))[:, None])
    torch.testing.assert_close(pooled(plane, depth, "max"), plane.amax((1, 2))[:, None])
