import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn import functional

from line_neurons.agent.errors import MissingPartError, UsageError
from line_neurons.tools.targets.registry import open_target

SMALL = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
SQUARE = {"image_size": 32, "patch_size": 8, **SMALL}
DINO = {"image_size": 32, "patch_size": 8, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
NAMES = ["tench", "goldfish", "great white shark"]
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture
def saved(tmp_path):
    """Save a model with random weights, and a processor, into a folder."""

    def save(model, folder="model"):
        torch.manual_seed(0)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, 0, 0.2)
        model.eval().save_pretrained(tmp_path / folder)
        transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / folder)
        return model, tmp_path / folder

    return save


def classifier():
    labels = dict(enumerate(NAMES))
    config = transformers.ViTConfig(
        **SQUARE, id2label=labels, label2id={name: number for number, name in labels.items()}
    )
    return transformers.ViTForImageClassification(config)


def clip():
    return transformers.CLIPModel(
        transformers.CLIPConfig(
            vision_config=SQUARE,
            text_config={**SMALL, "vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2},
            projection_dim=16,
        )
    )


def siglip():
    text = {**SMALL, "vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2}
    return transformers.SiglipModel(transformers.SiglipConfig(vision_config=SQUARE, text_config=text))


def prepared(pixels):
    # Pixels of exactly the model's size need no resizing, so this is all that a ViT's processor does.
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2) / 127.5 - 1


@pytest.fixture
def square(pixels):
    return [one[:32, :32] for one in pixels]


def test_an_image_classifiers_tokens_logits_and_names(saved, square):
    model, folder = saved(classifier())
    with torch.inference_mode():
        output = model(pixel_values=prepared(square), output_hidden_states=True)
        normed = functional.layer_norm(
            output.hidden_states[-1], (24,), model.vit.layernorm.weight, model.vit.layernorm.bias, 1e-12
        )
        logits = functional.linear(normed[:, 0], model.classifier.weight, model.classifier.bias)
    target = open_target(f"hf:{folder}", device="cpu")
    mean = open_target(f"hf:{folder}", device="cpu", pool="mean-tokens")
    last = "vit.layers.1"
    actual = target.activate(square, [last, "classifier", "vit"])
    np.testing.assert_allclose(actual[last], output.hidden_states[-1][:, 0], **CLOSE)
    np.testing.assert_allclose(actual["vit"], normed[:, 0], **CLOSE)
    np.testing.assert_allclose(actual["classifier"], logits, **CLOSE)
    by_mean = mean.activate(square, [last])[last]
    np.testing.assert_allclose(by_mean, output.hidden_states[-1].mean(1), **CLOSE)
    assert list(target.unit_names("classifier")) == NAMES
    assert target.unit_names(last) is None


@pytest.mark.parametrize(
    ("make", "layer", "pick"),
    [
        (
            lambda: transformers.Dinov2Model(transformers.Dinov2Config(**DINO)),
            "layernorm",
            lambda output: output.last_hidden_state[:, 0],
        ),
        (
            lambda: transformers.Dinov2WithRegistersModel(transformers.Dinov2WithRegistersConfig(**DINO)),
            "layernorm",
            lambda output: output.last_hidden_state[:, 0],
        ),
        (
            lambda: transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**SQUARE)),
            "encoder",
            lambda output: output.last_hidden_state[:, 0],
        ),
        (
            lambda: transformers.CLIPVisionModelWithProjection(
                transformers.CLIPVisionConfig(**SQUARE, projection_dim=16)
            ),
            "visual_projection",
            lambda output: output.image_embeds,
        ),
        (
            lambda: transformers.ConvNextForImageClassification(
                transformers.ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], num_labels=3)
            ),
            "classifier",
            lambda output: output.logits,
        ),
    ],
    ids=["dinov2", "dinov2 with registers", "clip vision", "clip vision with projection", "convnext"],
)
def test_other_vision_models_give_what_a_plain_forward_gives(make, layer, pick, saved, square):
    model, folder = saved(make())
    target = open_target(f"hf:{folder}", device="cpu")
    with torch.inference_mode():
        expected = pick(model(pixel_values=prepared(square)))
    np.testing.assert_allclose(target.activate(square, [layer])[layer], expected, **CLOSE)
    assert target.unit_names(layer) is None
    every = [one.path for one in target.layers()]
    assert target.activate(square[:1], every).keys() == set(every)


