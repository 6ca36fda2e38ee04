import json

import pytest
import torch

from line_neurons.agent.errors import MissingPartError, UsageError
from line_neurons.tools.targets.layer_list import LayerList, list_architecture, list_layers
from line_neurons.tools.targets.registry import open_target

MISSING = MissingPartError("the weights are not here")


def listed(found):
    return [(info.path, info.kind, info.shape, info.units) for info in found.layers]


@pytest.mark.parametrize("model", ["squeezenet1_1", "mobilenet_v3_small", "regnet_y_400mf"])
def test_the_architecture_has_the_layers_of_the_model_with_weights(model, tmp_path):
    from torchvision import models

    torch.manual_seed(0)
    torch.save(models.get_model(model, weights=None).state_dict(), tmp_path / "own.pth")
    whole = list_layers(open_target(f"torchvision:{model}", weights=tmp_path / "own.pth", device="cpu"))
    before = torch.get_rng_state()
    bare = list_architecture(f"torchvision:{model}", MISSING)
    assert torch.equal(before, torch.get_rng_state())
    assert listed(bare) == listed(whole)
    assert (bare.output, bare.last_hidden) == (whole.output, whole.last_hidden)
    assert bare.missing is MISSING and whole.missing is None


@pytest.mark.parametrize(
    ("spec", "hidden", "output", "classes"),
    [
        ("torchvision:vit_b_16", "encoder", "heads.head", 1000),
        ("places365:resnet50", "layer4", "fc", 365),
        ("keras:resnet50", "layer4", "fc", 1000),
        ("timm:resnet10t", "layer4", "fc", 1000),
    ],
)
def test_usual_layers_are_the_last_maps_or_tokens_and_the_classes(spec, hidden, output, classes):
    if spec.startswith("timm"):
        pytest.importorskip("timm")
    found = list_architecture(spec, MISSING)
    assert (found.last_hidden, found.output) == (hidden, output)
    assert next(info.units for info in found.layers if info.path == output) == classes


def test_of_a_model_of_the_hub_the_configuration_is_enough(tmp_path, monkeypatch, small_vit):
    with pytest.raises(
        MissingPartError, match=r"configuration of hf:owner/name is not in the hub's cache.*download"
    ):
        list_architecture("hf:owner/name", MISSING)
    small_vit().config.save_pretrained(tmp_path)
    processor = {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    monkeypatch.setattr("line_neurons.tools.targets.architectures.cached", lambda *_: tmp_path)
    found = list_architecture("hf:owner/name", MISSING)
    assert {"layernorm", "embeddings"} <= {info.path for info in found.layers}


def test_a_source_without_architectures_and_an_unknown_model_are_told():
    with pytest.raises(MissingPartError, match="the weights are not here"):
        list_architecture("mynet.py:net", MISSING)
    with pytest.raises(UsageError, match="no classification model 'resnet5'; near: resnet50"):
        list_architecture("torchvision:resnet5", MISSING)


def test_layers_are_chosen_by_depth_and_pattern():
    found = list_architecture("torchvision:squeezenet1_1", MISSING)
    assert {info.path for info in found.matching(1)} == {"features", "classifier"}
    assert all("expand" in info.path for info in found.matching(None, "EXPAND3x3"))
    assert {info.kind for info in found.matching(2, "^Fire$")} == {"Fire"}
    with pytest.raises(UsageError, match=r"'\(' is no regular expression.*plain word"):
        found.matching(None, "(")
    assert LayerList([]).last_hidden is None
