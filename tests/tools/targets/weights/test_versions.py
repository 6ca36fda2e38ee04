"""The version of the weights is part of a target's name; what names none stands for the reference's."""

import hashlib
import json

import pytest
import timm
import torch
from safetensors.torch import save_file
from torchvision import models

from line_neurons.agent.errors import MissingPartError, UsageError
from line_neurons.graphs.runs import components as assembly
from line_neurons.graphs.runs.components import Components
from line_neurons.graphs.runs.lifecycle import new_run_id
from line_neurons.tools.store.records import Run
from line_neurons.tools.store.runs import RunStore
from line_neurons.tools.target_specs import canonical_fingerprint, display_spec, unversioned_spec, versioned_spec
from line_neurons.tools.targets.registry import open_target, pinned_spec
from line_neurons.tools.targets.torchvision_models import REFERENCE
from support.fakes import scripted_components

V1, V2 = "resnet50-0676ba61.pth", "resnet50-11ad3fa6.pth"
HASH = "0123456789abcdef"


def fingerprint(name, said):
    return f"{name} weights={HASH} ({said}) transforms=f pool=auto precision=float32"


def test_the_default_is_the_references_first_release_for_every_model_that_has_one():
    for model in models.list_models(module=models):
        names = [entry.name for entry in models.get_model_weights(model)]
        expected = REFERENCE if REFERENCE in names else names[0]
        assert pinned_spec(f"torchvision:{model}") == f"torchvision:{model}@{expected}"
    assert [pinned_spec(f"torchvision:{model}") for model in ("resnet18", "resnet50", "vit_b_16")] == [
        f"torchvision:{model}@IMAGENET1K_V1" for model in ("resnet18", "resnet50", "vit_b_16")
    ]


@pytest.mark.parametrize(
    "spec", ["torchvision:resnet50@IMAGENET1K_V2", "torchvision:none", "timm:resnet50.a2_in1k", "hf:a/b", "m:f"]
)
def test_a_spec_with_a_version_or_without_any_stays_as_it_is(spec):
    assert pinned_spec(spec) == spec


def test_timms_default_tag_is_named():
    tag = timm.get_pretrained_cfg("resnet50").tag
    assert pinned_spec("timm:resnet50") == f"timm:resnet50.{tag}"


def test_missing_weights_ask_for_the_references_file_and_name_another_release_that_is_here(tmp_path):
    hub = tmp_path / "torch_home" / "hub" / "checkpoints"
    hub.mkdir(parents=True)
    (hub / V2).write_bytes(b"whatever")
    with pytest.raises(MissingPartError, match=rf"{V1}.*torchvision:resnet50@IMAGENET1K_V2"):
        open_target("torchvision:resnet50")


def test_the_choice_is_told_and_the_name_has_the_version(tmp_path, monkeypatch):
    content = b"whatever"
    digest = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(
        "line_neurons.tools.targets.torchvision_models._name_and_hash", lambda entry: (entry.name, digest[:8])
    )
    hub = tmp_path / "torch_home" / "hub" / "checkpoints"
    hub.mkdir(parents=True)
    (hub / "IMAGENET1K_V1").write_bytes(content)
    target = open_target("torchvision:resnet50")
    assert (target.name, target.spec) == ("torchvision:resnet50@IMAGENET1K_V1",) * 2
    assert "torchvision:resnet50@IMAGENET1K_V1; torchvision's own default is @IMAGENET1K_V2" in target.note
    # As earlier versions recorded it, so that their runs and activations go on.
    assert target.fingerprint.startswith(f"torchvision:resnet50 weights={digest[:16]} (IMAGENET1K_V1) ")
    assert open_target("torchvision:resnet50@IMAGENET1K_V1").note == ""


def test_a_checkpoint_of_ones_own_is_shown_by_its_hash_and_keeps_its_preprocessing(checkpoint, tmp_path):
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    target = open_target("torchvision:mobilenet_v3_small", weights=checkpoint)
    assert target.spec == "torchvision:mobilenet_v3_small@IMAGENET1K_V1"
    assert display_spec(target.spec, target.fingerprint) == f"torchvision:mobilenet_v3_small@own-{digest[:8]}"
    state = timm.create_model("resnet18", pretrained=False).state_dict()
    save_file(state, tmp_path / "mine.safetensors")
    own = open_target("timm:resnet18", weights=tmp_path / "mine.safetensors")
    assert own.spec == pinned_spec("timm:resnet18")
    assert "preprocessing of timm:resnet18." in own.note
    assert display_spec(own.spec, own.fingerprint).startswith("timm:resnet18@own-")


