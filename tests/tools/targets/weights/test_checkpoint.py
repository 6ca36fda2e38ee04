import pickle
import shutil
import warnings
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision import models

from line_neurons.agent.errors import UsageError
from line_neurons.tools.targets.registry import open_target
from line_neurons.tools.targets.weights.files import read_checkpoint, weights_file

SPEC = "torchvision:mobilenet_v3_small"


def logits(path, images):
    return open_target(SPEC, weights=path, device="cpu").activate(images[:2], ["classifier.3"])["classifier.3"]


@pytest.fixture(scope="module")
def expected(checkpoint, images):
    """The logits of the checkpoint as it is."""
    return logits(checkpoint, images)


class Python2Pickler(pickle._Pickler):
    """Writes text as Python 2 did: byte strings without an encoding."""

    def save(self, thing, **options):
        if type(thing) is not str or id(thing) in self.memo:
            super().save(thing, **options)
            return
        encoded = thing.encode()
        self.write(pickle.SHORT_BINSTRING + bytes([len(encoded)]) + encoded)
        self.memoize(thing)


PYTHON2 = SimpleNamespace(
    __name__="pickle",
    Pickler=Python2Pickler,
    dump=lambda thing, file, protocol: Python2Pickler(file, protocol).dump(thing),
)


def test_a_checkpoint_of_parallel_training_saved_by_python_2_gives_the_same(
    checkpoint, images, expected, tmp_path
):
    state = torch.load(checkpoint, weights_only=True)
    old = {f"module.{key}": value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    path = tmp_path / "old.pth.tar"
    torch.save(
        {"epoch": 90, "arch": "mobilenet", "state_dict": old, "best_prec1": torch.tensor(54.7)},
        path,
        pickle_module=PYTHON2,
        _use_new_zipfile_serialization=False,
    )
    np.testing.assert_array_equal(logits(path, images), expected)


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "backbone.", "net.", "module.model.", "a.b.c."])
@pytest.mark.parametrize("wrapper", ["", "state_dict", "model", "ema"])
def test_wrappers_and_prefixes_are_taken_off(prefix, wrapper, checkpoint, images, expected, tmp_path):
    state = {f"{prefix}{key}": value for key, value in torch.load(checkpoint, weights_only=True).items()}
    path = tmp_path / "wrapped.pth"
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, path)
    np.testing.assert_array_equal(logits(path, images), expected)


def test_safetensors_are_read(checkpoint, images, expected, tmp_path):
    path = tmp_path / "mine.safetensors"
    save_file(torch.load(checkpoint, weights_only=True), path)
    np.testing.assert_array_equal(logits(path, images), expected)
    path.write_bytes(b"not tensors")
    with pytest.raises(UsageError, match="is a text file"):
        open_target(SPEC, weights=path, device="cpu").layers()


class Schedule:
    """Something that a training script saves beside its tensors."""

    def __init__(self):
        self.factor = np.float64(0.5)

    def __call__(self):
        raise AssertionError


class Dictionary(dict):
    """Hyperparameters, as training libraries keep them."""


