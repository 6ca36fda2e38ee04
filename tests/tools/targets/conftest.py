from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import models

from line_neurons.tools.targets.registry import open_target

CLASSES = 11


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def no_caches(tmp_path, monkeypatch):
    """Libraries find no weights that were fetched before, and fetch none."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch_home"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def small_vit():
    """Make a vision transformer of transformers with random weights, for images of 32 pixels."""
    transformers = pytest.importorskip("transformers")

    def make():
        sizes = {"hidden_size": 8, "intermediate_size": 8, "image_size": 32, "patch_size": 16}
        return transformers.ViTModel(transformers.ViTConfig(num_hidden_layers=1, num_attention_heads=1, **sizes))

    return make


@pytest.fixture(scope="session")
def randomised():
    """Give a module random weights under which activations are neither tiny nor huge."""

    def randomise(model, size=224):
        torch.manual_seed(0)
        normalised = False
        for module in model.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                nn.init.kaiming_normal_(module.weight)
            elif isinstance(module, nn.BatchNorm2d):
                module.momentum = None
                normalised = True
        if normalised:
            with torch.no_grad():
                model.train()(torch.randn(4, 3, size, size))
        return model.eval()

    return randomise


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory, randomised):
    """MobileNetV3 small with random weights and CLASSES classes."""
    path = tmp_path_factory.mktemp("weights") / "mine.pth"
    torch.save(randomised(models.mobilenet_v3_small(num_classes=CLASSES)).state_dict(), path)
    return path


@pytest.fixture(scope="session")
def pixels():
    """Seven small images as uint8 [H, W, 3]."""
    draw = np.random.default_rng(0)
    return [draw.integers(0, 255, (40, 48, 3), dtype=np.uint8) for _ in range(7)]


@pytest.fixture(scope="session")
def images(pixels):
    """The same images as PNG files."""
    files = [BytesIO() for _ in pixels]
    for file, one in zip(files, pixels, strict=True):
        Image.fromarray(one).save(file, "PNG")
    return [file.getvalue() for file in files]


@pytest.fixture(scope="session")
def imagenet_input(pixels):
    """The images as the usual preprocessing of ImageNet makes them: [7, 3, 224, 224]."""
    from torchvision.transforms import functional

    def prepare(one):
        image = functional.center_crop(functional.resize(Image.fromarray(one), 256), 224)
        return functional.normalize(functional.to_tensor(image), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])

    return torch.stack([prepare(one) for one in pixels])


@pytest.fixture
def target(checkpoint):
    return open_target("torchvision:mobilenet_v3_small", weights=checkpoint, device="cpu")


@pytest.fixture(scope="session")
def photographs(assets):
    """The labelled ImageNet photographs as (file's bytes, class)."""
    files = sorted((assets / "imagenet-samples").rglob("*_*"))
    return [(file.read_bytes(), int(file.name.split("_")[0])) for file in files if file.suffix in {".jpg", ".png"}]
