"""Checkpoints as people have them: which network of a file is used, and what is refused with which cause."""

import argparse
import json
import logging

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from line_neurons.agent.errors import UsageError
from line_neurons.tools.targets.weights.checkpoint import MisfitError, check_finite, find_network
from line_neurons.tools.targets.weights.files import read_checkpoint, weights_file


class Small(nn.Module):
    """A classifier with the names of a ResNet."""

    def __init__(self, classes=7, channels=3):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 4, 3)
        self.bn1 = nn.BatchNorm2d(4)
        self.layer1 = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
        self.fc = nn.Linear(4, classes)


def weights(seed, **options):
    torch.manual_seed(seed)
    return Small(**options).state_dict()


A, B = weights(0), weights(1)


def under(prefix, state):
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def without_head(state):
    return {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}


@pytest.fixture
def opened(tmp_path):
    """What ``find_network`` finds in a file with the given content."""

    def find(content, network=None, model=None, head="fc", name="mine.pth", **save):
        path = tmp_path / name
        torch.save(content, path, **save)
        request = path if network is None else tmp_path / f"{name}#{network}"
        plan = (model or Small()).state_dict()
        return find_network(read_checkpoint(weights_file(request)), plan, name="small", head=head)

    return find


def same(found, state):
    return found.state.keys() == state.keys() and all(torch.equal(found.state[key], state[key]) for key in state)


ONE = {
    "plain": A,
    "module.": under("module.", A),
    "nested, with a whole training around it": {
        "state_dict": under("module.", A),
        "epoch": 3,
        "args": argparse.Namespace(lr=0.1),
        "best_prec1": torch.tensor(54.0),
    },
    "torch.compile": under("_orig_mod.", A),
    "Lightning and torch.compile": {"state_dict": under("model._orig_mod.", A), "callbacks": {}},
    "AveragedModel": {"n_averaged": torch.tensor(9), **under("module.", A)},
    "DataParallel inside": {key.replace("layer1.", "layer1.module."): value for key, value in A.items()},
    "FSDP": {
        key.replace("layer1.", "layer1._fsdp_wrapped_module."): value
        for key, value in under("_fsdp_wrapped_module.", A).items()
    },
    "activation checkpointing": {
        key.replace("layer1.0.", "layer1.0._checkpoint_wrapped_module."): value for key, value in A.items()
    },
    "parts in dicts of their own": {
        part: {key.removeprefix(f"{part}."): value for key, value in A.items() if key.startswith(f"{part}.")}
        for part in ("conv1", "bn1", "layer1", "fc")
    },
    "in a list": {"models": [A]},
    "before torch 0.4.1": {key: value for key, value in A.items() if not key.endswith("num_batches_tracked")},
    "beside a network of another kind": {"model": A, "generator": nn.Linear(3, 3).state_dict()},
    "twice with the same values": {"model": A, "model_ema": A},
}


@pytest.mark.parametrize("kind", ONE)
def test_the_only_network_that_fits_is_used(kind, opened):
    found = opened(ONE[kind])
    assert all(torch.equal(found.state[key], A[key]) for key in found.state)
    assert set(A) - set(found.state) <= {"bn1.num_batches_tracked"}
    assert (found.classes, found.left_out) == (None, None)


TWO = {
    "timm": ({"state_dict": A, "state_dict_ema": B}, "state_dict", "state_dict_ema"),
    "torchvision, DeiT": ({"model": A, "model_ema": B}, "model", "model_ema"),
    "basicsr": ({"params": A, "params_ema": B}, "params", "params_ema"),
    "DINO": ({"student": under("module.", A), "teacher": B}, "student", "teacher"),
    "one dict": ({**under("student.", A), **under("teacher.", B)}, "student", "teacher"),
    "Lightning": (
        {"state_dict": {**under("model.", A), **under("ema_model.", B)}},
        "state_dict.model",
        "state_dict.ema_model",
    ),
    "BYOL": (
        {"state_dict": {**under("online_encoder.", A), **under("target_encoder.", B)}},
        "state_dict.online_encoder",
        "state_dict.target_encoder",
    ),
    "MoCo": (
        {
            "state_dict": {
                **under("module.encoder_q.", A),
                **under("module.encoder_k.", B),
                "module.queue": torch.zeros(4, 64),
            }
        },
        "state_dict.encoder_q",
        "state_dict.encoder_k",
    ),
    "nested twice": ({"nets": {"a": {"net": A}, "b": {"net": B}}}, "nets.a.net", "nets.b.net"),
    "one without a prefix": ({**A, **under("ema.", B)}, "(no prefix)", "ema"),
    "another number of classes": ({"model": A, "teacher": weights(1, classes=9)}, "model", "teacher"),
    "one without its head": ({"model": A, "encoder": without_head(B)}, "model", "encoder"),
}


