import hashlib

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional
from torchvision import models

from line_neurons.agent.errors import MissingPartError, UsageError
from line_neurons.tools.targets.registry import open_target

CLASSES = 11
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="module")
def saved(tmp_path_factory, randomised):
    """A model with random weights and its checkpoint, by torchvision's name."""

    def save(name, **options):
        model = randomised(models.get_model(name, **options))
        path = tmp_path_factory.mktemp(name) / "mine.pth"
        torch.save(model.state_dict(), path)
        return model, path

    return save


def test_layers_are_listed_in_forward_order_with_their_units(target):
    layers = {layer.path: layer for layer in target.layers()}
    assert (layers["features.12"].shape, layers["features.12"].units) == ((576, 7, 7), 576)
    assert (layers["avgpool"].kind, layers["avgpool"].units) == ("AdaptiveAvgPool2d", 576)
    assert list(layers).index("features.0.0") < list(layers).index("features.12") < list(layers).index("avgpool")
    assert target.output_layer == "classifier.3"
    assert layers["classifier.3"].units == CLASSES


def test_activations_are_the_models_own_logits_on_the_weights_own_preprocessing(target, checkpoint, pixels):
    model = models.mobilenet_v3_small(num_classes=CLASSES).eval()
    model.load_state_dict(torch.load(checkpoint, weights_only=True))
    preset = models.MobileNet_V3_Small_Weights.DEFAULT.transforms()
    with torch.inference_mode():
        expected = model(torch.stack([preset(Image.fromarray(one)) for one in pixels])).numpy()
    np.testing.assert_allclose(target.activate(pixels, ["classifier.3"])["classifier.3"], expected, **CLOSE)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_a_resnets_layer4_avgpool_and_logits_are_those_of_a_plain_forward(name, saved, pixels, imagenet_input):
    model, path = saved(name, num_classes=CLASSES)
    target = open_target(f"torchvision:{name}@IMAGENET1K_V1", weights=path, device="cpu")
    actual = target.activate(pixels[:2], ["layer4", "avgpool", "fc"])
    with torch.inference_mode():
        x = model.maxpool(model.relu(model.bn1(model.conv1(imagenet_input[:2]))))
        maps = model.layer4(model.layer3(model.layer2(model.layer1(x))))
        vectors = maps.mean((2, 3))
        logits = functional.linear(vectors, model.fc.weight, model.fc.bias)
    np.testing.assert_allclose(actual["layer4"], vectors, **CLOSE)
    np.testing.assert_allclose(actual["avgpool"], vectors, **CLOSE)
    np.testing.assert_allclose(actual["fc"], logits, **CLOSE)


def test_a_vits_tokens_and_head_are_those_of_a_plain_forward(saved, pixels, imagenet_input):
    model, path = saved("vit_b_16", num_classes=CLASSES)
    spec, last = "torchvision:vit_b_16", "encoder.layers.encoder_layer_11"
    with torch.inference_mode():
        patches = functional.conv2d(imagenet_input[:2], model.conv_proj.weight, model.conv_proj.bias, stride=16)
        patches = patches.flatten(2).transpose(1, 2)
        tokens = torch.cat([model.class_token.expand(2, -1, -1), patches], 1) + model.encoder.pos_embedding
        for block in model.encoder.layers:
            normed = block.ln_1(tokens)
            tokens = tokens + block.self_attention(normed, normed, normed, need_weights=False)[0]
            tokens = tokens + block.mlp(block.ln_2(tokens))
        logits = model.heads(model.encoder.ln(tokens)[:, 0])
    cls = open_target(spec, weights=path, device="cpu", batch_size=2)
    mean = open_target(spec, weights=path, device="cpu", batch_size=2, pool="mean-tokens")
    actual = cls.activate(pixels[:2], [last, "heads.head"])
    np.testing.assert_allclose(actual[last], tokens[:, 0], **CLOSE)
    np.testing.assert_allclose(actual["heads.head"], logits, **CLOSE)
    np.testing.assert_allclose(mean.activate(pixels[:2], [last])[last], tokens.mean(1), **CLOSE)


def test_the_fingerprint_tells_the_weights_and_that_they_are_ones_own(target, checkpoint):
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()[:16]
    assert digest in target.fingerprint
    assert "own, transforms of IMAGENET1K_V1" in target.fingerprint
    assert target.unit_names("classifier.3") is None


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("torchvision:mobilnet_v2", "near: mobilenet_v2"),
        ("torchvision:resnet50@V1", "there are IMAGENET1K_V1, IMAGENET1K_V2"),
        ("torchvision:fasterrcnn_resnet50_fpn", r"boxes or masks.*torchvision:fasterrcnn_resnet50_fpn\.backbone"),
        ("torchvision:fcn_resnet50.backbon", r"near: fcn_resnet50\.backbone"),
    ],
)
def test_an_unknown_model_or_weights_is_refused_with_near_ones(spec, said):
    with pytest.raises(UsageError, match=said):
        open_target(spec)