class Trap:
    """Runs ``function`` with ``arguments`` when it is unpickled."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


def test_only_tensors_are_read_from_a_checkpoint_with_other_objects(checkpoint, images, expected, tmp_path):
    path, touched = tmp_path / "training.pth", tmp_path / "touched"
    state = torch.load(checkpoint, weights_only=True)
    extra = {
        "accuracy": np.float64(0.5),
        "schedule": Schedule(),
        "array": np.ones(3),
        "made": Trap(shutil.copy, str(checkpoint), str(touched)),
    }
    extra |= {"counts": defaultdict(list, a=[1]), "hyper_parameters": Dictionary(lr=0.1)}
    for zipped in (True, False):
        torch.save({"model": state, **extra}, path, _use_new_zipfile_serialization=zipped)
        np.testing.assert_array_equal(logits(path, images), expected)
    assert not touched.exists()


def test_a_file_that_asks_for_the_system_is_refused_and_does_nothing(tmp_path):
    import os

    touched = tmp_path / "touched"
    torch.save({"model": {"a": torch.ones(1)}, "trap": Trap(os.mkdir, str(touched))}, tmp_path / "trap.pth")
    with pytest.raises(UsageError, match=r"trap\.pth cannot be read"):
        read_checkpoint(weights_file(tmp_path / "trap.pth"))
    assert not touched.exists()


def test_version_numbers_of_modules_outlive_the_prefix(tmp_path):
    torch.manual_seed(0)
    model = models.mnasnet0_5(num_classes=5)
    torch.save(torch.nn.DataParallel(model).state_dict(), tmp_path / "parallel.pth")
    target = open_target("torchvision:mnasnet0_5", weights=tmp_path / "parallel.pth", device="cpu")
    assert target.layers()[-1].units == 5


def test_densenets_old_names_are_understood(tmp_path):
    torch.manual_seed(0)
    state = models.densenet121(num_classes=5).state_dict()
    old = {
        key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2.") if "denselayer" in key else key: value
        for key, value in state.items()
    }
    assert old.keys() != state.keys()
    torch.save(old, tmp_path / "old.pth")
    assert open_target("torchvision:densenet121", weights=tmp_path / "old.pth").layers()[-1].units == 5


def test_a_checkpoint_of_another_model_is_refused_with_counts_and_examples(checkpoint, tmp_path):
    counts = r"of 52 tensors, 52 missing \(features\.0\.weight, .* \.\.\.\), 210 unexpected"
    with pytest.raises(UsageError, match=rf"mine\.pth does not fit torchvision:squeezenet1_1: {counts}"):
        open_target("torchvision:squeezenet1_1", weights=checkpoint, device="cpu").layers()
    state = torch.load(checkpoint, weights_only=True)
    state["features.0.0.weight"] = torch.zeros(16, 3, 5, 5)
    state["extra.weight"] = torch.zeros(1)
    del state["classifier.0.bias"]
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(UsageError) as raised:
        open_target(SPEC, weights=tmp_path / "odd.pth", device="cpu").layers()
    assert "1 missing (classifier.0.bias), 1 unexpected (extra.weight)" in str(raised.value)
    assert "1 of another shape (features.0.0.weight: [16, 3, 5, 5] for [16, 3, 3, 3])" in str(raised.value)


def test_what_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no weights file"):
        open_target(SPEC, weights=tmp_path / "none.pth")
    for content in ([1, 2], {"epoch": 3}):
        torch.save(content, tmp_path / "odd.pth")
        with pytest.raises(UsageError, match="holds no tensors by name"):
            open_target(SPEC, weights=tmp_path / "odd.pth", device="cpu").layers()
    torch.save(torch.nn.Linear(2, 2), tmp_path / "whole.pth")
    with pytest.raises(UsageError, match=r"no state dict \(save the model's state_dict\(\)"):
        open_target(SPEC, weights=tmp_path / "whole.pth", device="cpu").layers()
    torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(tmp_path / "script.pt")
    with warnings.catch_warnings(), pytest.raises(UsageError, match="is a TorchScript archive"):
        warnings.simplefilter("error")
        open_target(SPEC, weights=tmp_path / "script.pt", device="cpu").layers()


def test_the_chosen_network_is_measured_and_named_in_the_fingerprint(checkpoint, images, expected, tmp_path):
    state = torch.load(checkpoint, weights_only=True)
    other = {key: value * 2 if key == "classifier.3.weight" else value for key, value in state.items()}
    torch.save({"model": other, "model_ema": state}, tmp_path / "both.pth")
    chosen = tmp_path / "both.pth#model_ema"
    np.testing.assert_array_equal(logits(chosen, images), expected)
    assert not np.array_equal(logits(tmp_path / "both.pth#model", images), expected)
    whole, ema, model = (
        open_target(SPEC, weights=tmp_path / f"both.pth{part}").fingerprint
        for part in ("", "#model_ema", "#model")
    )
    assert ema == whole.replace(" (own", "#model_ema (own")
    assert model != ema


def test_a_backbone_has_no_class_layer_and_nothing_after_it(checkpoint, images, tmp_path):
    state = torch.load(checkpoint, weights_only=True)
    torch.save({k: v for k, v in state.items() if not k.startswith("classifier.3.")}, tmp_path / "backbone.pth")
    target = open_target(SPEC, weights=tmp_path / "backbone.pth", device="cpu")
    whole = open_target(SPEC, weights=checkpoint, device="cpu")
    paths = [layer.path for layer in target.layers()]
    assert paths == [layer.path for layer in whole.layers()][: len(paths)]
    assert paths[-1] == "classifier.2"
    assert target.output_layer is None
    np.testing.assert_array_equal(
        target.activate(images[:2], ["features.12"])["features.12"],
        whole.activate(images[:2], ["features.12"])["features.12"],
    )
    for layer in ("classifier.3", "classifier"):
        with pytest.raises(UsageError, match=rf"have no classifier\.3, the class layer, so '{layer}' puts out no"):
            target.unit_names(layer)


def test_weights_that_are_no_numbers_are_refused(checkpoint, tmp_path):
    state = torch.load(checkpoint, weights_only=True)
    torch.save({**state, "classifier.3.bias": state["classifier.3.bias"] * float("nan")}, tmp_path / "nan.pth")
    with pytest.raises(UsageError, match=r"NaN or infinity in classifier\.3\.bias"):
        open_target(SPEC, weights=tmp_path / "nan.pth", device="cpu").layers()
