"""Cut-outs of photographs: their files, and the banks that have them."""

import csv
import json
from importlib.resources import files

import numpy as np
import pytest
from PIL import Image

from line_neurons.agent.errors import MissingPartError, NotDrawableError
from line_neurons.tools.assets.location import assets_root, state
from line_neurons.tools.assets.packs import find
from line_neurons.tools.image_bank import cutouts
from line_neurons.tools.image_bank.bank import BUNDLED, bundled_bank
from line_neurons.tools.image_bank.cutouts import CUTOUTS, cutout_name, make_cutouts, reviewed
from line_neurons.tools.images.reader import read_cutout
from line_neurons.tools.images.saliency import SaliencyModel


@pytest.fixture
def photographs(tmp_path, monkeypatch):
    """Two photographs of a red square on grey, and a network that finds what is red."""
    monkeypatch.setattr(cutouts, "reviewed", lambda: {"animals/a.webp": 0.25, "b.webp": 0.9})
    monkeypatch.setattr(SaliencyModel, "check", lambda self: None)
    monkeypatch.setattr(
        SaliencyModel, "saliency", lambda self, image: (np.asarray(image)[..., 0] > 200).astype(np.float32)
    )
    pixels = np.full((1000, 1000, 3), 90, np.uint8)
    pixels[300:800, 100:600] = 255, 0, 0
    for name in ("animals/a.webp", "b.webp"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, lossless=True)
    return tmp_path


def test_a_cut_out_is_what_stands_out_and_one_that_differs_from_the_reviewed_one_is_left_out(photographs):
    folder, different = make_cutouts(photographs, lambda done, total: None)
    assert different == ["b.webp"]
    (path,) = (path for path in folder.rglob("*") if path.is_file())
    assert path == photographs / CUTOUTS / "animals" / "a.png"
    cut = np.asarray(read_cutout(path.read_bytes()))
    assert cut.shape == (320, 320, 4)
    assert (cut[2:-2, 2:-2] == (255, 0, 0, 255)).all()


def test_a_stopped_command_leaves_the_cut_outs_of_before(photographs):
    make_cutouts(photographs, lambda done, total: None)

    def stop(done, total):
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_cutouts(photographs, stop)
    assert [path.name for path in (photographs / CUTOUTS).rglob("*.png")] == ["a.png"]
    assert sorted(path.name for path in photographs.iterdir()) == [CUTOUTS, "photos"]


def test_the_reviewed_photographs_are_photographs_of_the_bank():
    text = files("line_neurons.tools.image_bank").joinpath("bundled.csv").read_text("utf-8")
    photographs = {row["file"] for row in csv.DictReader(text.splitlines()) if row["kind"] == "photo"}
    assert reviewed().keys() <= photographs
    assert len({cutout_name(name) for name in reviewed()}) == len(reviewed()) == 126


@pytest.mark.parametrize("name", [name for name, packs in BUNDLED.items() if CUTOUTS in packs])
def test_missing_cut_outs_name_the_command_that_makes_them(tmp_path, name):
    for pack in ("stamps", "photos", "backgrounds"):
        (tmp_path / pack).mkdir()
    with pytest.raises(MissingPartError, match="line assets cutouts"):
        bundled_bank(tmp_path, name)


def test_the_command_says_what_it_needs(line, tmp_path, monkeypatch):
    monkeypatch.setenv("LINE_ASSETS", str(tmp_path / "none"))
    status, out, err = line("assets", "cutouts")
    assert (status, out) == (2, "")
    assert err.count("\n") == 1 and "line assets install u2netp" in err


@pytest.fixture(scope="module")
def with_cutouts(assets, tmp_path_factory):
    """The bundled bank's packs, and cut-outs of a few of the reviewed photographs, a cheetah's among them."""
    if state(find("u2netp"), assets_root()) != "installed":
        pytest.skip("the pack u2netp is not installed")
    root = tmp_path_factory.mktemp("assets")
    for pack in ("stamps", "photos", "backgrounds", "u2netp"):
        (root / pack).symlink_to(assets / pack)
    every = reviewed()
    some = {name: share for name, share in every.items() if "cheetah" in name} | dict(list(every.items())[::40])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cutouts, "reviewed", lambda: some)
        assert make_cutouts(root, lambda done, total: None)[1] == []
    return root, len(some)


@pytest.mark.e2e
def test_photographs_are_put_into_scenes_and_stay_on_their_side_of_the_split(
    with_cutouts, sentence_encoder, tmp_path
):
    from line_neurons.agent.ports import ImageRequest
    from line_neurons.tools.image_bank.generator import ImageBankGenerator

    root, count = with_cutouts
    plain, cut = bundled_bank(root), bundled_bank(root, "bank+cutouts")
    assert plain.captions("all") == cut.captions("all")
    splits = {entry.id: entry.split for entry in plain.entries}
    added = [entry for entry in cut.entries if entry.id not in splits]
    assert len(added) == count and {entry.kind for entry in added} == {"cutout"}
    photographs = {cutout_name(name): split for name, split in splits.items() if name.startswith("photos/")}
    assert all(photographs[entry.id.replace(CUTOUTS, "photos", 1)] == entry.split for entry in added)
    template = "A realistic photo of a {concept}, {angle}, {lighting}"
    request = ImageRequest("cheetah on a beach", "low angle", "studio", 0, template)
    with pytest.raises(NotDrawableError, match="only whole photographs"):
        ImageBankGenerator(plain, sentence_encoder, cache=tmp_path).synthesize([request])
    # The names are the same, so they are embedded once.
    (image,) = ImageBankGenerator(cut, sentence_encoder, cache=tmp_path).synthesize([request])
    assert len(list(tmp_path.iterdir())) == 1
    assert "cut-out of a photograph of GCompris" in json.dumps(image.provenance)
