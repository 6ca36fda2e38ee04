"""A user's folder of captioned images."""

import pytest

from line_neurons.agent.errors import UsageError
from line_neurons.tools.image_bank.bank import hold_out
from line_neurons.tools.image_bank.folder import clean, folder_bank, open_bank


def test_captions_file_gives_captions_kinds_scenes_and_splits(bank):
    by_id = {entry.id: entry for entry in bank.entries}
    assert by_id["dog3.png"].caption == "dog"
    assert by_id["dog3.png"].split == "heldout"
    assert by_id["dog3.png"].also == ("hound",)
    assert by_id["woods.jpg"].kind == "background"
    assert by_id["woods.jpg"].scenes == ("forest",)
    assert bank.captions() == ("ball", "cat", "dog", "green apple")


def test_text_files_beside_images_give_captions_and_synonyms(tmp_path, photo_file):
    photo_file(tmp_path / "1.png", (9, 9, 9))
    (tmp_path / "1.txt").write_text("A chest X-ray.\nradiograph\n")
    (entry,) = folder_bank(tmp_path).entries
    assert entry.names == ("chest x ray", "radiograph")


def test_folder_names_give_captions_where_nothing_else_does(tmp_path, photo_file):
    (tmp_path / "steam_engine").mkdir()
    photo_file(tmp_path / "steam_engine" / "IMG_001.png", (9, 9, 9))
    photo_file(tmp_path / "water tower 2.png", (9, 9, 9))
    assert folder_bank(tmp_path).captions("all") == ("steam engine", "water tower")


def test_what_gives_no_caption_or_is_no_image_is_left_out_and_told(tmp_path, photo_file):
    for folder in ("dog", ".cache", "__MACOSX", "7"):
        (tmp_path / folder).mkdir()
        photo_file(tmp_path / folder / "1.png", (9, 9, 9))
    photo_file(tmp_path / "0001.png", (9, 9, 9))
    (tmp_path / "dog" / "notes.md").write_text("x")
    bank = folder_bank(tmp_path)
    assert [entry.id for entry in bank.entries] == ["dog/1.png"]
    assert bank.remarks == (
        ".cache: hidden",
        "__MACOSX: left by an operating system",
        "dog/notes.md: without the ending of an image",
        "0001.png and 1 more: its name is no word and gives no caption; give one in captions.csv",
    )
    (tmp_path / "captions.csv").write_text("file,caption\n7/1.png,cat\n")
    assert folder_bank(tmp_path).remarks == ("0001.png and 1 more: not in captions.csv",)


def test_a_folder_called_like_a_dataset_is_no_caption(tmp_path, photo_file):
    (tmp_path / "images").mkdir()
    photo_file(tmp_path / "images" / "red_fox2.png", (9, 9, 9))
    assert folder_bank(tmp_path).captions("all") == ("red fox",)


def test_kind_is_told_by_transparency(tmp_path, photo_file, cutout_file):
    photo_file(tmp_path / "whole.png", (9, 9, 9))
    cutout_file(tmp_path / "cut.png", (9, 9, 9))
    assert [entry.kind for entry in folder_bank(tmp_path).entries] == ["cutout", "photo"]


def test_images_below_backgrounds_are_backgrounds_of_their_folder(tmp_path, photo_file):
    (tmp_path / "backgrounds" / "clinic").mkdir(parents=True)
    photo_file(tmp_path / "backgrounds" / "clinic" / "a.png", (9, 9, 9))
    photo_file(tmp_path / "lung.png", (9, 9, 9))
    background, _ = folder_bank(tmp_path).entries
    assert (background.kind, background.scenes, background.split) == ("background", ("clinic",), "shared")


def test_corrupt_images_are_skipped_and_reported(tmp_path, photo_file):
    photo_file(tmp_path / "good.png", (9, 9, 9))
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "cut_short.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "not_a_picture.jpg").write_text("hello")
    bank = folder_bank(tmp_path)
    assert [entry.id for entry in bank.entries] == ["good.png"]
    assert sorted(line.split(":")[0] for line in bank.skipped) == ["cut_short.png", "not_a_picture.jpg"]


def test_an_empty_folder_is_refused_with_a_remedy(tmp_path):
    with pytest.raises(UsageError) as caught:
        folder_bank(tmp_path)
    assert caught.value.remedy


def test_a_missing_folder_is_refused():
    with pytest.raises(UsageError, match="no image bank"):
        open_bank("/no/such/folder")


def test_an_installed_package_is_opened_by_its_name(tmp_path, photo_file, monkeypatch):
    (tmp_path / "some_pictures").mkdir()
    photo_file(tmp_path / "some_pictures" / "kettle.png", (9, 9, 9))
    monkeypatch.syspath_prepend(tmp_path)
    assert open_bank("some_pictures").captions() == ("kettle",)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("file,caption\na.png,\n", "line 2"),
        ("file,caption,kind\na.png,dog,drawing\n", "drawing"),
        ("file,caption,split\na.png,dog,test\n", "test"),
        ("file,caption\na.png,dog\na.png,dog\n", "twice"),
        ("file,caption\n../a.png,dog\n", "outside"),
    ],
)
def test_a_wrong_line_of_the_captions_file_is_named(tmp_path, rows, said):
    (tmp_path / "captions.csv").write_text(rows)
    with pytest.raises(UsageError, match=said):
        folder_bank(tmp_path)


def test_fingerprint_follows_content_and_captions_not_the_place(tmp_path, photo_file):
    prints = []
    for name, colour, caption in (("a", 9, "dog"), ("b", 9, "dog"), ("c", 8, "dog"), ("d", 9, "cat")):
        (tmp_path / name).mkdir()
        photo_file(tmp_path / name / "1.png", (colour, 9, 9))
        (tmp_path / name / "captions.csv").write_text(f"file,caption\n1.png,{caption}\n")
        prints.append(folder_bank(tmp_path / name).fingerprint)
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


def test_a_third_of_each_caption_is_held_out_where_no_split_is_given():
    images = [("dog", f"{n:02}") for n in range(6)] + [("cat", "a"), ("cat", "b"), ("owl", "c")]
    splits = hold_out(images)
    assert splits[:6].count("heldout") == 2
    assert splits[6:8].count("heldout") == 1
    assert splits[8] == "search"


def test_equal_files_of_a_caption_share_a_split():
    splits = hold_out([("dog", "a"), ("dog", "b"), ("dog", "a"), ("dog", "b")])
    assert splits[0] == splits[2] != splits[1] == splits[3]


def test_vocabulary_is_a_seeded_share(bank):
    assert bank.vocabulary(0, share=1 / 3) == bank.vocabulary(0, share=1 / 3)
    assert len(bank.vocabulary(0, share=1 / 3)) == 2
    assert {bank.vocabulary(seed, 1 / 3) for seed in range(8)} != {bank.vocabulary(0, 1 / 3)}
    assert bank.vocabulary(0, share=1) == bank.captions()


def test_every_caption_is_in_the_vocabulary_unless_a_share_is_named_or_images_are_rendered(bank, monkeypatch):
    assert bank.vocabulary(0) == bank.captions()
    monkeypatch.setattr(type(bank), "has_models", True)
    assert bank.vocabulary(0) == bank.vocabulary(0, share=1 / 3)


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [("A Dog.", "dog"), ("the_red-fox 2", "red fox"), ("42", "42"), ("IMG (3)", "img"), ("a", "a")],
)
def test_captions_are_cleaned(raw, cleaned):
    assert clean(raw) == cleaned