@pytest.mark.parametrize("make", [clip, siglip])
def test_of_a_model_of_images_and_text_the_vision_part_is_taken(make, saved, square, capfd):
    model, folder = saved(make())
    capfd.readouterr()
    target = open_target(f"hf:{folder}", device="cpu", pool="mean-tokens")
    with torch.inference_mode():
        expected = model.vision_model(pixel_values=prepared(square)).last_hidden_state.mean(1)
    actual = target.activate(square, ["encoder", "post_layernorm"])
    after = "encoder" if make is clip else "post_layernorm"
    np.testing.assert_allclose(actual[after], expected, **CLOSE)
    assert not any("text" in layer.path for layer in target.layers())
    assert capfd.readouterr() == ("", "")


def test_maps_and_tokens_of_swin_and_convnext_have_their_units_where_they_are(saved):
    config = transformers.SwinConfig(image_size=32, embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=4)
    _, folder = saved(transformers.SwinModel(config))
    layers = {layer.path: layer for layer in open_target(f"hf:{folder}", device="cpu").layers()}
    assert (layers["encoder"].shape, layers["encoder"].units) == ((16, 16), 16)
    assert (layers["pooler"].shape, layers["pooler"].units) == ((16, 1), 16)
    with pytest.raises(UsageError, match="have no class token"):
        open_target(f"hf:{folder}", device="cpu", pool="cls").activate([], ["encoder"])


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_an_own_checkpoint_replaces_the_weights_and_brings_its_number_of_classes(
    suffix, prefix, saved, square, tmp_path
):
    _, folder = saved(classifier())
    model, other = saved(
        transformers.ViTForImageClassification(transformers.ViTConfig(**SQUARE, num_labels=5)), "other"
    )
    state = {prefix + key: value for key, value in load_file(other / "model.safetensors").items()}
    path = tmp_path / f"own{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    (folder / "model.safetensors").unlink()
    target = open_target(f"hf:{folder}", weights=path, device="cpu")
    with torch.inference_mode():
        expected = model(pixel_values=prepared(square)).logits
    np.testing.assert_allclose(target.activate(square, ["classifier"])["classifier"], expected, **CLOSE)
    assert target.unit_names("classifier") is None
    assert "(own)" in target.fingerprint


def test_a_checkpoint_of_another_model_is_refused_with_counts(saved, tmp_path):
    _, folder = saved(classifier())
    save_file({"conv1.weight": torch.zeros(3), "fc.weight": torch.zeros(3, 3)}, tmp_path / "own.safetensors")
    with pytest.raises(UsageError, match=r"own\.safetensors does not fit hf:.*of 40 tensors, 40 missing"):
        open_target(f"hf:{folder}", weights=tmp_path / "own.safetensors", device="cpu").layers()


def test_a_pooler_that_was_not_published_is_left_out(saved, square):
    _, folder = saved(transformers.ViTModel(transformers.ViTConfig(**SQUARE)))
    state = load_file(folder / "model.safetensors")
    save_file({k: v for k, v in state.items() if "pooler" not in k}, folder / "model.safetensors")
    target = open_target(f"hf:{folder}", device="cpu")
    assert target.activate(square, ["layernorm"])["layernorm"].shape == (7, 24)
    assert not any("pooler" in layer.path for layer in target.layers())


def test_weights_that_are_missing_from_a_folder_are_not_made_up(saved):
    _, folder = saved(classifier())
    state = load_file(folder / "model.safetensors")
    save_file({k: v for k, v in state.items() if "classifier" not in k}, folder / "model.safetensors")
    with pytest.raises(UsageError, match=r"2 missing \(classifier\.bias, classifier\.weight\)"):
        open_target(f"hf:{folder}", device="cpu").layers()


