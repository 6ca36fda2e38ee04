"""Folder layouts as people have them: which classes and images are taken, and what is told."""

import csv
import json
import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.datasets import ImageFolder

from line_neurons.agent.errors import UsageError
from line_neurons.tools.control_sets import open_control_set
from line_neurons.tools.control_sets.class_names import readable_names

IMAGENET = Path(__file__).parents[3] / "eval" / "labels" / "imagenet_synsets.csv"


def test_only_the_ids_of_imagenet_get_its_class_names():
    ids = [row["wnid"] for row in csv.DictReader(IMAGENET.read_text("utf-8").splitlines())]
    assert readable_names(ids[:2] + ids)[:2] == ["tench", "goldfish"]
    # Others between the same first and last one are other classes.
    pytest.importorskip("timm")
    others = [*ids[:500], "n00007846", *ids[501:]]
    assert readable_names(others)[500].startswith("person")


def lay(root, *files):
    """Make the files: ``image`` ones by the beginning of a name's number, others empty; ``a->b`` is a link."""
    for number, file in enumerate(files):
        name, arrow, end = file.partition("->")
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if arrow:
            path.symlink_to(end if end.startswith("/") else root / end)
        elif name.endswith("/"):
            path.mkdir()
        else:
            path.write_bytes(IMAGE + bytes([number]))


IMAGE = b"P6 1 1 255 \x01\x02\x03"


def counts(control):
    labels = Counter(label for chunk in control.chunks() for label in chunk.labels)
    return {(control.classes()[label] if label >= 0 else ""): count for label, count in sorted(labels.items())}


