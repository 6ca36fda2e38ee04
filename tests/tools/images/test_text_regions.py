"""Regions by a text, with a tiny CLIPSeg of random weights."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessor, CLIPSegConfig, CLIPSegForImageSegmentation, ViTImageProcessor

from line_neurons.agent.errors import MissingPartError, UsageError
from line_neurons.tools.editors.salient import open_region
from support.tiny_pipelines import CONTEXT, WIDTH, tokenizer

SIDE = {"hidden_size": WIDTH, "intermediate_size": 37, "num_attention_heads": 4, "num_hidden_layers": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder as transformers saves a CLIPSeg."""
    made = tmp_path_factory.mktemp("clipseg")
    torch.manual_seed(0)
    special = {"bos_token_id": 512, "eos_token_id": 513, "pad_token_id": 513}
    config = CLIPSegConfig(
        text_config={**SIDE, **special, "vocab_size": 514, "max_position_embeddings": CONTEXT},
        vision_config={**SIDE, "image_size": 32, "patch_size": 8},
        projection_dim=WIDTH, extract_layers=[0, 1], reduce_dim=8, decoder_num_attention_heads=2,
        decoder_intermediate_size=16,
    )  # fmt: skip
    CLIPSegForImageSegmentation(config).save_pretrained(made)
    tokenizer().save_pretrained(made)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(made)
    return made


def photograph(seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (60, 90, 3), np.uint8))


def test_the_region_depends_on_the_text_and_has_the_size_of_the_image(folder):
    model = open_region(f"hf:{folder}", folder, "cpu", download=False)
    found = [model.region(photograph(), concept) for concept in ("owl", "a very long name of an owl " * 9)]
    assert all(
        one.shape == (60, 90) and one.dtype == np.float32 and 0 <= one.min() <= one.max() <= 1 for one in found
    )
    assert (found[0] != found[1]).any()
    assert (model.region(photograph(), "owl") == found[0]).all()
    assert model.fingerprint.startswith("clipseg ")


def test_what_finds_no_region_is_refused_in_one_line(tmp_path, folder, monkeypatch):
    CLIPImageProcessor().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(UsageError, match=r"holds a 'clip' model, which finds no region by a text") as caught:
        open_region(f"hf:{tmp_path}", tmp_path, "cpu", download=False)
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="no region 'saliant'"):
        open_region("saliant", tmp_path, "cpu", download=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(MissingPartError, match="--download"):
        open_region("hf:CIDAS/clipseg-rd64-refined", tmp_path, "cpu", download=False)
