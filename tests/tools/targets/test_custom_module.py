import copy
import json

import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import models
from torchvision.models import squeezenet1_1
from torchvision.transforms import v2

from line_neurons.agent.errors import UsageError
from line_neurons.tools.assets.manifest import hash_file
from line_neurons.tools.targets import torchvision_models
from line_neurons.tools.targets.custom import bundle_from_module
from line_neurons.tools.targets.hooked_target import HookedTarget


class Net(nn.Module):
    def __init__(self, power=1):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)
        self.power = power

    def forward(self, images):
        return self.conv(images) ** self.power


class Squared(Net):
    def forward(self, images):
        return self.conv(images) * self.conv(images)


def net(kind=Net, **arguments):
    torch.manual_seed(0)
    return kind(**arguments)


def known(module, transform="imagenet"):
    return HookedTarget(bundle_from_module(module, transform)).fingerprint


def hooked():
    module = net()
    module.conv.register_forward_hook(lambda _module, _given, output: output * 0)
    return module


def shifted():
    module = net()
    with torch.no_grad():
        module.conv.bias[0] += 1e-6
    return module


@pytest.mark.parametrize(
    "other",
    [shifted(), net(Squared), net(power=2), hooked(), net().double(), nn.Sequential(net())],
    ids=["weights", "forward", "attribute", "hook", "type", "structure"],
)
def test_a_module_that_computes_something_else_is_another_target(other):
    assert known(other) != known(net())


@pytest.mark.parametrize(
    "same",
    [lambda one: one.train(), copy.deepcopy, nn.DataParallel, lambda one: one.requires_grad_(False)],
    ids=["training", "copy", "wrapped", "frozen"],
)
def test_a_module_that_computes_the_same_is_the_same_target(same):
    assert known(same(net())) == known(net())


def resized(size):
    return lambda image: v2.functional.to_dtype(
        v2.functional.resize(v2.functional.pil_to_tensor(image), [size, size]), torch.float32, scale=True
    )


class Resize:
    def __init__(self, size):
        self.size = size

    def __call__(self, image):
        return resized(self.size)(image)


@pytest.mark.parametrize("transform", [resized, Resize, v2.Resize], ids=["closure", "object", "torchvision"])
def test_a_transform_is_known_by_what_it_does(transform):
    assert known(net(), transform(8)) == known(net(), transform(8))
    assert known(net(), transform(8)) != known(net(), transform(9))


def test_what_is_done_to_a_module_later_has_no_effect():
    module = net()
    target = HookedTarget(bundle_from_module(module, resized(8)))
    image = torch.zeros(4, 4, 3, dtype=torch.uint8).numpy()
    with torch.no_grad():
        module.conv.bias += 5
    expected = HookedTarget(bundle_from_module(net(), resized(8))).activate([image], ["conv"])["conv"]
    assert (target.activate([image], ["conv"])["conv"] == expected).all()


def test_the_preprocessing_of_torchvisions_and_timms_models_is_known():
    assert "resize 256" not in bundle_from_module(squeezenet1_1(weights=None)).preprocessing
    assert (
        known(squeezenet1_1(weights=None).eval(), None).split("transforms=")[1]
        == known(net()).split("transforms=")[1]
    )
    timm = pytest.importorskip("timm")
    prepared = bundle_from_module(timm.create_model("test_vit"))
    assert tuple(prepared.prepare(Image.new("RGB", (300, 200))).shape) == (3, 160, 160)


def sizes(module):
    """The sides of an image as a module gets it, and whose preprocessing that is said to be."""
    network = bundle_from_module(module)
    return network.prepare(Image.new("RGB", (500, 400))).shape[1], network.note


@pytest.mark.parametrize(
    ("make", "side", "said"),
    [
        (models.resnet18, 224, "ResNet18_Weights.IMAGENET1K_V1 (resize 256, crop 224)"),
        (models.efficientnet_b0, 224, "EfficientNet_B0_Weights.IMAGENET1K_V1 (resize 256, crop 224)"),
        (models.efficientnet_b4, 380, "EfficientNet_B4_Weights.IMAGENET1K_V1 (resize 384, crop 380)"),
        (models.inception_v3, 299, "Inception_V3_Weights.IMAGENET1K_V1 (resize 342, crop 299)"),
    ],
)
def test_a_model_of_torchvision_is_seen_as_its_architecture_wants(make, side, said):
    options = {"init_weights": False} if make is models.inception_v3 else {}
    module = make(weights=None, num_classes=3, **options)
    found, note = sizes(module)
    assert found == side
    assert said in note