@pytest.mark.parametrize("kind", TWO)
@pytest.mark.parametrize("turned", [False, True])
def test_two_networks_that_fit_are_listed_and_none_is_used(kind, turned, opened):
    content, *labels = TWO[kind]
    if turned:
        content = dict(reversed(content.items()))
    with pytest.raises(UsageError, match=r"holds 2 networks that fit small: .*--weights .*mine\.pth#") as raised:
        opened(content)
    assert set(raised.value.message.partition("small: ")[2].split(", ")) == set(labels)


@pytest.mark.parametrize("kind", TWO)
def test_a_network_is_chosen_by_its_name(kind, opened):
    content, *labels = TWO[kind]
    expected = [A, B if kind != "another number of classes" else content["teacher"]]
    if kind == "one without its head":
        expected[1] = without_head(B)
    for label, state in zip(labels, expected, strict=True):
        assert same(opened(content, network=label.replace("(no prefix)", "")), state)


@pytest.mark.parametrize(
    ("network", "state"),
    [("model", A), ("ema_model", B), ("ema_model.", B), ("state_dict.model", A), ("module.model", A)],
)
def test_names_within_the_nested_dict_choose_too(network, state, opened):
    content = {"state_dict": {**under("module.model.", A), **under("module.ema_model.", B)}}
    assert same(opened(content, network=network), state)


def test_a_name_of_which_another_is_the_beginning_is_matched_whole(opened):
    content = {"model": A, "model_ema": B, "mod": weights(2)}
    assert same(opened(content, network="model"), A)
    with pytest.raises(UsageError, match=r"no network 'mode' \(there is mod, model, model_ema\)"):
        opened(content, network="mode")


def test_a_name_above_several_networks_chooses_none_of_them(opened):
    content = {"student": {"backbone": A, "copy": B}, "teacher": weights(2)}
    with pytest.raises(UsageError, match=r"2 networks.*student\.backbone, student\.copy"):
        opened(content, network="student")
    assert same(opened({"student": {"backbone": A, "head": {"weight": torch.ones(2, 2)}}}, network="student"), A)


def test_a_chosen_network_of_another_model_is_refused_with_its_name(opened):
    content = {"model": A, "other": {"conv1.weight": torch.zeros(2, 3, 5, 5)}}
    with pytest.raises(MisfitError, match=r"mine\.pth#other does not fit small: of 13 tensors, 11 missing"):
        opened(content, network="other")


@given(st.permutations([("student", A), ("teacher", B), ("projector", {"weight": torch.ones(2, 2)})]))
def test_the_order_in_a_file_decides_nothing(tmp_path_factory, parts):
    path = tmp_path_factory.mktemp("order") / "mine.pth"
    torch.save({f"{part}.{key}": value for part, state in parts for key, value in state.items()}, path)
    checkpoint = read_checkpoint(weights_file(path.with_name("mine.pth#teacher")))
    assert same(find_network(checkpoint, Small().state_dict(), name="small", head="fc"), B)


def test_what_is_passed_over_is_counted(opened, caplog):
    optimizer = {"state": {0: {"exp_avg": torch.zeros(3), "step": torch.tensor(1.0)}}}
    with caplog.at_level(logging.WARNING):
        opened({"model": A, "projector": {"0.weight": torch.ones(2), "0.bias": torch.ones(2)}, "optim": optimizer})
    assert caplog.messages[-1].endswith("mine.pth#model is used; other tensors of the file are passed over: 2 of"
                                        " projector, 1 of optim")  # fmt: skip
    caplog.clear()
    opened({"model": A, "epoch": 3, "best": torch.tensor(54.0)})
    assert not caplog.messages


def test_a_backbone_is_used_without_its_class_layer(opened, caplog):
    found = opened(without_head(A))
    assert found.left_out == "fc"
    assert same(found, without_head(A))
    assert "mine.pth has no weights of fc, the class layer of small: that layer is left out" in caplog.text
    caplog.clear()
    projection = {f"fc.{part}.{kind}": torch.ones(4) for part in (0, 2) for kind in ("weight", "bias")}
    assert opened({**without_head(A), **projection}).left_out == "fc"
    assert "but those of another head (fc.0.weight, fc.0.bias, fc.2.weight, fc.2.bias)" in caplog.text


