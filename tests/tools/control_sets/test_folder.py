import hashlib
import os
import sqlite3
import weakref
from contextlib import closing

import pytest
import timm.data

from line_neurons.agent.errors import StoreError, UsageError
from line_neurons.tools.control_sets import open_control_set
from line_neurons.tools.control_sets.sampling import CHUNK


def images(control, start=0):
    return [image for chunk in control.chunks(start) for image in zip(chunk.images, chunk.labels, strict=True)]


def skipped(control):
    """What is told beyond what the folder of these tests has besides its images."""
    lines = [line for chunk in control.chunks() for line in chunk.skipped]
    return [line for line in lines if line not in BESIDE]


BESIDE = (
    ".cache: hidden",
    "bee/notes.txt: without the ending of an image",
    "empty: a folder without images",
)


def test_folders_that_have_images_are_classes_and_images_come_as_they_are(folder):
    control = open_control_set(str(folder))
    assert control.classes() == ("bee", "owl", "tabby cat")
    assert [label for _, label in images(control)] == [0, 0, 0, 1, 2, 2, 2]
    assert images(control)[5] == ((folder / "tabby_cat" / "1.png").read_bytes(), 2)
    assert next(control.chunks()).skipped == control.remarks == BESIDE


def test_the_first_images_of_a_class_count(folder):
    control = open_control_set(str(folder), images=2)
    assert [label for _, label in images(control)] == [0, 0, 1, 2, 2]
    assert images(control)[4][0] == (folder / "tabby_cat" / "1.png").read_bytes()
    assert control.fingerprint != open_control_set(str(folder)).fingerprint


def test_fifty_images_of_a_class_count_by_default(tmp_path, paint):
    for number in range(52):
        paint(tmp_path / "owl" / f"{number}.png", (number, 0, 0))
    assert len(images(open_control_set(str(tmp_path)))) == 50


def test_chunks_have_a_fixed_size_and_may_begin_at_any(tmp_path, paint):
    for name in ("bee", "owl"):
        for number in range(45):
            paint(tmp_path / name / f"{number:02}.png", (number, 0, 0))
    control = open_control_set(str(tmp_path))
    assert control.total == 2
    assert [len(chunk.images) for chunk in control.chunks()] == [CHUNK, 90 - CHUNK]
    assert images(control)[CHUNK:] == images(control, start=1)
    assert images(control, start=2) == []


def test_chunks_that_are_left_out_are_not_read(tmp_path, paint):
    for number in range(CHUNK + 1):
        paint(tmp_path / f"{number:03}.png", (number, 0, 0))
    control = open_control_set(str(tmp_path))
    (tmp_path / "000.png").write_text("no longer an image")
    assert [chunk.skipped for chunk in control.chunks(1)] == [()]


def test_a_set_keeps_no_chunk_that_it_has_given(folder):
    chunks = open_control_set(str(folder)).chunks()
    given = weakref.ref(next(chunks))
    assert given() is None


def test_a_folder_of_images_alone_has_no_classes_and_all_count(tmp_path, paint):
    for number in range(60):
        paint(tmp_path / f"{number:02}.png", (number, 0, 0))
    control = open_control_set(str(tmp_path))
    assert control.classes() == ()
    assert [label for _, label in images(control)] == [-1] * 60
    assert images(open_control_set(str(tmp_path), images=7)) == images(control)[:7]


def test_hidden_files_are_no_images(folder, paint):
    before = images(open_control_set(str(folder)))
    paint(folder / "owl" / "._a.png", (1, 1, 1))
    paint(folder / "._stray.png", (1, 1, 1))
    assert images(open_control_set(str(folder))) == before
    assert skipped(open_control_set(str(folder))) == ["._stray.png and 2 more: hidden"]


