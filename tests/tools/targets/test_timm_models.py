import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from line_neurons.agent.errors import MissingPartError, UsageError
from line_neurons.tools.targets.registry import open_target

CLOSE = {"rtol": 1e-4, "atol": 1e-5}
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def save(model, path):
    save_file(model.state_dict(), path)
    return path


def prepared(pixels, size, crop, mean, std):
    # Written out, with Pillow alone: the shorter side to size, the middle, scaled.
    tensors = []
    for one in pixels:
        image = Image.fromarray(one)
        scale = size / min(image.size)
        resized = image.resize([int(side * scale) for side in image.size], Image.Resampling.BICUBIC)
        left, top = (round((side - crop) / 2) for side in resized.size)
        middle = resized.crop((left, top, left + crop, top + crop))
        tensors.append((torch.from_numpy(np.asarray(middle) / np.float32(255)) - mean) / std)
    return torch.stack(tensors).permute(0, 3, 1, 2)


def test_a_resnets_units_are_those_of_a_plain_forward_on_the_weights_own_preprocessing(
    randomised, pixels, tmp_path
):
    model = randomised(timm.create_model("resnet18", pretrained=False, num_classes=7))
    target = open_target("timm:resnet18.a1_in1k", weights=save(model, tmp_path / "mine.safetensors"), device="cpu")
    with torch.inference_mode():
        # Its published recipe: bicubic, the middle 95%.
        maps = model.forward_features(prepared(pixels, 235, 224, MEAN, STD))
        logits = torch.nn.functional.linear(maps.mean((2, 3)), model.fc.weight, model.fc.bias)
    actual = target.activate(pixels, ["layer4", "global_pool", "fc"])
    np.testing.assert_allclose(actual["layer4"], maps.mean((2, 3)), **CLOSE)
    np.testing.assert_allclose(actual["global_pool"], maps.mean((2, 3)), **CLOSE)
    np.testing.assert_allclose(actual["fc"], logits, **CLOSE)
    assert target.unit_names("fc") is None
    assert "own, transforms of a1_in1k" in target.fingerprint


def test_a_vits_tokens_and_head_are_those_of_a_plain_forward(randomised, pixels, tmp_path):
    model = randomised(timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=7))
    path = save(model, tmp_path / "mine.safetensors")
    half = torch.tensor([0.5, 0.5, 0.5])
    with torch.inference_mode():
        tokens = model.patch_embed(prepared(pixels[:2], 248, 224, half, half))
        tokens = torch.cat([model.cls_token.expand(2, -1, -1), tokens], 1) + model.pos_embed
        for block in model.blocks:
            tokens = tokens + block.attn(block.norm1(tokens))
            tokens = tokens + block.mlp(block.norm2(tokens))
        logits = model.head(model.norm(tokens)[:, 0])
    cls = open_target("timm:vit_tiny_patch16_224", weights=path, device="cpu")
    mean = open_target("timm:vit_tiny_patch16_224", weights=path, device="cpu", pool="mean-tokens")
    actual = cls.activate(pixels[:2], ["blocks.11", "head"])
    np.testing.assert_allclose(actual["blocks.11"], tokens[:, 0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(actual["head"], logits, rtol=1e-4, atol=1e-4)
    by_mean = mean.activate(pixels[:2], ["blocks.11"])["blocks.11"]
    np.testing.assert_allclose(by_mean, tokens.mean(1), rtol=1e-4, atol=1e-4)


def test_pretrained_weights_come_from_the_hubs_cache_with_class_names(randomised, pixels, tmp_path):
    model = randomised(timm.create_model("resnet18", pretrained=False))
    repository = tmp_path / "hub" / "models--timm--resnet18.a1_in1k"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0123456789" * 4)
    folder = repository / "snapshots" / ("0123456789" * 4)
    folder.mkdir(parents=True)
    save(model, folder / "model.safetensors")
    target = open_target("timm:resnet18.a1_in1k", device="cpu")
    own = open_target("timm:resnet18.a1_in1k", weights=folder / "model.safetensors", device="cpu")
    np.testing.assert_array_equal(target.activate(pixels, ["fc"])["fc"], own.activate(pixels, ["fc"])["fc"])
    assert target.unit_names("fc")[281] == "tabby"
    assert target.unit_names("global_pool") is None


def test_a_cached_repository_without_safetensors_is_refused(tmp_path):
    repository = tmp_path / "hub" / "models--timm--resnet18.a1_in1k"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0123456789" * 4)
    (repository / "snapshots" / ("0123456789" * 4)).mkdir(parents=True)
    with pytest.raises(MissingPartError, match=r"timm/resnet18\.a1_in1k.*has no model\.safetensors.*--weights"):
        open_target("timm:resnet18.a1_in1k")


def test_weights_that_are_not_here_say_how_to_get_them():
    with pytest.raises(MissingPartError, match=r"timm/resnet18\.a1_in1k.*not in the hub's cache.*--download"):
        open_target("timm:resnet18")


@pytest.mark.parametrize(
    ("spec", "said"), [("timm:resnet81", "near: .*resnet18"), ("timm:resnet18.a9", r"near: .*resnet18\.a3_in1k")]
)
def test_an_unknown_model_is_refused_with_near_ones(spec, said):
    with pytest.raises(UsageError, match=said):
        open_target(spec)


def test_a_checkpoint_of_another_model_is_refused(randomised, tmp_path):
    path = save(timm.create_model("resnet18", pretrained=False), tmp_path / "mine.safetensors")
    with pytest.raises(UsageError, match=r"does not fit timm:resnet50: of 320 tensors, \d+ missing"):
        open_target("timm:resnet50", weights=path, device="cpu").layers()