@pytest.mark.parametrize(
    ("spec", "said", "opened", "told"),
    [
        ("torchvision:resnet50", "IMAGENET1K_V2", "torchvision:resnet50@IMAGENET1K_V2", None),
        ("torchvision:resnet50@IMAGENET1K_V1", "IMAGENET1K_V1", "torchvision:resnet50@IMAGENET1K_V1", None),
        ("torchvision:resnet50", "own, transforms of IMAGENET1K_V2", "torchvision:resnet50@IMAGENET1K_V2",
         "torchvision:resnet50@own-01234567"),
        ("timm:resnet18", "a1_in1k", "timm:resnet18.a1_in1k", None),
        ("timm:x", "timm", "timm:x", None),
        ("keras:resnet50", "ImageNet", "keras:resnet50@imagenet", None),
        ("hf:a/b", "safetensors", "hf:a/b", None),
        ("hf:a/b@" + "0123456789" * 4, "safetensors", "hf:a/b@" + "0123456789" * 4, "hf:a/b@0123456"),
        ("hf:a/b", "own", "hf:a/b", "hf:a/b@own-01234567"),
        ("/x/net.py:make", "own, source abcdef01", "/x/net.py:make", "net.py:make"),
        ("memory:Net", "in memory, structure abc", "memory:Net", None),
    ],
)  # fmt: skip
def test_a_run_of_an_earlier_version_is_opened_and_shown_with_the_weights_that_it_had(
    tmp_path, spec, said, opened, told
):
    store = RunStore(tmp_path)
    target = fingerprint(unversioned_spec(spec), said)
    store.add_run(Run("r-1", spec, "fc", 0, "finished", 1.0, {}, {"target": target}, {}), [])
    run = store.run("r-1")
    assert (run.model, run.target_name, run.fingerprints) == (opened, told or opened, {"target": target})
    assert versioned_spec(run.model, target) == run.model
    assert store.runs()[0].model == opened


def test_a_fingerprint_of_timm_that_had_the_tag_twice_is_read_as_it_is_written_now():
    assert canonical_fingerprint(fingerprint("timm:resnet18.a1_in1k", "a1_in1k")) == fingerprint(
        "timm:resnet18", "a1_in1k"
    )
    same = fingerprint("torchvision:resnet50", "IMAGENET1K_V1")
    assert canonical_fingerprint(same) == same


def test_names_of_runs_stay_short(tmp_path):
    store = RunStore(tmp_path)
    named = [
        new_run_id(store, model, "fc") for model in ("torchvision:resnet50@IMAGENET1K_V1", "timm:resnet50.a1")
    ]
    assert named == ["resnet50-fc-1", "resnet50-fc-1"]


def test_a_choice_is_said_once_in_a_process(tmp_path, checkpoint, caplog):
    assembly._warn_once.cache_clear()
    store = scripted_components(tmp_path, None).settings.store
    for spec in ("torchvision:mobilenet_v2", "torchvision:mobilenet_v2"):
        components = Components(spec, scripted_components(store, None, weights=checkpoint).settings)
        assert components.spec == "torchvision:mobilenet_v2@IMAGENET1K_V1"
    assert caplog.text.count("preprocessing of torchvision:mobilenet_v2@IMAGENET1K_V1") == 1


def test_a_commit_of_the_hub_is_recorded_in_place_of_a_branch(tmp_path, small_vit):
    commit = "0123456789" * 4
    folder = tmp_path / "hub" / "models--a--b" / "snapshots" / commit
    small_vit().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": "ViTImageProcessor"}))
    refs = folder.parent.parent / "refs"
    refs.mkdir()
    (refs / "main").write_text(commit)
    target = open_target("hf:a/b", device="cpu")
    assert (target.spec, target.name) == (f"hf:a/b@{commit}", "hf:a/b@0123456")
    assert "main branch, now 0123456" in target.note
    again = open_target(target.spec, device="cpu")
    assert (again.fingerprint, again.note) == (target.fingerprint, "")


def test_regnets_whose_widths_are_computed_are_opened_too(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "mine.pth"
    torch.save(models.regnet_y_400mf(num_classes=2).state_dict(), path)
    assert open_target("torchvision:regnet_y_400mf", weights=path, device="cpu").layers()[-1].units == 2


def test_an_own_weights_name_is_no_spec():
    with pytest.raises(UsageError, match=r"no weights 'own-01234567'.*--weights"):
        open_target("torchvision:resnet50@own-01234567")
