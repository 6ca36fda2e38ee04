"""The editor of photographs, with networks that answer by a rule."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from line_neurons.agent.errors import MissingPartError, UneditableError
from line_neurons.agent.ports import EditRequest
from line_neurons.tools.editors import cut
from line_neurons.tools.editors.cut import CutEditor
from line_neurons.tools.images import saliency
from line_neurons.tools.images.png import encode_png
from line_neurons.tools.images.saliency import SaliencyModel
from support.edit_parts import pixels_of


class Networks:
    """U2Netp that finds what is bright, and MI-GAN that fills with blue."""

    def get_inputs(self):
        return [SimpleNamespace(name="input.1")]

    def run(self, names, given):
        if "mask" in given:
            image, known = given["image"], given["mask"]
            assert image.shape == (1, 3, 512, 512) and known.shape == (1, 1, 512, 512)
            return [np.where(known == 0, np.array([0, 0, 255], np.uint8)[None, :, None, None], image)]
        return [given["input.1"].mean(1, keepdims=True)]


@pytest.fixture
def editor(monkeypatch, tmp_path):
    monkeypatch.setattr(cut, "open_onnx", lambda path, remedy: Networks())
    monkeypatch.setattr(saliency, "open_onnx", lambda path, remedy: Networks())
    for name in ("u2netp/u2netp.onnx", "migan/migan_pipeline_v2.onnx"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(name.encode())
    return CutEditor(tmp_path, SaliencyModel(tmp_path))


def photograph(top=120, left=60, height=150, width=200):
    pixels = np.full((512, 512, 3), 40, np.uint8)
    pixels[top : top + height, left : left + width] = (250, 240, 60)
    pixels[4:7, 500:503] = 255
    return encode_png(pixels)


def test_what_stands_out_is_filled_with_a_margin_and_specks_stay(editor):
    image = photograph()
    edited = editor.edit(EditRequest(image, "remove", "sun"))
    before, after = pixels_of(image), pixels_of(edited.png)
    assert (after[120:270, 60:260] == (0, 0, 255)).all()
    changed = (before != after).any(-1)
    assert changed[112:278, 52:268].sum() == changed.sum()
    assert changed.mean() == pytest.approx(edited.provenance["share"])


def test_the_control_edit_is_as_large_and_elsewhere(editor):
    image = photograph()
    removed = editor.edit(EditRequest(image, "remove", "sun", seed=1))
    moved = editor.edit(EditRequest(image, "elsewhere", "sun", seed=1))
    assert (pixels_of(moved.png)[122:268, 62:258] == (250, 240, 60)).all()
    assert 0.9 * removed.provenance["share"] <= moved.provenance["share"] <= removed.provenance["share"]


class Halves:
    """Finds the brightest of what is there: the rest of a thing stands out once its head is gone."""

    fingerprint = "halves"

    def region(self, image, concept):
        grey = np.asarray(image, np.float32).mean(-1)
        return (grey == grey.max()).astype(np.float32)


@pytest.mark.parametrize(("gap", "is_taken"), [(0, True), (90, False)])
def test_what_is_left_of_a_thing_is_taken_in_a_second_pass(editor, gap, is_taken):
    made = CutEditor(editor._path.parents[1], Halves())
    pixels = np.full((512, 512, 3), 40, np.uint8)
    pixels[120:220, 60:160] = 250
    pixels[120:220, 160 + gap : 260 + gap] = 200
    request = EditRequest(encode_png(pixels), "remove", "sun", seed=1)
    after = pixels_of(made.edit(request).png)
    assert (after[120:220, 60:160] == (0, 0, 255)).all()
    assert (after[130:210, 190 + gap : 250 + gap] == (0, 0, 255)).all() == is_taken
    moved = made.edit(replace(request, kind="elsewhere"))
    assert 0.9 < moved.provenance["share"] / made.edit(request).provenance["share"] <= 1


@pytest.mark.parametrize(("size", "kind", "reason"), [
    ((0, 0), "remove", "covers 0%"), ((512, 512), "remove", "not 1% to 80%"), ((420, 420), "elsewhere", "no room"),
])  # fmt: skip
def test_nothing_and_nearly_everything_are_refused_with_the_share(editor, size, kind, reason):
    with pytest.raises(UneditableError, match=reason):
        editor.edit(EditRequest(photograph(30, 30, *size), kind, "sun"))


def test_unchanged_is_a_round_trip_of_resampling(editor):
    image = photograph()
    difference = np.abs(pixels_of(image) - pixels_of(editor.edit(EditRequest(image, "unchanged", "sun")).png))
    assert 0 < difference.mean() < 3
    assert not editor.offers("sun")


def test_missing_packs_are_named_with_the_command(tmp_path):
    with pytest.raises(MissingPartError, match="line assets install edits"):
        CutEditor(tmp_path, SaliencyModel(tmp_path))


@pytest.mark.e2e
def test_the_real_networks_take_a_thing_out():
    from line_neurons.tools.assets.location import assets_root

    root = assets_root()
    if not (root / "migan").is_dir() or not (root / "u2netp").is_dir():
        pytest.skip("line assets install edits")
    image = photograph()
    edited = CutEditor(root, SaliencyModel(root)).edit(EditRequest(image, "remove", "sun"))
    assert (pixels_of(edited.png)[150:240, 90:230, 0] < 200).mean() > 0.9
    assert SaliencyModel(root).path.is_file()