def test_missing_weights_name_the_file_its_size_and_the_remedy(tmp_path):
    with pytest.raises(MissingPartError, match=r"b0353104.*14 MB.*line assets install mobilenet_v2"):
        open_target("torchvision:mobilenet_v2", assets=tmp_path)
    with pytest.raises(MissingPartError, match=r"resnet18-f37072fd\.pth.*45 MB.*put it at"):
        open_target("torchvision:resnet18", assets=tmp_path)


@pytest.mark.parametrize("place", ["assets/mobilenet_v2", "torch_home/hub/checkpoints"])
def test_weights_whose_hash_is_not_the_one_in_their_name_are_refused(tmp_path, place):
    file = tmp_path / place / "mobilenet_v2-b0353104.pth"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"cut off")
    with pytest.raises(MissingPartError, match="is damaged"):
        open_target("torchvision:mobilenet_v2", assets=tmp_path / "assets")


@pytest.mark.e2e
def test_the_embedded_weights_recognise_labelled_photographs(assets, photographs):
    target = open_target("torchvision:mobilenet_v2", assets=assets)
    assert "b03531047ffacf1e (IMAGENET1K_V1)" in target.fingerprint
    assert target.unit_names("classifier.1")[281] == "tabby"
    assert target.unit_names("features.18") is None
    logits = target.activate([photo for photo, _ in photographs], ["classifier.1"])["classifier.1"]
    top = logits.argsort(axis=1)[:, -5:]
    assert np.mean([label in row for (_, label), row in zip(photographs, top, strict=True)]) >= 0.9


@pytest.mark.e2e
def test_the_embedded_targets_units_are_those_of_a_plain_forward(assets, pixels, imagenet_input):
    model = models.mobilenet_v2().eval()
    model.load_state_dict(torch.load(assets / "mobilenet_v2" / "mobilenet_v2-b0353104.pth", weights_only=True))
    with torch.inference_mode():
        maps = model.features(imagenet_input)
        pooled = functional.adaptive_avg_pool2d(maps, 1).flatten(1)
        logits = functional.linear(pooled, model.classifier[1].weight, model.classifier[1].bias)
    target = open_target("torchvision:mobilenet_v2", assets=assets, device="cpu")
    actual = target.activate(pixels, ["features.18", "classifier.1"])
    np.testing.assert_allclose(actual["features.18"], pooled, **CLOSE)
    np.testing.assert_allclose(actual["classifier.1"], logits, rtol=1e-4, atol=1e-4)


def test_a_regnet_which_cannot_be_planned_without_memory_opens(tmp_path):
    torch.manual_seed(0)
    torch.save(models.regnet_y_400mf(num_classes=5).state_dict(), tmp_path / "own.pth")
    target = open_target("torchvision:regnet_y_400mf", weights=tmp_path / "own.pth", device="cpu")
    assert (target.output_layer, target.layers()[-1].units) == ("fc", 5)


@pytest.mark.parametrize(
    ("name", "layer", "side"),
    [("lraspp_mobilenet_v3_large", "16", 520), ("ssdlite320_mobilenet_v3_large", "extra.3", 320)],
)
def test_a_backbone_sees_what_its_whole_model_makes_of_a_square_image(
    name, layer, side, randomised, tmp_path, pixels
):
    model = models.get_model(name, weights=None, weights_backbone=None, num_classes=4).eval()
    randomised(model.backbone)
    torch.save(model.state_dict(), tmp_path / "own.pth")
    square = pixels[0][:, :40]
    target = open_target(f"torchvision:{name}.backbone", weights=tmp_path / "own.pth", device="cpu", batch_size=1)
    assert target.unit_names(layer) is None
    tensor = functional.interpolate(
        torch.from_numpy(square).permute(2, 0, 1)[None].float() / 255,
        (side, side),
        mode="bilinear",
        antialias=True,
    )
    if "ssd" in name:
        (tensor,) = [model.transform([tensor[0]])[0].tensors]
    else:
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        tensor = (tensor - mean[:, None, None]) / std[:, None, None]
    prepared = target._preparation.prepare((0, square))
    # 8-bit rounding between the two orders of resizing and scaling.
    np.testing.assert_allclose(prepared, tensor[0], atol=0.02)
    with torch.inference_mode():
        expected = list(model.backbone(prepared[None]).values())[-1].mean((2, 3))
    np.testing.assert_allclose(target.activate([square], [layer])[layer], expected, **CLOSE)