def test_images_beside_class_folders_are_left_out_and_told(folder, paint):
    before = images(open_control_set(str(folder)))
    paint(folder / "stray.png", (1, 1, 1))
    assert skipped(open_control_set(str(folder))) == ["stray.png: in no class folder"]
    paint(folder / "more.png", (1, 1, 1))
    control = open_control_set(str(folder))
    assert skipped(control) == ["more.png and 1 more: in no class folder"]
    assert images(control) == before


def test_images_that_cannot_be_decoded_are_skipped_and_told(folder):
    jpeg = folder / "bee" / "0.JPG"
    jpeg.write_bytes(jpeg.read_bytes()[:-60])
    (folder / "bee" / "1.JPG").write_text("text")
    control = open_control_set(str(folder))
    assert [label for _, label in images(control)] == [0, 1, 2, 2, 2]
    assert [line.split(":")[0] for line in skipped(control)] == ["bee/0.JPG", "bee/1.JPG"]
    assert skipped(control)[1].endswith("not an image")


def test_the_fingerprint_is_of_the_content_not_of_the_place(folder, tmp_path, paint):
    before = open_control_set(str(folder)).fingerprint
    moved = folder.rename(tmp_path / "elsewhere")
    assert open_control_set(str(moved)).fingerprint == before
    paint(moved / "owl" / "a.webp", (0, 0, 200))
    assert open_control_set(str(moved)).fingerprint != before


def test_the_fingerprint_tells_to_which_class_a_image_belongs(folder):
    before = open_control_set(str(folder)).fingerprint
    (folder / "owl").rename(folder / "barn owl")
    assert open_control_set(str(folder)).fingerprint != before


def test_remembered_hashes_give_the_same_fingerprint_without_reading(folder, tmp_path, monkeypatch):
    digests = tmp_path / "digests.db"
    # The time of a file's change cannot be set: only the clock can make the files old.
    monkeypatch.setattr("time.time_ns", lambda: 2**62)
    plain = open_control_set(str(folder)).fingerprint
    assert open_control_set(str(folder), digests=digests).fingerprint == plain
    opened = []
    real_digest = hashlib.file_digest
    monkeypatch.setattr(
        hashlib, "file_digest", lambda file, name: opened.append(file.name) or real_digest(file, name)
    )
    assert open_control_set(str(folder), digests=digests).fingerprint == plain
    assert opened == []
    (folder / "owl" / "a.webp").write_bytes(b"changed")
    assert open_control_set(str(folder), digests=digests).fingerprint != plain
    assert opened == [str(folder / "owl" / "a.webp")]


def test_the_hash_of_a_file_that_has_just_changed_is_not_remembered(folder, tmp_path, monkeypatch):
    def remembered():
        assert open_control_set(str(folder), digests=tmp_path / "digests.db").fingerprint
        return sqlite3.connect(tmp_path / "digests.db").execute("SELECT count(*) FROM digests").fetchone()[0]

    assert remembered() == 0
    monkeypatch.setattr("time.time_ns", lambda: 2**62)
    assert remembered() == 7


@pytest.mark.parametrize(
    "change", ["sha256 = '{}'".format("0" * 64), "checksum = x'00'", "checksum = NULL", "path = path || '-'"]
)
def test_a_remembered_hash_that_is_not_what_it_was_is_never_used(folder, tmp_path, monkeypatch, caplog, change):
    monkeypatch.setattr("time.time_ns", lambda: 2**62)
    digests = tmp_path / "digests.db"
    plain = open_control_set(str(folder)).fingerprint
    assert open_control_set(str(folder), digests=digests).fingerprint == plain
    with closing(sqlite3.connect(digests)) as db, db:
        db.execute(f"UPDATE digests SET {change}")
    assert open_control_set(str(folder), digests=digests).fingerprint == plain
    assert ("is damaged; the file is hashed again" in caplog.text) == (not change.startswith("path"))
    caplog.clear()
    assert open_control_set(str(folder), digests=digests).fingerprint == plain
    assert "damaged" not in caplog.text


