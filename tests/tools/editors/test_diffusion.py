"""Editors of diffusers, with tiny random pipelines that are saved and read as real ones are."""

import io
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from line_neurons.agent.diffusion_settings import DiffusionSettings
from line_neurons.agent.errors import MissingPartError, UsageError
from line_neurons.agent.ports import EditRequest
from line_neurons.agent.settings import Settings
from line_neurons.tools.editors import diffusion
from line_neurons.tools.editors.diffusion import DiffusionEditor
from line_neurons.tools.editors.presets import EDIT_PRESETS
from line_neurons.tools.editors.registry import EditorParts, open_editor
from line_neurons.tools.images import saliency
from line_neurons.tools.images.png import encode_png
from line_neurons.tools.images.saliency import SaliencyModel
from support.tiny_editors import EDITORS

SIDE = 64


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}
    for name, pipeline in EDITORS.items():
        made[name] = tmp_path_factory.mktemp(name)
        pipeline().save_pretrained(made[name])
    return made


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    """Small canvases, two steps, and a saliency network that finds what is bright."""
    import diffusers.pipelines.qwenimage.pipeline_qwenimage_edit_plus as plus

    for area in ("VAE_IMAGE_SIZE", "CONDITION_IMAGE_SIZE"):
        monkeypatch.setattr(plus, area, SIDE * SIDE)
    presets = {}
    for name, preset in EDIT_PRESETS.items():
        call = {key: SIDE * SIDE if key == "max_area" else value for key, value in preset.model.call.items()}
        # Without a size Qwen's pipeline returns a megapixel, which is its canvas.
        size = SIDE if name == "qwen-edit" else preset.model.size and SIDE
        model = replace(preset.model, steps=2, size=size, call=call, variant=None)
        presets[name] = replace(preset, model=model, side=SIDE)
    monkeypatch.setattr(diffusion, "EDIT_PRESETS", presets)
    network = SimpleNamespace(
        get_inputs=lambda: [SimpleNamespace(name="x")], run=lambda _, given: [given["x"].mean(1, keepdims=True)]
    )
    monkeypatch.setattr(saliency, "open_onnx", lambda path, remedy: network)
    (tmp_path / "u2netp").mkdir()
    (tmp_path / "u2netp" / "u2netp.onnx").write_bytes(b"weights")


def editor(folders, name, assets, words=None):
    return DiffusionEditor(
        f"{name}={folders[name]}", DiffusionSettings(steps=9, size=512), lambda: SaliencyModel(assets),
        device="cpu", download=False, words=words,
    )  # fmt: skip


def photograph():
    pixels = np.full((SIDE, SIDE, 3), 40, np.uint8)
    pixels[16:40, 16:40] = (250, 240, 60)
    return encode_png(pixels)


@pytest.mark.parametrize("name", EDITORS)
def test_each_pipeline_edits_at_the_size_of_its_canvas_by_its_words(folders, name, tmp_path):
    made = editor(folders, name, tmp_path)
    request = EditRequest(photograph(), "replace", "sun", "moon", seed=1)
    edited = made.edit(request)
    assert Image.open(io.BytesIO(edited.png)).size == (SIDE, SIDE)
    assert edited.png == made.edit(request).png
    assert edited.png != made.edit(replace(request, seed=2)).png
    assert "moon" in edited.provenance["prompt"]
    assert "steps=2" in made.fingerprint
    assert made.kinds >= {"remove", "replace", "unchanged"}
    assert ("insert" in made.kinds) == (name != "sdxl-inpaint") == ("elsewhere" not in made.kinds)


def test_an_inpainting_model_takes_the_region_that_stands_out(folders, tmp_path):
    made = editor(folders, "sdxl-inpaint", tmp_path)
    image = photograph()
    for kind in ("remove", "elsewhere", "unchanged"):
        assert Image.open(io.BytesIO(made.edit(EditRequest(image, kind, "sun", seed=3)).png)).size == (SIDE, SIDE)
    assert "u2netp" in made.fingerprint


def test_words_of_a_user_are_what_the_model_is_told_and_another_editor(folders, tmp_path):
    usual = editor(folders, "ip2p", tmp_path)
    other = editor(folders, "ip2p", tmp_path, {"remove": "Erase the {concept} from the sky."})
    assert (
        other.edit(EditRequest(photograph(), "remove", "sun")).provenance["prompt"]
        == "Erase the sun from the sky."
    )
    assert other.fingerprint.startswith(usual.fingerprint) and "Erase" in other.fingerprint
    with pytest.raises(UsageError, match=r"has no {concept}"):
        editor(folders, "ip2p", tmp_path, {"remove": "Erase it."})
    with pytest.raises(UsageError, match="cannot insert"):
        editor(folders, "sdxl-inpaint", tmp_path, {"insert": "Add a {concept}"})


def test_a_model_of_another_class_and_missing_weights_are_refused(folders, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="preset is for a FluxKontextPipeline"):
        DiffusionEditor(f"kontext={folders['ip2p']}", DiffusionSettings(), object, device="cpu", download=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    parts = EditorParts(Settings(device="cpu"), tmp_path, object)
    with pytest.raises(MissingPartError, match="--download"):
        open_editor("qwen-edit", parts)
    with pytest.raises(UsageError, match="takes no model"):
        open_editor("cut=folder", parts)