def test_the_fingerprint_follows_weights_configuration_and_preprocessing(saved):
    _, folder = saved(classifier())
    seen = {open_target(f"hf:{folder}").fingerprint}
    assert open_target(f"hf:{folder}").fingerprint in seen
    for file, old, new in (
        ("config.json", '"gelu"', '"relu"'),
        ("preprocessor_config.json", "0.5", "0.25"),
    ):
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new))
        seen.add(open_target(f"hf:{folder}").fingerprint)
    state = load_file(folder / "model.safetensors")
    save_file({key: value + 1 for key, value in state.items()}, folder / "model.safetensors")
    seen.add(open_target(f"hf:{folder}").fingerprint)
    assert len(seen) == 4


def test_what_is_no_vision_model_or_not_whole_is_refused(saved, tmp_path):
    _, folder = saved(transformers.BertModel(transformers.BertConfig(vocab_size=50, **SMALL)), "bert")
    with pytest.raises(UsageError, match="is a 'bert' model, and no module of it takes only images"):
        open_target(f"hf:{folder}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="is not a vision model that transformers can read"):
        open_target(f"hf:{tmp_path / 'empty'}")
    _, folder = saved(classifier())
    weights = folder / "model.safetensors"
    part = weights.rename(folder / "model-00001-of-00001.safetensors")
    weights.write_bytes(part.read_bytes())
    with pytest.raises(UsageError, match=r"holds both model\.safetensors and model-00001-of-00001\.safetensors"):
        open_target(f"hf:{folder}")
    part.unlink()
    weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 46830571\n")
    with pytest.raises(UsageError, match=r"model\.safetensors is a Git LFS pointer.*git lfs pull"):
        open_target(f"hf:{folder}")
    weights.unlink()
    with pytest.raises(MissingPartError, match=r"has no model\.safetensors"):
        open_target(f"hf:{folder}")


def test_a_folder_with_pickled_weights_alone_says_how_they_are_read(saved, square):
    model, folder = saved(classifier())
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    said = r"only as pytorch_model\.bin, and no model\.safetensors \(.*--weights (.*pytorch_model\.bin)\)"
    with pytest.raises(MissingPartError, match=said):
        open_target(f"hf:{folder}")
    target = open_target(f"hf:{folder}", weights=folder / "pytorch_model.bin", device="cpu")
    with torch.inference_mode():
        expected = model(pixel_values=prepared(square)).logits
    np.testing.assert_allclose(target.activate(square, ["classifier"])["classifier"], expected, **CLOSE)


@pytest.mark.parametrize("names", ["model", "file"])
def test_of_two_networks_in_a_checkpoint_the_chosen_one_is_used(names, saved, square, tmp_path):
    model, folder = saved(classifier())
    state = model.state_dict() if names == "model" else load_file(folder / "model.safetensors")
    other = {key: value + 1 for key, value in state.items()}
    torch.save(
        {"model": other, "ema": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "own.pth"
    )
    with pytest.raises(UsageError, match="2 networks that fit hf:model: ema, model"):
        open_target(f"hf:{folder}", weights=tmp_path / "own.pth", device="cpu").layers()
    target = open_target(f"hf:{folder}", weights=tmp_path / "own.pth#ema", device="cpu")
    assert "#ema (own)" in target.fingerprint
    with torch.inference_mode():
        expected = model(pixel_values=prepared(square)).logits
    np.testing.assert_allclose(target.activate(square, ["classifier"])["classifier"], expected, **CLOSE)


@pytest.mark.parametrize("prefix", ["", "vit."])
def test_a_checkpoint_without_the_class_layer_has_the_layers_before_it(prefix, saved, square, tmp_path):
    _, folder = saved(classifier())
    whole = open_target(f"hf:{folder}", device="cpu")
    state = load_file(folder / "model.safetensors")
    backbone = {key.replace("vit.", prefix): value for key, value in state.items() if key.startswith("vit.")}
    torch.save(backbone, tmp_path / "own.pth")
    target = open_target(f"hf:{folder}", weights=tmp_path / "own.pth", device="cpu")
    np.testing.assert_allclose(
        target.activate(square, ["vit.layers.1"])["vit.layers.1"],
        whole.activate(square, ["vit.layers.1"])["vit.layers.1"],
        **CLOSE,
    )
    assert "classifier" not in [layer.path for layer in target.layers()]
    with pytest.raises(UsageError, match="have no classifier, the class layer"):
        target.unit_names("classifier")


def test_code_in_a_repository_is_never_run(saved, tmp_path):
    _, folder = saved(classifier())
    config = folder / "config.json"
    remote = '"auto_map": {"AutoConfig": "own.Config"}, "model_type": "own-code"'
    config.write_text(config.read_text().replace('"model_type": "vit"', remote))
    (folder / "own.py").write_text(f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()")
    with pytest.raises(UsageError, match="is not a vision model that transformers can read"):
        open_target(f"hf:{folder}")
    assert not (tmp_path / "ran").exists()


def test_a_hub_id_is_found_in_the_cache_and_its_absence_says_what_to_do(saved, square, tmp_path):
    with pytest.raises(MissingPartError, match=r"some/model, which hf:some/model needs, are not .*--download"):
        open_target("hf:some/model")
    with pytest.raises(MissingPartError, match="check the name"):
        open_target("hf:not a/valid/name")
    _, folder = saved(classifier())
    repository = tmp_path / "hub" / "models--some--model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "v2").write_text("0123456789" * 4)
    (repository / "snapshots").mkdir()
    folder.rename(repository / "snapshots" / ("0123456789" * 4))
    target = open_target("hf:some/model@v2", device="cpu")
    assert target.name == "hf:some/model@0123456"
    assert target.activate(square, ["classifier"])["classifier"].shape == (7, 3)
    with pytest.raises(MissingPartError, match="not in the hub's cache"):
        open_target("hf:some/model")


def test_a_image_is_resized_as_the_processor_says(saved, pixels):
    model, folder = saved(classifier())
    target = open_target(f"hf:{folder}", device="cpu")
    resized = [np.asarray(Image.fromarray(one).resize((32, 32), Image.Resampling.BILINEAR)) for one in pixels]
    with torch.inference_mode():
        expected = model(pixel_values=prepared(resized)).logits
    # Pillow and the processor round a step of 255 differently.
    actual = target.activate(pixels, ["classifier"])["classifier"]
    np.testing.assert_allclose(actual, expected, atol=0.05 * expected.abs().max().item())


def detr():
    backbone = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 8, 16], depths=[1] * 4, layer_type="basic", out_features=["stage4"]
    )
    sides = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "num_queries": 5, "d_model": 16}
    config = transformers.DetrConfig(backbone_config=backbone, use_timm_backbone=False, **sides, **heads)
    config.id2label = dict(enumerate(NAMES))
    return transformers.DetrForObjectDetection(config)