def test_a_backbone_that_lacks_more_or_has_more_is_refused(opened):
    for content in ({"fc.weight": A["fc.weight"], "fc.bias": A["fc.bias"]}, {"conv1.weight": A["conv1.weight"]}):
        with pytest.raises(MisfitError, match="missing"):
            opened(content)
    with pytest.raises(MisfitError, match=r"1 unexpected \(attention\.weight\)"):
        opened({**without_head(A), "attention.weight": torch.ones(2)})
    with pytest.raises(MisfitError, match=r"2 missing \(fc\.weight, fc\.bias\)"):
        opened(without_head(A), head=None)


@pytest.mark.parametrize("place", ["fc.1", "fc.linear", "fc.0.0"])
def test_a_class_layer_in_a_sequence_is_used_and_told(place, opened, caplog):
    content = {**without_head(A), f"{place}.weight": A["fc.weight"], f"{place}.bias": A["fc.bias"]}
    found = opened(content)
    assert same(found, A)
    assert f"its {place} is used as fc, the class layer of small" in caplog.text
    assert "passed over" not in caplog.text


def test_the_number_of_classes_is_the_files(opened):
    assert opened(under("module.", weights(0, classes=365))).classes == 365
    sequence = {key.replace("fc.", "fc.1."): value for key, value in weights(0, classes=365).items()}
    assert opened(sequence).classes == 365


def test_a_model_of_another_number_of_channels_is_refused_with_the_remedy(opened):
    with pytest.raises(
        MisfitError, match=r"conv1\.weight wants images of 1 channels, not 3 .*a transform to \[1, H"
    ):
        opened(weights(0, channels=1))


@pytest.mark.parametrize(
    ("packed", "kind"),
    [
        (lambda one: torch.quantize_per_tensor(one, 0.1, 0, torch.qint8), "qint8"),
        (lambda one: one.to(torch.int8), "int8"),
        (lambda one: one.to(torch.float8_e4m3fn), "float8_e4m3fn"),
        (lambda one: one.to_sparse(), "sparse_coo"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_quantised_and_packed_weights_are_refused(packed, kind, opened):
    with pytest.raises(UsageError, match=rf"mine\.pth holds fc\.weight as {kind}: it is quantised"):
        opened({**A, "fc.weight": packed(A["fc.weight"])})


def test_a_models_own_part_that_is_called_module_keeps_its_name(opened):
    model = nn.ModuleDict({"module": nn.Linear(2, 2), "other": nn.ModuleDict({"module": nn.Linear(2, 2)})})
    assert same(opened(model.state_dict(), model=model, head=None), model.state_dict())
    both = nn.ModuleDict({"module": nn.ModuleDict({"a": nn.Linear(2, 2)}), "a": nn.Linear(2, 2)})
    assert same(opened(both.state_dict(), model=both, head=None), both.state_dict())


def test_one_name_from_two_wrappers_is_refused(opened):
    with pytest.raises(UsageError, match=r"holds conv1\.weight twice: conv1\.weight and module\.conv1\.weight"):
        opened({**A, "module.conv1.weight": B["conv1.weight"]})


def test_weights_that_are_no_numbers_are_refused():
    model = Small()
    model.bn1.register_buffer("mask", torch.tensor([float("-inf")]))
    check_finite(model, "small")
    with torch.no_grad():
        model.conv1.weight[0] = float("nan")
        model.fc.bias[0] = float("inf")
    with pytest.raises(
        UsageError, match=r"of small are not all numbers: NaN or infinity in conv1\.weight and 1 more"
    ):
        check_finite(model, "small")


def refusal(path, content=None):
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError) as raised:
        read_checkpoint(weights_file(path))
    return str(raised.value)


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 46830571\n"


@pytest.mark.parametrize("name", ["mine.pth", "mine.safetensors"])
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (LFS, "is a Git LFS pointer, not the weights (get them with: git lfs pull)"),
        (b"\n<!doctype html><html>Google Drive - Virus scan warning</html>", "is a web page"),
        (b"hello", "is a text file that begins with 'hello'"),
        ("é".encode() * 400, "is a text file"),
        (b"", "is empty (0 bytes)"),
        (b"\x89HDF\r\n\x1a\n...", "is an HDF5 file"),
        (b"\x1f\x8b\x08\x00", "is a gzip archive (unpack it"),
        (b"\x93NUMPY\x01\x00", "is one array of NumPy"),
        (b"\x00\x01\x02\x03", "is neither a file of torch.save nor .safetensors: it begins with 00010203"),
        (b"\x80\x02}q\x00", "cut off"),
    ],
)
def test_what_is_no_checkpoint_is_named(name, content, told, tmp_path):
    message = refusal(tmp_path / name, content)
    assert message.startswith(f"the weights file {tmp_path / name} ")
    assert told in message


