import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from line_neurons.agent.errors import MissingPartError, UsageError
from line_neurons.tools.assets.location import state
from line_neurons.tools.assets.packs import find
from line_neurons.tools.targets.keras_resnet50 import _arrays, _files
from line_neurons.tools.targets.registry import open_target


def keras_forward(arrays, pixels):
    """Keras' own layers one by one, from the arrays as Keras has them: no module and no renaming of ours."""
    arrays = {name: torch.from_numpy(array) for name, array in arrays.items()}

    def conv(x, name, norm, stride=1, padding=0):
        kernel = arrays[f"{name}/kernel"].permute(3, 2, 0, 1)
        x = functional.conv2d(x, kernel, arrays[f"{name}/bias"], stride, padding)
        gamma, beta, mean, variance = (
            arrays[f"{norm}/{part}"].view(-1, 1, 1) for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return (x - mean) / (variance + 1e-3).sqrt() * gamma + beta

    square = [Image.fromarray(one).resize((224, 224), Image.Resampling.BILINEAR) for one in pixels]
    x = torch.from_numpy(np.stack([np.asarray(one)[:, :, ::-1] for one in square])).float()
    x = (x - torch.tensor([103.939, 116.779, 123.68])).permute(0, 3, 1, 2)
    x = functional.max_pool2d(functional.pad(conv(x, "conv1", "bn_conv1", 2, 3).relu(), (1, 1, 1, 1)), 3, 2)
    for stage, blocks in (("2", "abc"), ("3", "abcd"), ("4", "abcdef"), ("5", "abc")):
        for block in blocks:
            name = f"{stage}{block}_branch"
            stride = 2 if block == "a" and stage != "2" else 1
            y = conv(x, f"res{name}2a", f"bn{name}2a", stride).relu()
            y = conv(y, f"res{name}2b", f"bn{name}2b", 1, 1).relu()
            y = conv(y, f"res{name}2c", f"bn{name}2c")
            x = (y + (conv(x, f"res{name}1", f"bn{name}1", stride) if block == "a" else x)).relu()
    vectors = x.mean((2, 3))
    return vectors, vectors @ arrays["fc1000/kernel"] + arrays["fc1000/bias"]


@pytest.fixture
def keras_resnet50(assets):
    """The folder of asset packs, with this one among them."""
    if state(find("resnet50")) != "installed":
        pytest.skip("not installed: resnet50; `line assets install resnet50` installs it, with npm")
    return assets


@pytest.mark.e2e
def test_its_units_are_those_of_keras_own_layers(keras_resnet50, pixels):
    target = open_target("keras:resnet50", assets=keras_resnet50, device="cpu")
    with torch.inference_mode():
        vectors, logits = keras_forward(_arrays(_files(keras_resnet50 / "resnet50" / "model.json")), pixels[:2])
    actual = target.activate(pixels[:2], ["layer4", "avgpool", "fc"])
    np.testing.assert_allclose(actual["layer4"], vectors, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(actual["avgpool"], vectors, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(actual["fc"], logits, rtol=1e-4, atol=1e-3)


@pytest.mark.e2e
def test_it_recognises_labelled_photographs(keras_resnet50, photographs):
    target = open_target("keras:resnet50", assets=keras_resnet50, device="cpu")
    assert target.unit_names("fc")[281] == "tabby"
    logits = target.activate([photo for photo, _ in photographs], ["fc"])["fc"]
    order = logits.argsort(axis=1)[:, ::-1]
    labels = np.array([label for _, label in photographs])
    hits = order[:, :5] == labels[:, None]
    # The set's 20 are JPEG files, its 50 PNG.
    jpeg = np.array([photo.startswith(b"\xff\xd8") for photo, _ in photographs])
    figures = [(hits[group, 0].mean(), hits[group].any(axis=1).mean()) for group in (jpeg, ~jpeg)]
    assert (jpeg.sum(), (~jpeg).sum()) == (20, 50)
    np.testing.assert_allclose(figures, [(0.95, 1.0), (0.74, 0.98)], atol=0.021)


@pytest.mark.e2e
def test_a_damaged_pack_and_an_incomplete_copy_are_refused(keras_resnet50, tmp_path):
    pack = shutil.copytree(keras_resnet50 / "resnet50", tmp_path / "resnet50")
    shard = pack / "group1-shard7of25.bin"
    shard.write_bytes(bytes(8) + shard.read_bytes()[8:])
    with pytest.raises(MissingPartError, match=r"are damaged \(line assets install resnet50 --force\)"):
        open_target("keras:resnet50", assets=tmp_path)
    changed = open_target("keras:resnet50", weights=pack / "model.json", device="cpu")
    assert "(own)" in changed.fingerprint
    assert changed.unit_names("fc") is None
    shard.write_bytes(b"")
    with pytest.raises(UsageError, match="cannot be read"):
        open_target("keras:resnet50", weights=pack / "model.json").layers()
    shard.unlink()
    with pytest.raises(MissingPartError, match=r"1 of the files .* missing \(group1-shard7of25\.bin\)"):
        open_target("keras:resnet50", assets=tmp_path)


def test_what_is_not_there_or_not_a_model_is_refused(tmp_path):
    with pytest.raises(MissingPartError, match=r"'resnet50' is not installed.*line assets install resnet50"):
        open_target("keras:resnet50", assets=tmp_path)
    with pytest.raises(UsageError, match="there is no weights file"):
        open_target("keras:resnet50", weights=tmp_path / "model.json")
    with pytest.raises(UsageError, match=r"'vgg16'.*keras:resnet50"):
        open_target("keras:vgg16")
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(UsageError, match=r"not the model\.json"):
        open_target("keras:resnet50", weights=tmp_path / "model.json")
