import textwrap

import numpy as np
import pytest
import torch
from PIL import Image

from line_neurons.agent.errors import LineError, UsageError
from line_neurons.tools.target_specs import absolute_spec, short_spec
from line_neurons.tools.targets.registry import open_target

MODEL = """
    import torch
    from torch import nn
    from torchvision.transforms import v2

    class Net(nn.Module):
        def __init__(self, seed):
            super().__init__()
            torch.manual_seed(seed)
            self.conv = nn.Conv2d(3, 4, 3)
            self.head = nn.Linear(4, 2)

        def forward(self, images):
            maps = self.conv(images)
            return {"maps": maps, "logits": self.head(maps.mean((2, 3)))}

    def plain():
        return Net(0)

    def other():
        return Net(1)

    def brown(image):
        return torch.tensor(image.resize((8, 8)).getpixel((0, 0))).float().view(3, 1, 1).expand(3, 8, 8) / 255

    def with_transform():
        return Net(0), brown

    def with_names():
        return Net(0), None, ["cat", "dog"]

    def grey():
        transform = v2.Compose([v2.Grayscale(), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
        return nn.Sequential(nn.Conv2d(1, 2, 3)), lambda image: transform(image)[:, :8, :8]

    def takes(weights=None):
        net = Net(0)
        if weights:
            net.load_state_dict(torch.load(weights, weights_only=True))
        return net

    def fails():
        raise KeyError("no such\\nlayer")

    def leaves():
        raise SystemExit(3)

    def lazy():
        return nn.LazyLinear(3)

    def a_number():
        return 3

    def odd():
        return Net(0), "resize"

    def needs(size):
        return Net(size)

    def too_much():
        return Net(0), None, None, None

    def scripted():
        return torch.jit.trace(Net(0), torch.zeros(1, 3, 8, 8), strict=False)

    def parallel():
        return nn.DataParallel(Net(0))

    def compiled():
        return torch.compile(Net(0))

    def shifting(image):
        return torch.rand(3, 8, 8)

    def unscaled(image):
        return torch.zeros(3, 8, 8, dtype=torch.uint8)

    def uncropped(image):
        return torch.zeros(3, image.height, image.width)

    def random_transform():
        return Net(0), shifting

    def whole_numbers():
        return Net(0), unscaled

    def any_size():
        return Net(0), uncropped

    class Dropping(Net):
        def forward(self, images):
            return super().forward(nn.functional.dropout(images, 0.5, training=True))

    def dropping():
        return Dropping(0)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of a user's own, that is the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    (tmp_path / "line_test_mine").mkdir()
    (tmp_path / "line_test_mine" / "nets.py").write_text(textwrap.dedent(MODEL))
    (tmp_path / "line_test_file.py").write_text(textwrap.dedent(MODEL))
    yield tmp_path
    for name in [name for name in __import__("sys").modules if "line_test_" in name]:
        del __import__("sys").modules[name]


@pytest.mark.parametrize("place", ["line_test_mine.nets", "line_test_file.py", "{here}/line_test_file.py"])
def test_a_function_of_a_package_or_a_file_gives_its_modules_activations(place, here, pixels, imagenet_input):
    target = open_target(f"{place.format(here=here)}:plain", device="cpu")
    layers = {layer.path: (layer.shape, layer.units) for layer in target.layers()}
    assert layers == {"conv": ((4, 222, 222), 4), "head": ((2,), 2)}
    torch.manual_seed(0)
    conv, head = torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(4, 2)
    with torch.inference_mode():
        means = conv(imagenet_input).mean((2, 3))
        expected = head(means)
    actual = target.activate(pixels, ["conv", "head"])
    np.testing.assert_allclose(actual["conv"], means, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(actual["head"], expected, rtol=1e-4, atol=1e-5)
    assert target.unit_names("head") is None


def test_its_transform_and_class_names_are_used(here, pixels):
    usual, own = (open_target(f"line_test_file.py:{name}", device="cpu") for name in ("plain", "with_transform"))
    assert {layer.path: layer.shape for layer in own.layers()}["conv"] == (4, 6, 6)
    assert own.fingerprint.split(" transforms=")[1] != usual.fingerprint.split(" transforms=")[1]
    assert own.activate(pixels, ["head"])["head"].shape == (7, 2)
    named = open_target("line_test_file.py:with_names", device="cpu")
    assert named.unit_names("head") == ("cat", "dog")
    assert named.unit_names("conv") is None


def test_the_fingerprint_follows_the_weights_and_the_source(here):
    first = open_target("line_test_file.py:plain").fingerprint
    assert open_target("line_test_file.py:plain").fingerprint == first
    other = open_target("line_test_file.py:other").fingerprint
    assert other.replace(":other", ":plain") != first
    file = here / "line_test_file.py"
    file.write_text(file.read_text().replace("maps.mean((2, 3))", "maps.amax((2, 3))"))
    assert open_target("line_test_file.py:plain").fingerprint != first


@pytest.mark.parametrize("function", ["takes", "plain"])
def test_a_checkpoint_goes_to_the_function_or_into_its_module(function, here, pixels):
    other = open_target("line_test_file.py:other", device="cpu")
    torch.save(other._model.state_dict(), here / "other.pth")
    spec = f"line_test_file.py:{function}"
    loaded = open_target(spec, weights=here / "other.pth", device="cpu")
    np.testing.assert_array_equal(
        loaded.activate(pixels[:2], ["head"])["head"], other.activate(pixels[:2], ["head"])["head"]
    )
    assert loaded.fingerprint != open_target(spec).fingerprint
    with pytest.raises(UsageError, match="there is no weights file"):
        open_target(spec, weights=here / "none.pth")


def test_the_network_of_a_checkpoint_is_chosen_for_a_module_but_not_for_a_function_that_reads_it(here, pixels):
    own, other = (open_target(f"line_test_file.py:{name}", device="cpu") for name in ("plain", "other"))
    torch.save({"model": own._model.state_dict(), "ema": other._model.state_dict()}, here / "both.pth")
    with pytest.raises(UsageError, match=r"holds 2 networks that fit line_test_file\.py:plain: ema, model"):
        open_target("line_test_file.py:plain", weights=here / "both.pth")
    loaded = open_target("line_test_file.py:plain", weights=here / "both.pth#ema", device="cpu")
    np.testing.assert_array_equal(
        loaded.activate(pixels[:2], ["head"])["head"], other.activate(pixels[:2], ["head"])["head"]
    )
    with pytest.raises(UsageError, match=r"takes reads .*both\.pth itself, so its network 'ema' cannot be chosen"):
        open_target("line_test_file.py:takes", weights=here / "both.pth#ema")


def test_a_model_of_grey_images_is_measured_by_a_transform_to_one_channel(here, pixels):
    target = open_target("line_test_file.py:grey", device="cpu")
    grey = torch.from_numpy(np.array([Image.fromarray(one).convert("L") for one in pixels[:2]]))
    expected = target._model(grey[:, None, :8, :8].float() / 255)[:, 0].mean((1, 2)).numpy()
    np.testing.assert_allclose(target.activate(pixels[:2], ["0"])["0"][:, 0], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("line_test_file.py:fails", r"^line_test_file\.py:fails failed: KeyError: 'no such\\nlayer' \(--debug"),
        ("line_test_file.py:leaves", r"leaves failed: SystemExit: 3"),
        ("line_test_file.py:needs", r"needs failed: TypeError: needs\(\) missing 1 required"),
        ("line_test_file.py:lazy", r"weight of the module that line_test_file\.py:lazy returned cannot be read"),
        ("line_test_file.py:a_number", r"a_number returned int \(return the module, or \(module, transform\)"),
        ("line_test_file.py:too_much", r"too_much returned \(Net, NoneType, NoneType, NoneType\) \(return the"),
        ("line_test_file.py:scripted", r"scripted returned a TorchScript module"),
        ("line_test_file.py:odd", r"odd returned \(Net, str\) \(return the module"),
        ("line_test_file.py:missing", r"line_test_file\.py has no function 'missing'"),
        ("line_test_none.py:net", r"there is no file line_test_none\.py"),
        ("line_test_none.nets:net", r"no module 'line_test_none'.*MODULE:FUNCTION"),
        ("line_test_broken:net", r"importing line_test_broken failed: ZeroDivisionError: division by zero"),
        ("line_test_needs:net", r"importing line_test_needs failed: ModuleNotFoundError: .*'line_test_absent'"),
    ],
)
def test_what_goes_wrong_in_the_users_code_is_one_line(spec, said, here):
    (here / "line_test_broken.py").write_text("1 / 0\nnet = None")
    (here / "line_test_needs.py").write_text("import line_test_absent\nnet = None")
    with pytest.raises(UsageError, match=said) as raised:
        open_target(spec)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("random_transform", r"preprocessing of .* other values each time \(use the transform of evaluation"),
        ("any_size", r"gives \[3, 256, 320\] for one image and \[3, 320, 256\] for another \(let it give one"),
        ("whole_numbers", r"gave torch\.uint8, not floats \(end it with ToDtype"),
        ("dropping", r"layer conv .* gives several values for the same image .*\(leave out the random operations"),
    ],
)
def test_what_cannot_be_measured_twice_alike_is_refused_before_anything_is(function, said, here):
    with pytest.raises(LineError, match=said):
        open_target(f"line_test_file.py:{function}", device="cpu").layers()


@pytest.mark.parametrize("wrapper", ["parallel", "compiled"])
def test_wrappers_of_training_are_taken_off_so_that_layers_keep_their_names(wrapper, here, pixels):
    plain, wrapped = (open_target(f"line_test_file.py:{name}", device="cpu") for name in ("plain", wrapper))
    assert wrapped.layers() == plain.layers()
    np.testing.assert_array_equal(
        wrapped.activate(pixels, ["head"])["head"], plain.activate(pixels, ["head"])["head"]
    )
    assert wrapped.fingerprint.replace(wrapper, "plain") == plain.fingerprint


def test_a_file_is_the_same_model_from_anywhere(here, monkeypatch):
    first = open_target("line_test_file.py:plain").fingerprint
    assert open_target("line_test_file:plain").fingerprint == first
    specs = [absolute_spec(spec) for spec in ("line_test_file.py:plain", "line_test_file:plain")]
    assert specs == [f"{here}/line_test_file.py:plain"] * 2
    assert short_spec(specs[0]) == short_spec("line_test_file:plain") == "line_test_file.py:plain"
    monkeypatch.chdir(here / "line_test_mine")
    assert open_target(specs[0]).fingerprint == first


def test_a_function_of_an_installed_package_works(pixels):
    target = open_target("torchvision.models:squeezenet1_1", device="cpu")
    assert target.layers()[-1].units == 1000
    assert open_target("torchvision.models:squeezenet1_1").fingerprint != target.fingerprint  # random weights


OWN = """
    import torch
    from torch import nn

    class Wide(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 64, 3)
            self.head = nn.Linear(64, 3)

        def forward(self, images):
            return self.head(self.conv(images).mean((2, 3)))

    def brown(image):
        return torch.tensor(image.resize((8, 8)).getpixel((0, 0))).float().view(3, 1, 1).expand(3, 8, 8) / 255

    NAMES = ["round", "square", "stripes"]

    def forgot():
        return Wide(), brown, NAMES

    def loaded():
        net = Wide()
        nn.init.normal_(net.conv.weight)
        nn.init.normal_(net.head.weight)
        return net, brown, NAMES

    def without_transform():
        return loaded()[0]

    def fewer():
        return loaded()[0], brown, NAMES[:2]

    class Dropping(Wide):
        def forward(self, images):
            return self.head(nn.functional.dropout(self.conv(images).mean((2, 3)), 0.5))

    def dropping():
        return Dropping(), brown, NAMES

    def dropping_with_as_many_hidden_units():
        net = Dropping()
        net.conv, net.head = nn.Conv2d(3, 3, 3), nn.Linear(3, 3)
        return net, brown, NAMES