def test_hashes_of_an_earlier_version_are_computed_once_more(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("time.time_ns", lambda: 2**62)
    digests = tmp_path / "digests.db"
    plain = open_control_set(str(folder), digests=digests).fingerprint
    with closing(sqlite3.connect(digests)) as db, db:
        db.execute("UPDATE digests SET sha256 = ?", ["0" * 64])
        db.execute("ALTER TABLE digests DROP COLUMN checksum")
        db.execute("PRAGMA user_version = 0")
    assert open_control_set(str(folder), digests=digests).fingerprint == plain


def test_a_file_of_hashes_that_cannot_be_used_is_named(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"digests\.db in .* cannot be used"):
        _ = open_control_set(str(folder), digests=tmp_path / "file" / "digests.db").fingerprint


def test_a_folder_without_images_is_refused_with_what_is_wanted(tmp_path):
    with pytest.raises(UsageError, match=r"has no images \(give a folder with a folder of images for each"):
        open_control_set(str(tmp_path))


def test_class_folders_one_level_too_deep_are_pointed_to(tmp_path, paint):
    paint(tmp_path / "val" / "owl" / "a.png", (1, 2, 3))
    with pytest.raises(UsageError, match=f"give {tmp_path}/val"):
        open_control_set(str(tmp_path))


def test_files_of_a_dataset_are_pointed_to_the_right_name(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.parquet").write_bytes(b"")
    with pytest.raises(UsageError, match=f"give hf:{tmp_path}"):
        open_control_set(str(tmp_path))


@pytest.mark.parametrize("images", [0, -3])
def test_fewer_than_one_image_are_refused(folder, images):
    with pytest.raises(UsageError, match=f"{images} images of each class"):
        open_control_set(str(folder), images=images)


def test_what_is_not_there_is_refused_with_the_kinds_there_are(tmp_path):
    with pytest.raises(UsageError, match=r"no control set .*nowhere.* \(give a folder of images, an .npz"):
        open_control_set(str(tmp_path / "nowhere"))


def test_the_thousand_wordnet_ids_of_imagenet_get_the_names_of_its_classifiers(tmp_path, paint):
    ids = timm.data.ImageNetInfo("imagenet-1k").label_names()
    paint(tmp_path / "a.png", (1, 2, 3))
    for name in ids:
        (tmp_path / name).mkdir()
        os.link(tmp_path / "a.png", tmp_path / name / "a.png")
    classes = open_control_set(str(tmp_path)).classes()
    assert len(classes) == 1000
    assert {"tench", "tabby", "toilet tissue"} <= set(classes)


def test_other_wordnet_ids_get_their_lemmas(tmp_path, paint):
    paint(tmp_path / "n01440764" / "a.png", (1, 2, 3))
    paint(tmp_path / "n00004475" / "a.png", (1, 2, 3))
    assert open_control_set(str(tmp_path)).classes() == ("organism, being", "tench, Tinca tinca")


def test_a_wordnet_id_of_nothing_is_refused(tmp_path, paint):
    paint(tmp_path / "n99999999" / "a.png", (1, 2, 3))
    with pytest.raises(UsageError, match="n99999999 is the WordNet id of no known class"):
        open_control_set(str(tmp_path))


def test_folders_whose_names_read_the_same_are_one_class(tmp_path, paint):
    paint(tmp_path / "barn_owl" / "a.png", (1, 2, 3))
    paint(tmp_path / "barn owl" / "a.png", (3, 2, 1))
    control = open_control_set(str(tmp_path))
    assert control.classes() == ("barn owl",)
    assert control.remarks == ("barn owl and barn_owl: names that read the same, taken as one class",)
    assert [label for _, label in images(control)] == [0, 0]


def test_folder_names_are_cleaned(tmp_path, paint):
    paint(tmp_path / "red\x1b[31mfox\n" / "a.png", (1, 2, 3))
    assert open_control_set(str(tmp_path)).classes() == ("red [31mfox",)