def yolos():
    config = transformers.YolosConfig(**{**SQUARE, "image_size": [32, 32]}, num_detection_tokens=6)
    config.id2label = dict(enumerate(NAMES))
    return transformers.YolosForObjectDetection(config)


@pytest.mark.parametrize("make", [detr, yolos])
def test_a_detectors_classes_name_its_class_layer_which_pools_its_queries_by_their_largest(make, saved, square):
    model, folder = saved(make())
    target = open_target(f"hf:{folder}", device="cpu")
    head = "class_labels_classifier"
    assert target.output_layer == head
    assert list(target.unit_names(head)) == [*NAMES, "no object"]
    assert target.unit_names("bbox_predictor") is None
    with torch.inference_mode():
        logits = model(pixel_values=prepared(square)).logits
    np.testing.assert_allclose(target.activate(square, [head])[head], logits.amax(1), **CLOSE)
    mean = open_target(f"hf:{folder}", device="cpu", pool="mean-tokens")
    np.testing.assert_allclose(mean.activate(square, [head])[head], logits.mean(1), **CLOSE)
    assert "pool=max" in next(layer.reading for layer in target.layers() if layer.path == head)


def test_patches_of_a_dinov3_leave_out_the_class_token_and_the_registers(saved, square):
    config = transformers.DINOv3ViTConfig(**SQUARE, num_register_tokens=4)
    model, folder = saved(transformers.DINOv3ViTModel(config))
    with torch.inference_mode():
        tokens = model(pixel_values=prepared(square)).last_hidden_state
    for pool, expected in (("patches", tokens[:, 5:].mean(1)), ("max-patches", tokens[:, 5:].amax(1))):
        actual = open_target(f"hf:{folder}", device="cpu", pool=pool).activate(square, ["norm"])["norm"]
        np.testing.assert_allclose(actual, expected, **CLOSE)
