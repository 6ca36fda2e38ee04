import dill
import numpy as np
import pytest
import torch
from torchvision import models

from line_neurons.agent.errors import MissingPartError, UsageError
from line_neurons.tools.targets.registry import open_target

CLOSE = {"rtol": 1e-4, "atol": 1e-5}
# Made up: of the form of categories_places365.txt.
SCENES = [f"/{'abc'[n % 3]}/place_{n}{'/outdoor' if n % 2 else ''} {n}" for n in range(365)]


@pytest.fixture(scope="module")
def places(tmp_path_factory, randomised):
    """Places365's layout: parallel training with torch 0.2, which knew no num_batches_tracked."""
    model = randomised(models.resnet50(num_classes=365))
    state = {f"module.{k}": v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    path = tmp_path_factory.mktemp("places") / "resnet50_places365.pth.tar"
    content = {"epoch": 90, "arch": "resnet50", "state_dict": state, "best_prec1": torch.tensor(54.65)}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    return model, path


@pytest.fixture(scope="module")
def robust(tmp_path_factory, randomised):
    """The robustness library's layout: two copies of the model and the normaliser, in a parallel attacker."""
    model = randomised(models.resnet50())
    state = {}
    for part in ("module.model.", "module.attacker.model."):
        state |= {part + key: value for key, value in model.state_dict().items()}
    for part in ("module.normalizer.", "module.attacker.normalize.", "module.attacker.normalizer."):
        state[f"{part}new_mean"] = torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)
        state[f"{part}new_std"] = torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)
    path = tmp_path_factory.mktemp("robust") / "imagenet_l2_3_0.pt"
    optimizer = {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": np.float64(0.1)}]}
    torch.save(
        {"model": state, "optimizer": optimizer, "schedule": lambda epoch: 0.1 * epoch}, path, pickle_module=dill
    )
    return model, path


def test_places365_gives_the_scenes_of_a_plain_forward(places, pixels, imagenet_input):
    model, path = places
    target = open_target("places365:resnet50", weights=path, device="cpu")
    with torch.inference_mode():
        expected = model(imagenet_input[:3])
    np.testing.assert_allclose(target.activate(pixels[:3], ["fc"])["fc"], expected, **CLOSE)
    assert target.unit_names("fc") is None


def test_places365_reads_its_scenes_from_the_list_beside_the_checkpoint(places):
    _, path = places
    file = path.parent / "categories_places365.txt"
    try:
        file.write_text("\n".join(SCENES))
        names = open_target("places365:resnet50", weights=path, device="cpu").unit_names("fc")
        assert (names[0], names[7], len(names)) == ("place 0", "place 7 outdoor", 365)
        file.write_text("\n".join(SCENES[:-1]))
        with pytest.raises(UsageError, match="names 364 scenes, not 365"):
            open_target("places365:resnet50", weights=path)
        file.write_text("<html>")
        with pytest.raises(UsageError, match="is not the list"):
            open_target("places365:resnet50", weights=path)
    finally:
        file.unlink()


def test_the_robust_model_normalises_by_what_its_checkpoint_says(robust, pixels, imagenet_input):
    model, path = robust
    target = open_target("robust:resnet50", weights=path, device="cpu")
    usual_mean, usual_std = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    raw = imagenet_input[:3] * torch.tensor(usual_std).view(3, 1, 1) + torch.tensor(usual_mean).view(3, 1, 1)
    normal = (raw - torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)) / torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)
    with torch.inference_mode():
        expected = model(normal)
    actual = target.activate(pixels[:3], ["fc", "layer4"])
    np.testing.assert_allclose(actual["fc"], expected, rtol=1e-3, atol=1e-4)
    assert actual["layer4"].shape == (3, 2048)
    assert target.unit_names("fc")[281] == "tabby"
    # A CPU without instructions for it takes seconds an image, fewer in this layout; short batches are filled up.
    half = open_target(
        "robust:resnet50", weights=path, device="cpu", precision="bfloat16", batch_size=1, channels_last=True
    )
    logits = actual["fc"][:1]
    assert np.abs(half.activate(pixels[:1], ["fc"])["fc"] - logits).max() < 0.1 * np.abs(logits).max()


def test_a_robust_checkpoint_whose_copies_differ_is_refused(robust, tmp_path):
    content = torch.load(robust[1], weights_only=False, pickle_module=dill)["model"]
    odd = {**content, "module.attacker.normalize.new_std": torch.ones(3, 1, 1)}
    torch.save({"model": odd}, tmp_path / "std.pth")
    with pytest.raises(UsageError, match="holds several new_std of different values"):
        open_target("robust:resnet50", weights=tmp_path / "std.pth", device="cpu").layers()
    odd = {**content, "module.attacker.model.fc.bias": torch.ones(1000)}
    torch.save({"model": odd}, tmp_path / "fc.pth")
    with pytest.raises(
        UsageError, match=r"2 networks that fit robust:resnet50: model\.model, model\.attacker\.model"
    ):
        open_target("robust:resnet50", weights=tmp_path / "fc.pth", device="cpu").layers()


def test_a_robust_checkpoint_of_plain_names_is_normalised_as_imagenet_is(robust, pixels, imagenet_input, tmp_path):
    model, _ = robust
    torch.save(model.state_dict(), tmp_path / "plain.pth")
    target = open_target("robust:resnet50", weights=tmp_path / "plain.pth", device="cpu")
    with torch.inference_mode():
        expected = model(imagenet_input[:3])
    np.testing.assert_allclose(target.activate(pixels[:3], ["fc"])["fc"], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (
            "places365:resnet50",
            r"resnet50_places365\.pth\.tar.*97 MB.*http://places2\.csail\.mit.*--weights FILE",
        ),
        ("robust:resnet50", r"imagenet_l2_3_0\.pt.*robust_resnet50\.pth.*MadryLab/robustness.*--weights FILE"),
    ],
)
def test_without_a_file_the_preset_says_which_to_get_and_where(spec, said):
    with pytest.raises(MissingPartError, match=said):
        open_target(spec)


def test_another_model_or_a_checkpoint_of_other_classes_is_refused(places, robust):
    for prefix in ("places365", "robust"):
        with pytest.raises(UsageError, match=f"{prefix}: has no model 'resnet18'.*{prefix}:resnet50"):
            open_target(f"{prefix}:resnet18")
    with pytest.raises(UsageError, match="has 365 classes, robust:resnet50 has 1000"):
        open_target("robust:resnet50", weights=places[1], device="cpu").layers()