def test_a_head_of_ones_own_does_not_hide_the_architecture():
    module = models.efficientnet_b0(weights=None)
    module.classifier = nn.Sequential(nn.Flatten(), nn.Linear(1280, 5), nn.Linear(5, 2))
    assert "EfficientNet_B0_Weights" in sizes(module)[1]


def test_where_releases_are_prepared_differently_the_weights_decide_or_the_user(tmp_path, monkeypatch):
    monkeypatch.setattr(torchvision_models, "assets_root", lambda: tmp_path)
    module = models.mobilenet_v2(weights=None)
    with pytest.raises(UsageError, match=r"V1 \(resize 256, crop 224\), IMAGENET1K_V2 \(resize 232.*transform="):
        bundle_from_module(module)
    file = tmp_path / "mine.pth"
    torch.save(module.state_dict(), file)
    digest = hash_file(file)
    monkeypatch.setattr(
        torchvision_models,
        "_name_and_hash",
        lambda entry: ("mine.pth", digest[:8]) if entry.name.endswith("V2") else ("other.pth", "00000000"),
    )
    (tmp_path / "mobilenet_v2").mkdir()
    file.rename(tmp_path / "mobilenet_v2" / "mine.pth")
    assert "MobileNet_V2_Weights.IMAGENET1K_V2 (resize 232, crop 224)" in bundle_from_module(module).note
    with torch.no_grad():
        module.features[0][0].weight[0] += 1
    with pytest.raises(UsageError, match="it may be that of"):
        bundle_from_module(module)


@pytest.mark.parametrize("transform", [None, "imagenet"])
def test_a_detector_which_normalises_itself_wants_a_transform(transform):
    detector = models.detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)
    with pytest.raises(UsageError, match=r"normalised twice \(give transform= without normalisation"):
        bundle_from_module(detector, transform)
    assert bundle_from_module(detector, resized(32)).note == ""


def test_segmentation_of_torchvision_wants_a_transform():
    with pytest.raises(UsageError, match=r"none of torchvision's classification models.*transform="):
        bundle_from_module(models.segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None))


def test_a_model_of_transformers_brings_the_image_processor_of_where_it_is_from(tmp_path, small_vit):
    model = small_vit()
    with pytest.raises(UsageError, match="does not name where it is from"):
        bundle_from_module(model)
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    with pytest.raises(UsageError, match=r"no preprocessor_config\.json"):
        bundle_from_module(loaded)
    size = {"height": 32, "width": 32}
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"image_processor_type": "ViTImageProcessor", "size": size})
    )
    assert sizes(loaded) == (
        32,
        f"memory:ViTModel is used with the preprocessing of the image processor of {tmp_path.name}",
    )


class Texts(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)

    def forward(self, images, text):
        return self.conv(images) + text


def clip():
    transformers = pytest.importorskip("transformers")
    small = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = transformers.CLIPConfig(
        text_config={**small, "vocab_size": 9}, vision_config={**small, "image_size": 32, "patch_size": 16}
    )
    return transformers.CLIPModel(config)


@pytest.mark.parametrize(
    ("module", "cause", "remedy"),
    [
        (lambda: nn.Sequential(nn.Conv2d(1, 2, 3)), "takes images of 1 channel, and its preprocessing gives 3",
         r"a transform that makes \[1, H, W\] of an RGB image"),
        (lambda: nn.Sequential(nn.Conv2d(4, 2, 3)), "takes images of 4 channels, and its preprocessing gives 3",
         r"a transform that makes \[4, H, W\]"),
        (Texts, "wants more than images: text", r"the module that takes only images.*wrap it"),
        (clip, "wants more than images: input_ids", r"model\.vision_model"),
    ],
    ids=["grey", "four channels", "second input", "clip"],
)  # fmt: skip
def test_inputs_that_do_not_fit_are_one_line_with_the_cause_and_the_remedy(module, cause, remedy):
    with pytest.raises(UsageError, match=rf"{cause} .*{remedy}"):
        HookedTarget(bundle_from_module(module(), resized(32)), device="cpu").layers()


def test_a_torchscript_module_and_one_that_cannot_be_copied_are_refused():
    with pytest.raises(UsageError, match="TorchScript"):
        bundle_from_module(torch.jit.script(net().conv), "imagenet")
    module = net()
    module.kept = module.conv(torch.zeros(1, 3, 4, 4))
    with pytest.raises(UsageError, match="cannot be copied"):
        bundle_from_module(module, "imagenet")
