import hashlib
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models

from line_neurons.agent.errors import BackendError, MissingPartError, UsageError
from line_neurons.tools.targets.layer_outputs import find_layers, first_tensor, hooked, pool
from line_neurons.tools.targets.registry import open_target

CLASSES = 11


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def empty_hub(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch_home"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "mine.pth"
    torch.save(models.mobilenet_v3_small(num_classes=CLASSES).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def pictures():
    draw = np.random.default_rng(0)
    return [png(draw.integers(0, 255, (40, 48, 3), dtype=np.uint8)) for _ in range(7)]


@pytest.fixture
def target(checkpoint):
    return open_target("torchvision:mobilenet_v3_small", weights=checkpoint, device="cpu")


def png(pixels):
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_layers_are_listed_in_forward_order_with_their_units(target):
    layers = {layer.path: layer for layer in target.layers()}
    assert (layers["features.12"].shape, layers["features.12"].units) == ((576, 7, 7), 576)
    assert (layers["avgpool"].kind, layers["avgpool"].units) == ("AdaptiveAvgPool2d", 576)
    assert list(layers).index("features.0.0") < list(layers).index("features.12") < list(layers).index("avgpool")
    assert target.output_layer == "classifier.3"
    assert layers["classifier.3"].units == CLASSES


def test_activations_are_the_models_own_logits_on_the_weights_own_preprocessing(target, checkpoint, pictures):
    model = models.mobilenet_v3_small(num_classes=CLASSES).eval()
    model.load_state_dict(torch.load(checkpoint, weights_only=True))
    preset = models.MobileNet_V3_Small_Weights.DEFAULT.transforms()
    batch = torch.stack([preset(Image.open(BytesIO(picture)).convert("RGB")) for picture in pictures])
    with torch.inference_mode():
        expected = model(batch).numpy()
    actual = target.activate(pictures, "classifier.3")
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)


def test_a_map_is_pooled_by_its_mean_or_its_maximum(checkpoint, pictures):
    spec = "torchvision:mobilenet_v3_small"
    mean, largest = (
        open_target(spec, weights=checkpoint, pooling=pooling, device="cpu") for pooling in ("mean", "max")
    )
    by_mean = mean.activate(pictures[:2], "features.12")
    np.testing.assert_allclose(by_mean, mean.activate(pictures[:2], "avgpool"), rtol=1e-4, atol=1e-5)
    assert (largest.activate(pictures[:2], "features.12") >= by_mean).all()
    assert mean.fingerprint != largest.fingerprint


def test_a_pictures_activations_are_the_same_bits_whatever_it_is_batched_with(target, pictures):
    together = target.activate(pictures, "features.12")
    alone = np.concatenate([target.activate([picture], "features.12") for picture in pictures])
    backwards = target.activate(pictures[::-1], "features.12")[::-1]
    assert together.tobytes() == alone.tobytes() == backwards.tobytes()


def test_progress_counts_pictures_and_can_cancel(target, pictures):
    seen = []
    target.activate(pictures, "avgpool", lambda done, total: seen.append((done, total)))
    assert seen == [(5, 7), (7, 7)]

    def cancel(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        target.activate(pictures, "avgpool", cancel)
    assert target.activate([], "avgpool").shape == (0, 576)


def test_hooks_are_gone_after_use_and_after_errors(target, pictures):
    target.activate(pictures[:1], "avgpool")
    with pytest.raises(ZeroDivisionError), hooked({"avgpool": target._modules["avgpool"]}, print):
        raise ZeroDivisionError
    assert not any(module._forward_hooks for module in target._model.modules())


def test_the_fingerprint_tells_the_weights_and_that_they_are_ones_own(target, checkpoint):
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()[:16]
    assert digest in target.fingerprint
    assert "own, transforms of IMAGENET1K_V1" in target.fingerprint
    assert target.unit_names("classifier.3") is None


def test_a_wrapped_checkpoint_of_parallel_training_gives_the_same_activations(
    target, checkpoint, pictures, tmp_path
):
    state = torch.load(checkpoint, weights_only=True)
    wrapped = tmp_path / "wrapped.pth"
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}, "epoch": 3}, wrapped)
    other = open_target("torchvision:mobilenet_v3_small", weights=wrapped, device="cpu")
    np.testing.assert_array_equal(
        other.activate(pictures, "classifier.3"), target.activate(pictures, "classifier.3")
    )


def test_safetensors_are_read(target, checkpoint, pictures, tmp_path):
    save_file = pytest.importorskip("safetensors.torch").save_file
    path = tmp_path / "mine.safetensors"
    save_file(torch.load(checkpoint, weights_only=True), path)
    other = open_target("torchvision:mobilenet_v3_small", weights=path, device="cpu")
    np.testing.assert_array_equal(
        other.activate(pictures, "classifier.3"), target.activate(pictures, "classifier.3")
    )
    path.write_bytes(b"not tensors")
    with pytest.raises(UsageError, match="cannot be read"):
        open_target("torchvision:mobilenet_v3_small", weights=path, device="cpu").layers()


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("torchvision:mobilnet_v2", "near: mobilenet_v2"),
        ("torchvision:resnet50@V1", "there are IMAGENET1K_V1, IMAGENET1K_V2"),
        ("torchvision:fasterrcnn_resnet50_fpn", "no classification model"),
    ],
)
def test_an_unknown_model_or_weights_is_refused_with_near_ones(spec, said):
    with pytest.raises(UsageError, match=said):
        open_target(spec)


def test_an_unknown_layer_is_refused_with_near_ones(target, pictures):
    with pytest.raises(UsageError, match=r"near: features\.12.*line layers torchvision:mobilenet_v3_small"):
        target.activate(pictures, "feature.12")