def test_other_archives_are_named(tmp_path):
    np.savez(tmp_path / "v.npz", a=np.ones(2))
    assert "is an archive of NumPy arrays" in refusal(tmp_path / "v.npz")
    torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(tmp_path / "script.pt")
    assert "is a TorchScript archive" in refusal(tmp_path / "script.pt")
    torch.save({"net": nn.Linear(2, 2), "accuracy": 1.0}, tmp_path / "whole.pth")
    assert "holds a whole object (torch.nn.modules.linear.Linear), and its code is never run" in refusal(
        tmp_path / "whole.pth"
    )


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_was_cut_off_says_so(zipped, tmp_path):
    path = tmp_path / "mine.pth"
    torch.save(A, path, _use_new_zipfile_serialization=zipped)
    assert "cut off" in refusal(path, path.read_bytes()[: path.stat().st_size * 2 // 3])
    save_file(A, path)
    whole = path.stat().st_size
    assert f"was cut off: {whole - 9:,} of {whole:,} bytes are there" in refusal(path, path.read_bytes()[:-9])


@pytest.mark.parametrize("name", ["mine.pth", "mine.safetensors"])
def test_the_format_is_the_contents_whatever_the_name(name, tmp_path):
    save_file(A, tmp_path / name)
    assert len(read_checkpoint(weights_file(tmp_path / name)).tensors) == len(A)
    torch.save(A, tmp_path / name)
    assert len(read_checkpoint(weights_file(tmp_path / name)).tensors) == len(A)


@pytest.mark.parametrize(("stem", "suffix"), [("model", "safetensors"), ("pytorch_model", "bin")])
def test_a_checkpoint_in_several_files_is_read_by_its_index(stem, suffix, tmp_path):
    names = [f"{stem}-{part:05}-of-00002.{suffix}" for part in (1, 2)]
    keys = list(A)
    for name, some in zip(names, (keys[:5], keys[5:]), strict=True):
        part = {key: A[key] for key in some}
        save_file(part, tmp_path / name) if suffix == "safetensors" else torch.save(part, tmp_path / name)
    index = tmp_path / f"{stem}.{suffix}.index.json"
    index.write_text(json.dumps({"weight_map": {key: names[number >= 5] for number, key in enumerate(keys)}}))
    file = weights_file(index)
    found = find_network(read_checkpoint(file), Small().state_dict(), name="small", head="fc")
    assert same(found, A)
    before = file.sha256
    (tmp_path / names[1]).write_bytes((tmp_path / names[1]).read_bytes() + b" ")
    assert weights_file(index).sha256 != before
    with pytest.raises(
        UsageError, match=rf"one of 2 parts \(give the index of all, {stem}\.{suffix}\.index\.json"
    ):
        weights_file(tmp_path / names[0])
    (tmp_path / names[1]).unlink()
    assert "1 of the 2 files" in refusal(index)
    assert "is not the index" in refusal(index, b"{}")


def test_a_file_whose_own_name_has_a_hash_is_that_file(tmp_path):
    torch.save({"model": A, "ema": B}, tmp_path / "run#3.pth")
    torch.save(B, tmp_path / "run")
    assert weights_file(tmp_path / "run#3.pth").network is None
    chosen = weights_file(tmp_path / "run#3.pth#ema")
    assert (chosen.path.name, chosen.network) == ("run#3.pth", "ema")
    assert chosen.identity == f"{weights_file(tmp_path / 'run#3.pth').sha256[:16]}#ema"
    assert weights_file(tmp_path / "run").identity == weights_file(tmp_path / "run").sha256[:16]
    with pytest.raises(UsageError, match=r"there is no weights file .*none#ema"):
        weights_file(tmp_path / "none#ema")
    with pytest.raises(UsageError, match=r"are a folder .*index\.json"):
        weights_file(tmp_path)
