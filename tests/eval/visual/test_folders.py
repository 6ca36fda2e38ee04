"""Folders of other tools' images, and what is refused in them."""

import json

import numpy as np
import pytest

from line_neurons.agent.errors import UsageError
from line_neurons.eval.visual.folders import Folder
from line_neurons.eval.visual.sets import open_folders
from line_neurons.tools.images.png import encode_png


def png(level=0):
    return encode_png(np.full((8, 8, 3), level, np.uint8))


def fill(folder, *names):
    for at, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(at))
    return Folder(folder)


@pytest.mark.parametrize("name", ["7", "007", "unit-7", "Unit_7", "castle"])
def test_a_unit_is_found_by_its_number_or_name(tmp_path, name):
    folder = fill(tmp_path, f"{name}/b.png", f"{name}/a.png", f"{name}/inner/c.jpg", "8/x.png")
    assert [one.name for one in folder.images(7, "Castle")] == ["a.png", "b.png", "c.jpg"]
    assert folder.images(9, "") == []
    (tmp_path / name / "notes.txt").write_text("no image")
    assert len(Folder(tmp_path).images(7, "castle")) == 3


def test_runs_of_dexter_are_found_by_their_class(tmp_path):
    run = "291_20250101-120000-0123abcd"
    folder = fill(tmp_path, f"{run}/frames/9.png", f"{run}/frames/10.png", f"{run}/final_img.png")
    (tmp_path / run / "args.json").write_text(json.dumps({"class_to_activate": 291}))
    assert [one.name for one in folder.images(291)] == ["final_img.png", "10.png", "9.png"]


def test_exemplars_of_maia_are_read_from_their_array(tmp_path):
    pixels = np.zeros((3, 2, 3, 4, 6), np.uint8)
    pixels[1, 0, 0] = 200
    np.save(tmp_path / "images.npy", pixels)
    folder = Folder(tmp_path)
    first, second = folder.images(1)
    assert (first.name, second.name) == ("exemplar 0", "exemplar 1")
    assert first.content == encode_png(np.tile(np.array([200, 0, 0], np.uint8), (4, 6, 1)))
    assert folder.images(3) == []
    with pytest.raises(UsageError, match=r"no images of these units \(it has units 0 to 2\)"):
        folder.check([(5, "")])


_HEADER = b"{'descr': '<f4', 'fortran_order': False, 'shape': (9999999, 9, 3, 9, 9), }"
CLAIMS = b"\x93NUMPY\x01\x00v\x00" + _HEADER.ljust(117) + b"\n" + bytes(64)
"""An array of which the header claims more than the file holds."""


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("code of a file was run",))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (np.zeros((2, 3, 4, 4), np.uint8), r"holds \[2, 3, 4, 4\], not images of units"),
        (np.zeros((2, 2, 1, 4, 4), np.uint8), "not images of units"),
        (np.full((1, 1, 3, 2, 2), np.nan), "not finite for unit 0"),
        (np.array([Trap()], object), "is no array of images"),
        (CLAIMS, "is no array of images"),
        (b"", "is no array of images"),
    ],
    ids=["four sides", "one colour", "no numbers", "pickled", "claims more", "empty"],
)  # fmt: skip
def test_other_arrays_are_refused_in_one_line(tmp_path, content, said):
    if isinstance(content, bytes):
        (tmp_path / "images.npy").write_bytes(content)
    else:
        np.save(tmp_path / "images.npy", content, allow_pickle=True)
    with pytest.raises(UsageError, match=said) as caught:
        Folder(tmp_path).images(0)
    assert "\n" not in str(caught.value)


def test_an_image_that_is_none_is_named(tmp_path):
    folder = fill(tmp_path, "0/a.png")
    (tmp_path / "0" / "b.png").write_bytes(png()[:40])
    with pytest.raises(UsageError, match=r"b\.png is no image"):
        folder.images(0)


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["dexter"], r"--other 'dexter' is not NAME=FOLDER"),
        (["=x"], "not NAME=FOLDER"),
        (["a=/nowhere/at all"], r"'/nowhere/at all' is not a folder"),
        (["line=."], "there is a set 'line' already"),
        (["a=.", "a=."], "there is a set 'a' already"),
    ],
)
def test_options_of_another_form_are_refused(texts, said):
    with pytest.raises(UsageError, match=said):
        open_folders(texts)