LAYOUTS = {
    "images below class folders are of the class": (
        ["cat/1.jpg", "cat/siamese/1.jpg", "dog/poodle/1.jpg", "dog/poodle/black/1.jpg", "bird/1.jpg"],
        {"bird": 1, "cat": 2, "dog": 2},
        ["cat/siamese and 2 more: a folder inside a class folder; its images belong to that class"],
    ),
    "what is no image is counted": (
        ["cat/1.jpg", "cat/._1.jpg", "cat/Thumbs.db", "cat/notes.txt", "dog/1.png", "dog/a", "empty/",
         "__MACOSX/cat/1.jpg", ".hidden/1.jpg", "stray.jpg", "more.jpg"],
        {"cat": 1, "dog": 1},
        [".hidden and 1 more: hidden", "__MACOSX and 1 more: left by an operating system",
         "cat/notes.txt and 1 more: without the ending of an image", "empty: a folder without images",
         "more.jpg and 1 more: in no class folder"],
    ),
    "endings count in upper case, too": (["cat/1.JPEG", "dog/1.PNG", "dog/2.Ppm"], {"cat": 1, "dog": 2}, []),
    "links are followed, and those to nothing or back are told": (
        ["cat/1.jpg", "dog->far/hound", "far/hound/1.jpg", "far/hound/2.jpg", "gone->/nowhere",
         "cat/2.jpg->cat/1.jpg", "cat/3.jpg->/nowhere.jpg", "cat/back->."],
        {"cat": 2, "dog": 2, "far": 2},
        ["gone and 1 more: a link to nothing", "cat/back: a link to a folder that it lies in",
         "far/hound: a folder inside a class folder; its images belong to that class"],
    ),
    "the letters of Places365 are no classes": (
        ["a/airfield/1.jpg", "a/apartment_building/outdoor/1.jpg", "b/bar/1.jpg", "b/bar/2.jpg"],
        {"airfield": 1, "apartment building outdoor": 1, "bar": 2},
        ["a and 1 more: a letter, in which each folder of images is a class, as in Places365"],
    ),
    "letters with images of their own are classes": (["a/1.jpg", "b/1.jpg", "b/2.jpg"], {"a": 1, "b": 2}, []),
    "one folder called images is no class": (
        ["images/1.jpg", "images/2.jpg", "readme.md"],
        {"": 2},
        ["readme.md: without the ending of an image", "images: no class by its name, so its images have none"],
    ),
    "a class may be called like a part of a dataset": (["train/1.jpg", "bus/1.jpg"], {"bus": 1, "train": 1}, []),
    "numbers are no names": (
        ["0/1.jpg", "1/1.jpg", "10/1.jpg", "10/2.jpg"],
        {"": 4},
        ["0 and 2 more: a folder with a name that is no word, so its images have no class; "
         "--class-names FILE names classes"],
    ),
    "names that read the same are one class, and those that differ by case are two": (
        ["hot_dog/1.jpg", "hot dog/1.jpg", "Crane/1.jpg", "crane/1.jpg", "crane/2.jpg"],
        {"Crane": 1, "crane": 2, "hot dog": 2},
        ["hot dog and hot_dog: names that read the same, taken as one class",
         "Crane and crane: classes with names that differ only in upper and lower case"],
    ),
    "names in any script": (["猫 cat/1.jpg", "naïve café/1.jpg"], {"naïve café": 1, "猫 cat": 1}, []),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_taken_of_a_folder_and_what_is_told(layout, tmp_path):
    files, classes, told = LAYOUTS[layout]
    lay(tmp_path, *files)
    control = open_control_set(str(tmp_path))
    assert counts(control) == classes
    assert list(control.remarks) == told
    assert next(control.chunks()).skipped == control.remarks


REFUSED = {
    "parts of a dataset": (
        ["train/cat/1.jpg", "val/cat/1.jpg", "extra/1.jpg"],
        "the folders train, val in .* are parts of a dataset",
        "name one of them: {root}/val or {root}/train",
    ),
    "Kaggle's ILSVRC, whose val and test are flat": (
        ["train/n01440764/1.JPEG", "train/n01443537/1.JPEG", "val/1.JPEG", "test/1.JPEG"],
        "test, train, val in .* are parts",
        "name one of them: {root}/train",
    ),
    "flat parts": (["Train/1.jpg", "Test/1.jpg"], "Test, Train", "name one of them: {root}/Train or {root}/Test"),
    "a dataset far down": (
        ["Data/CLS-LOC/train/n01440764/1.JPEG", "Data/CLS-LOC/val/1.JPEG", "Annotations/1.xml"],
        "has one folder, 'Data'",
        "name one of them: {root}/Data/CLS-LOC/train",
    ),
    "class folders one level down": (
        ["animals/cat/1.jpg", "animals/dog/1.jpg"],
        "has one folder, 'animals'",
        "further down: give {root}/animals",
    ),
    "images without endings": (
        ["cat/1", "cat/2"], "has no images .cat/1 and 1 more: without the ending of an image", "give a folder with"
    ),
}  # fmt: skip


@pytest.mark.parametrize("layout", REFUSED)
def test_what_holds_no_classes_is_refused_with_the_folder_to_name(layout, tmp_path):
    files, said, remedy = REFUSED[layout]
    lay(tmp_path, *files)
    with pytest.raises(UsageError, match=said) as refused:
        open_control_set(str(tmp_path))
    assert remedy.format(root=tmp_path) in refused.value.remedy


def test_a_name_that_is_not_utf8_is_refused_unless_a_file_names_it(tmp_path):
    root = tmp_path / "set"
    lay(root, os.fsdecode(b"caf\xe9/1.jpg"))
    with pytest.raises(UsageError, match="is not UTF-8") as refused:
        open_control_set(str(root))
    refused.value.message.encode()


NAME = st.sampled_from(["ant", "bee", "cat_fish", "Dog"])


@settings(max_examples=40)
@given(files=st.sets(st.tuples(NAME, st.lists(NAME, max_size=2).map(tuple), st.integers(0, 3)), min_size=2))
def test_the_images_of_each_class_are_those_of_torchvisions_image_folder(files, tmp_path_factory):
    root = tmp_path_factory.mktemp("set")
    lay(root, "zebra/1.jpg", "yak/1.jpg", *("/".join((name, *inner, f"{one}.jpg")) for name, inner, one in files))
    theirs = ImageFolder(str(root), loader=lambda path: path)
    control = open_control_set(str(root))
    named = Counter(theirs.classes[label].replace("_", " ") for _, label in theirs.samples)
    assert counts(control) == named


NAMES_FILES = {
    "names.txt": "tench\ngold fish\nshark\n",
    "ids.txt": "0 tench\n1 gold fish\n2 shark\n9 other\n",
    "names.csv": "0,tench\n1,\"gold fish\"\n2,shark\n",
    "names.tsv": "0\ttench\n1\tgold_fish\n2\tshark\n",
    "list.json": json.dumps(["tench", "gold fish", "shark"]),
    "by_folder.json": json.dumps({"0": "tench", "1": "gold fish", "2": "shark"}),
    "class_index.json": json.dumps({"0": ["n1", "tench"], "1": ["n2", "gold_fish"], "2": ["n3", "shark"]}),
}  # fmt: skip


@pytest.mark.parametrize("zeros", ["", "00"])
@pytest.mark.parametrize("file", NAMES_FILES)
def test_a_file_names_numbered_folders(file, zeros, tmp_path):
    lay(tmp_path / "set", *(f"{zeros}{number}/1.jpg" for number in range(3)))
    (tmp_path / file).write_text(NAMES_FILES[file])
    control = open_control_set(str(tmp_path / "set"), class_names=tmp_path / file)
    assert control.classes() == ("gold fish", "shark", "tench")
    assert control.fingerprint != open_control_set(str(tmp_path / "set")).fingerprint


def test_names_in_order_are_those_of_folders_from_1_where_the_last_number_is_their_count(tmp_path):
    lay(tmp_path / "set", "1/1.jpg", "3/1.jpg")
    names = tmp_path / "names.txt"
    names.write_text("tench\ngold fish\nshark\n")
    assert open_control_set(str(tmp_path / "set"), class_names=names).classes() == ("shark", "tench")
    names.write_text("tench\ngold fish\nshark\nray\n")
    with pytest.raises(UsageError, match="has 4 names, and the folders count from 1 to 3"):
        open_control_set(str(tmp_path / "set"), class_names=names)


@pytest.mark.parametrize(
    ("text", "folders", "said"),
    [
        ("cat feline\n", ["cat", "dog"], "not all folders are numbers"),
        ("a\nb\n", ["0", "5"], "has 2 names, and the folders count from 0 to 5"),
        ("{}", ["0"], "has no name for the folder '0'"),
        ("[1]", ["0"], "neither a list of names"),
        ("{", ["0"], "cannot be read"),
    ],
)
def test_names_that_do_not_fit_are_refused(text, folders, said, tmp_path):
    lay(tmp_path / "set", *(f"{folder}/1.jpg" for folder in folders))
    names = tmp_path / ("names.json" if text[0] in "{[" else "names.txt")
    names.write_text(text)
    with pytest.raises(UsageError, match=said):
        open_control_set(str(tmp_path / "set"), class_names=names)


def test_names_are_for_class_folders_alone(tmp_path):
    lay(tmp_path / "set", "1.jpg")
    (tmp_path / "names.txt").write_text("tench\n")
    with pytest.raises(UsageError, match="no class folders"):
        open_control_set(str(tmp_path / "set"), class_names=tmp_path / "names.txt")
    with pytest.raises(UsageError, match="class names are for a folder"):
        open_control_set(str(tmp_path / "names.txt"), class_names=tmp_path / "names.txt")


def test_what_is_read_as_before_has_the_fingerprint_it_had(tmp_path):
    lay(tmp_path, "tabby_cat/1.jpg", "bee/1.jpg", "bee/2.png", "stray.jpg", "bee/notes.txt")
    # As the version computed it that read a class folder's own images alone.
    assert open_control_set(str(tmp_path)).fingerprint == "folder:7ee6ecb51dbc9a6923b4d81641294a5e"
