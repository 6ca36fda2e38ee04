from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from line_neurons.agent.errors import UsageError
from line_neurons.tools.concept_bank import ConceptBank
from line_neurons.tools.control_sets import FolderControlSet, control_activations


class MeanColour:
    fingerprint = "mean-colour:1"

    def __init__(self, fail_at=None):
        self.calls = []
        self.fail_at = fail_at

    def layers(self):
        return []

    def unit_names(self, layer):
        return None

    def activate(self, images, layer, progress=None):
        if len(self.calls) == self.fail_at:
            raise KeyboardInterrupt
        self.calls.append(len(images))
        rows = [np.asarray(Image.open(BytesIO(image)).convert("RGB")).mean((0, 1)) for image in images]
        return np.array(rows, np.float32).reshape(len(images), 3)


def paint(path, colour):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 20), colour).save(path)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "control"
    for level in range(3):
        paint(root / "tabby_cat" / f"{level}.png", (level, 0, 0))
        paint(root / "bee" / f"{level}.JPG", (0, level * 9, 0))
    paint(root / "owl" / "a.webp", (0, 0, 9))
    (root / "bee" / "notes.txt").write_text("not a picture")
    (root / "empty").mkdir()
    (root / ".cache").mkdir()
    return root


@pytest.fixture
def bank(tmp_path):
    return ConceptBank(tmp_path / "store")


def test_classes_are_the_folders_that_have_pictures(folder):
    control = FolderControlSet(folder)
    assert control.classes() == ("bee", "owl", "tabby cat")
    assert [len(control.images(name)) for name in control.classes()] == [3, 1, 3]
    assert control.images("tabby cat")[1] == (folder / "tabby_cat" / "1.png").read_bytes()


def test_the_first_pictures_of_a_class_count(folder):
    control = FolderControlSet(folder, per_class=2)
    assert len(control.images("bee")) == 2
    assert control.fingerprint != FolderControlSet(folder).fingerprint


def test_the_fingerprint_is_of_the_content_not_of_the_place(folder, tmp_path):
    before = FolderControlSet(folder).fingerprint
    moved = folder.rename(tmp_path / "elsewhere")
    assert FolderControlSet(moved).fingerprint == before
    paint(moved / "owl" / "a.webp", (0, 0, 200))
    assert FolderControlSet(moved).fingerprint != before


def test_pictures_that_cannot_be_decoded_are_skipped_and_told(folder):
    jpeg = folder / "bee" / "0.JPG"
    jpeg.write_bytes(jpeg.read_bytes()[:-60])
    (folder / "bee" / "1.JPG").write_text("text")
    control = FolderControlSet(folder)
    assert len(control.images("bee")) == 1
    assert [line.split(":")[0] for line in control.skipped] == ["bee/0.JPG", "bee/1.JPG"]
    assert control.skipped[1].endswith("not a picture")


@pytest.mark.parametrize("what", ["missing", "file", "flat"])
def test_a_folder_without_classes_is_refused_with_what_is_wanted(tmp_path, what):
    path = tmp_path / "control"
    if what == "file":
        path.write_text("")
    if what == "flat":
        paint(path / "a.png", (1, 2, 3))
    with pytest.raises(UsageError, match="one folder of pictures for each class"):
        FolderControlSet(path)


def test_unknown_classes_and_empty_classes_are_refused(folder):
    with pytest.raises(UsageError, match="no class 'dog'"):
        FolderControlSet(folder).images("dog")
    with pytest.raises(UsageError, match="0 pictures a class"):
        FolderControlSet(folder, per_class=0)


def test_the_thousand_wordnet_ids_of_imagenet_get_their_class_names(tmp_path):
    for number in range(1000):
        (tmp_path / f"n{number:08d}").mkdir()
    paint(tmp_path / "n00000000" / "a.png", (1, 2, 3))
    paint(tmp_path / "n00000281" / "a.png", (1, 2, 3))
    assert FolderControlSet(tmp_path).classes() == ("tabby", "tench")


def test_a_few_wordnet_ids_are_refused_because_they_cannot_be_named(tmp_path):
    paint(tmp_path / "n01440764" / "a.png", (1, 2, 3))
    with pytest.raises(UsageError, match="rename the folders"):
        FolderControlSet(tmp_path)


def test_control_activations_have_a_row_for_each_picture_and_are_computed_once(bank, folder):
    target, control = MeanColour(), FolderControlSet(folder)
    seen = []
    computed = control_activations(bank, target, "layer", control, lambda *progress: seen.append(progress))
    assert computed.classes == ("bee", "owl", "tabby cat")
    assert computed.labels.tolist() == [0, 0, 0, 1, 2, 2, 2]
    assert computed.activations[4:, 0].tolist() == [0, 1, 2]
    assert seen == [(1, 3), (2, 3), (3, 3)]
    again = control_activations(ConceptBank(bank.root), target, "layer", FolderControlSet(folder))
    assert target.calls == [3, 1, 3]
    assert again.activations.tobytes() == computed.activations.tobytes()
    assert len(list((bank.root / "controls").iterdir())) == 1


def test_work_that_was_cut_off_goes_on_where_it_stopped_and_ends_the_same(bank, folder, tmp_path):
    (folder / "bee" / "1.JPG").write_text("text")
    with pytest.raises(KeyboardInterrupt):
        control_activations(bank, MeanColour(fail_at=2), "layer", FolderControlSet(folder))
    target = MeanColour()
    resumed = control_activations(ConceptBank(bank.root), target, "layer", FolderControlSet(folder))
    assert target.calls == [3]
    whole = control_activations(ConceptBank(tmp_path / "other"), MeanColour(), "layer", FolderControlSet(folder))
    assert resumed.activations.tobytes() == whole.activations.tobytes()
    assert resumed.labels.tolist() == whole.labels.tolist()
    assert (resumed.classes, resumed.skipped) == (whole.classes, whole.skipped)
    assert resumed.skipped == ("bee/1.JPG: not a picture",)


def test_a_class_without_a_readable_picture_is_left_out(bank, folder):
    (folder / "owl" / "a.webp").write_text("text")
    computed = control_activations(bank, MeanColour(), "layer", FolderControlSet(folder))
    assert computed.classes == ("bee", "tabby cat")
    assert computed.labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_a_control_set_without_any_readable_picture_is_refused(bank, tmp_path):
    (tmp_path / "control" / "owl").mkdir(parents=True)
    (tmp_path / "control" / "owl" / "a.png").write_text("text")
    with pytest.raises(UsageError, match="no picture of the control set can be read"):
        control_activations(bank, MeanColour(), "layer", FolderControlSet(tmp_path / "control"))
