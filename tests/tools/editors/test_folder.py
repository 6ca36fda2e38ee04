"""Edits made elsewhere: the folder that is exported, and what is read back."""

import csv

import numpy as np
import pytest
from PIL import Image

from line_neurons.agent.errors import MissingEditError, UsageError
from line_neurons.agent.ports import EditRequest
from line_neurons.tools.editors.canvas import pixels_of
from line_neurons.tools.editors.folder import SIDE, TABLE, CanvasFolder, FolderEditor, read_table
from line_neurons.tools.images.png import encode_png


def canvas(value=90):
    pixels = np.full((SIDE, SIDE, 3), value, np.uint8)
    pixels[100:300, 100:300] = (250, 20, 20)
    return encode_png(pixels)


def request(kind="remove", concept="red ball", other="", value=90):
    return EditRequest(canvas(value), kind, concept, other, name="control 7")


@pytest.fixture
def folder(tmp_path):
    """A folder with two images, and three edits to make."""
    made = CanvasFolder(tmp_path / "edits")
    made.add(request(), "Remove the red ball.", needed=True)
    made.add(request("elsewhere"), "Change as much elsewhere.", needed=False)
    made.add(request(value=30), "Remove the red ball.", needed=True)
    made.add(request(), "Remove the red ball.", needed=True)
    made.write()
    return made.folder


def save(folder, row, pixels, ending=".png"):
    Image.fromarray(pixels).save((folder / row.file).with_suffix(ending))


def test_each_image_is_written_once_with_a_row_for_each_edit(folder):
    rows = read_table(folder)
    assert [(row.kind, row.needed, row.name) for row in rows] == [
        ("remove", "yes", "control 7"), ("elsewhere", "no", "control 7"), ("remove", "yes", "control 7"),
    ]  # fmt: skip
    assert [row.file.rpartition("/")[2] for row in rows] == ["remove.png", "elsewhere.png", "remove.png"]
    originals = sorted(folder.glob("red-ball-*/original.png"))
    assert len(originals) == 2
    assert (pixels_of(originals[0].read_bytes()) == pixels_of(canvas(30))).all() or (
        pixels_of(originals[1].read_bytes()) == pixels_of(canvas(30))
    ).all()


def test_another_thing_in_its_place_has_a_file_of_its_own_and_a_second_export_keeps_the_first(folder):
    again = CanvasFolder(folder)
    for other in ("cat", "dog"):
        again.add(request("replace", other=other), "...", needed=True)
    files = [row.file.rpartition("/")[2] for row in again.write()]
    assert files == ["remove.png", "elsewhere.png", "remove.png", "replace.png", "replace-2.png"]


@pytest.mark.parametrize("ending", [".png", ".webp", ".jpg"])
def test_an_edit_is_found_by_the_pixels_of_its_image(folder, ending):
    row = read_table(folder)[0]
    edited = np.full((SIDE, SIDE, 3), 90, np.uint8)
    save(folder, row, edited, ending)
    editor = FolderEditor(folder)
    assert np.abs(pixels_of(editor.edit(request()).png).astype(int) - edited).max() <= 2
    before = editor.fingerprint
    save(folder, row, edited + 5, ending)
    assert FolderEditor(folder).fingerprint != before


def test_what_is_missing_is_named(folder):
    rows = read_table(folder)
    save(folder, rows[0], np.zeros((SIDE, SIDE, 3), np.uint8))
    save(folder, rows[1], np.zeros((SIDE // 2, SIDE, 3), np.uint8))
    editor = FolderEditor(folder)
    with pytest.raises(MissingEditError, match=r"remove.png is missing"):
        editor.edit(request(value=30))
    with pytest.raises(MissingEditError, match=r"elsewhere.png has 1024 x 512 pixels, not 1024 x 1024"):
        editor.edit(request("elsewhere"))
    with pytest.raises(MissingEditError, match=r"no row to remove 'cat' in this image"):
        editor.edit(request(concept="cat"))
    (folder / rows[2].file).write_bytes(b"\x89PNG no image")
    with pytest.raises(MissingEditError, match="cannot be read"):
        FolderEditor(folder).edit(request(value=30))


def test_a_folder_without_edits_or_table_is_refused_with_the_remedy(folder, tmp_path):
    with pytest.raises(UsageError, match=r"no edited image yet, such as 'red-ball-\w+/remove.png'"):
        FolderEditor(folder)
    with pytest.raises(UsageError, match=r"has no edits.csv.*--export-canvases"):
        FolderEditor(tmp_path)
    with pytest.raises(UsageError, match="is not a folder of edits"):
        FolderEditor(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"file": "../../etc/passwd"}, "not a file below the folder"),
        ({"file": "/etc/passwd"}, "not a file below the folder"),
        ({"kind": None}, "no column 'kind'"),
    ],
)
def test_a_table_of_strangers_leads_nowhere_else(folder, change, said):
    rows = list(csv.DictReader((folder / TABLE).open()))
    rows[1].update(change)
    names = [name for name in rows[0] if rows[1][name] is not None]
    with (folder / TABLE).open("w") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(UsageError, match=said) as caught:
        FolderEditor(folder)
    assert "\n" not in str(caught.value)


def test_a_table_that_is_no_text_is_refused(folder):
    (folder / TABLE).write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(UsageError, match="cannot be read"):
        CanvasFolder(folder)