"""


@pytest.fixture
def own(here):
    (here / "line_test_own.py").write_text(textwrap.dedent(OWN))
    return "line_test_own.py"


def test_random_weights_and_a_guessed_transform_are_doubts(own):
    assert open_target(f"{own}:loaded", device="cpu").doubts == ()
    [doubt] = open_target(f"{own}:forgot", device="cpu").doubts
    assert doubt.startswith(
        "the weights of line_test_own.py:forgot are random: all layers have their initial values"
    )
    [doubt] = open_target(f"{own}:without_transform", device="cpu").doubts
    assert "is used with the preprocessing of ImageNet (resize 256, crop 224): the function returns none" in doubt


def test_a_class_is_a_model_only_with_its_weights(own, here):
    with pytest.raises(UsageError, match=r"^line_test_own\.py:Wide is a class, .*random weights \(give its check"):
        open_target(f"{own}:Wide", device="cpu")
    open_target(f"{own}:loaded", device="cpu")
    net = __import__("sys").modules["line_own_line_test_own"].loaded()[0]
    torch.save(net.state_dict(), here / "own.pth")
    target = open_target(f"{own}:Wide", weights=here / "own.pth", device="cpu")
    assert not any("random" in doubt for doubt in target.doubts)


def test_class_names_have_to_be_as_many_as_the_output_units(own):
    open_target(f"{own}:loaded", device="cpu").check_classes()
    with pytest.raises(
        UsageError, match=r"fewer names 2 classes, and its output layer head has 3 units \(give one"
    ):
        open_target(f"{own}:fewer", device="cpu").check_classes()


@pytest.mark.parametrize("function", ["dropping", "dropping_with_as_many_hidden_units"])
def test_classes_of_a_refused_output_name_no_hidden_units(function, own):
    target = open_target(f"{own}:{function}", device="cpu")
    target.check_classes()
    assert [info.path for info in target.layers()] == ["conv"] and list(target.refused_layers()) == ["head"]
    assert (target.output_layer, target.unit_names("conv")) == (None, None)