@pytest.mark.parametrize("device", ["cuda:99", "toaster"])
def test_a_device_that_is_not_there_is_refused(device, checkpoint):
    with pytest.raises(UsageError, match=device):
        open_target("torchvision:mobilenet_v3_small", weights=checkpoint, device=device)


def test_a_batch_of_no_pictures_is_refused(checkpoint):
    with pytest.raises(UsageError, match="batch of 0"):
        open_target("torchvision:mobilenet_v3_small", weights=checkpoint, batch_size=0)


def test_missing_weights_name_the_file_its_size_and_the_remedy(tmp_path):
    with pytest.raises(MissingPartError, match=r"b0353104.*14 MB.*line assets install mobilenet_v2"):
        open_target("torchvision:mobilenet_v2", assets=tmp_path).layers()
    with pytest.raises(MissingPartError, match=r"resnet18-f37072fd\.pth.*45 MB.*put it at"):
        open_target("torchvision:resnet18", assets=tmp_path).layers()


@pytest.mark.parametrize("place", ["assets/mobilenet_v2", "torch_home/hub/checkpoints"])
def test_weights_whose_hash_is_not_the_one_in_their_name_are_refused(tmp_path, place):
    file = tmp_path / place / "mobilenet_v2-b0353104.pth"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"cut off")
    with pytest.raises(MissingPartError, match="is damaged"):
        _ = open_target("torchvision:mobilenet_v2", assets=tmp_path / "assets").fingerprint


def test_a_checkpoint_of_another_model_or_of_nothing_is_refused(checkpoint, tmp_path):
    with pytest.raises(UsageError, match="does not fit torchvision:squeezenet1_1"):
        open_target("torchvision:squeezenet1_1", weights=checkpoint, device="cpu").layers()
    with pytest.raises(UsageError, match="no weights file"):
        open_target("torchvision:squeezenet1_1", weights=tmp_path / "none.pth").layers()
    for content in ([1, 2], {"epoch": 3}):
        torch.save(content, tmp_path / "odd.pth")
        with pytest.raises(UsageError, match="no state dict"):
            open_target("torchvision:squeezenet1_1", weights=tmp_path / "odd.pth", device="cpu").layers()
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(UsageError, match="cannot be read"):
        open_target("torchvision:squeezenet1_1", weights=tmp_path / "text.pth", device="cpu").layers()


def test_a_picture_that_cannot_be_decoded_is_named_by_its_index(target, pictures):
    for broken in (b"", b"text", pictures[0][:200]):
        with pytest.raises(BackendError, match="picture 1 cannot be decoded"):
            target.activate([pictures[0], broken], "avgpool")


def test_activations_that_are_not_finite_are_refused(checkpoint, pictures, tmp_path):
    state = torch.load(checkpoint, weights_only=True)
    state["classifier.3.bias"][2] = float("nan")
    torch.save(state, tmp_path / "nan.pth")
    target = open_target("torchvision:mobilenet_v3_small", weights=tmp_path / "nan.pth", device="cpu")
    with pytest.raises(BackendError, match="not finite for picture 0"):
        target.activate(pictures, "classifier.3")


def test_transformer_tokens_have_units_last_and_pool_to_the_class_token_or_the_mean():
    model = models.VisionTransformer(16, 8, 1, 2, 12, 24).eval()
    images = torch.rand(2, 3, 16, 16)
    layers, _ = find_layers(model, images)
    assert (layers["encoder"].shape, layers["encoder"].units) == ((5, 12), 12)
    attention = "encoder.layers.encoder_layer_0.self_attention"
    assert layers[attention].units == 12
    out = []
    with hooked({attention: model.get_submodule(attention)}, lambda *seen: out.append(first_tensor(seen[2]))):
        model(images)
    for tokens, expected in (("cls", out[0][:, 0]), ("mean", out[0].mean(1))):
        torch.testing.assert_close(pool(out[0], units_last=False, pooling="mean", tokens=tokens), expected)


def test_maps_of_a_swin_transformer_have_their_units_last_where_they_do():
    model = models.SwinTransformer([4, 4], 8, [1, 1], [1, 1], [4, 4]).eval()
    layers, units_last = find_layers(model, torch.rand(2, 3, 32, 32))
    assert (layers["features.0.0"].units, "features.0.0" in units_last) == (8, False)
    assert (layers["features.1.0.mlp"].units, "features.1.0.mlp" in units_last) == (8, True)
    assert (layers["features.3"].units, "features.3" in units_last) == (16, True)
    assert (layers["permute"].shape, "permute" in units_last) == ((16, 4, 4), False)
    tiles = torch.rand(2, 4, 4, 8)
    torch.testing.assert_close(
        pool(tiles, units_last=True, pooling="max", tokens="cls"), tiles.flatten(1, 2).amax(1)
    )


@pytest.mark.e2e
def test_the_embedded_weights_recognise_labelled_photographs(assets):
    target = open_target("torchvision:mobilenet_v2", assets=assets)
    assert "b03531047ffacf1e (IMAGENET1K_V1)" in target.fingerprint
    assert target.unit_names("classifier.1")[281] == "tabby"
    assert target.unit_names("features.18") is None
    photos = [
        file for file in sorted((assets / "imagenet-samples").rglob("*_*")) if file.suffix in {".jpg", ".png"}
    ]
    logits = target.activate([photo.read_bytes() for photo in photos], "classifier.1")
    labels = [int(photo.name.split("_")[0]) for photo in photos]
    top = logits.argsort(axis=1)[:, -5:]
    assert np.mean([label in row for label, row in zip(labels, top, strict=True)]) >= 0.9
