"""Photographs named by WordNet ids, and labels judged on them as they are."""

import csv

import numpy as np
import pytest
from PIL import Image

from line_neurons.agent.errors import NotDrawableError, UsageError
from line_neurons.eval.cosy.images import open_images
from line_neurons.eval.cosy.photographs import Photographs, caption_photographs, synonyms
from line_neurons.tools.image_bank.bank import Bank, Entry
from line_neurons.tools.image_bank.folder import folder_bank
from support.fakes import LAYER, ScriptedModel, ScriptedTarget, scripted_components
from support.small_wordnet import small_wordnet

PHYSICAL, PERSON = 1930, 7846
NOUNS = {
    PHYSICAL: (["physical_entity"], []), PERSON: (["person"], [PHYSICAL]), 1: (["animal"], [PHYSICAL]),
    2: (["tiger"], [PERSON]), 3: (["tiger", "Panthera_tigris"], [1]), 4: (["mouse"], [1]),
    5: (["mouse", "computer_mouse"], [PHYSICAL]), 6: (["house_mouse"], [4]), 7: (["racket"], []),
    8: (["racket", "racquet"], [PHYSICAL]),
}  # fmt: skip


@pytest.fixture
def words(tmp_path):
    (tmp_path / "wordnet").mkdir()
    return small_wordnet(tmp_path / "wordnet", NOUNS)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "photos"
    names = (
        "n00000003/a.png", "n00000003_more/b.jpg", "train/n00000006_17_mouse.png", "n00000005_x.png",
        "n00000008.png", "n99999999.png", "loose.png", ".cache/n00000003.png",
    )  # fmt: skip
    for place, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9), (10 * place, 0, 0)).save(root / name)
    return root


def table(folder):
    with (folder / "captions.csv").open() as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def test_photographs_are_named_by_the_innermost_wordnet_id_that_there_is(folder, words):
    written = caption_photographs(folder, words)
    rows = table(folder)
    assert (written.photographs, written.synsets) == (len(rows), 4) == (5, 4)
    assert written.unnamed == ("loose.png", "n99999999.png")
    assert {row["split"] for row in rows.values()} == {"heldout"}
    tiger = rows["n00000003_more/b.jpg"]
    assert (tiger["caption"], tiger["also"], tiger["broader"]) == (
        "tiger",
        "Panthera tigris",
        "animal;physical entity",
    )


def test_a_noun_counts_for_the_thing_that_it_mostly_means(folder, words):
    caption_photographs(folder, words)
    rows = table(folder)
    assert (rows["n00000005_x.png"]["caption"], rows["n00000005_x.png"]["also"]) == ("computer mouse", "")
    assert rows["train/n00000006_17_mouse.png"]["broader"].startswith("mouse;animal")
    assert rows["n00000008.png"]["caption"] == "racket"


def test_a_table_that_is_there_and_a_folder_without_ids_are_left_as_they_are(folder, words, tmp_path):
    caption_photographs(folder, words)
    before = (folder / "captions.csv").read_bytes()
    with pytest.raises(UsageError, match="exists already"):
        caption_photographs(folder, words)
    assert (folder / "captions.csv").read_bytes() == before
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"no photograph in .*empty is named by a WordNet id"):
        caption_photographs(tmp_path / "empty", words)
    assert not list((tmp_path / "empty").iterdir())


class Reddest(ScriptedTarget):
    def _value(self, image):
        import io

        return float(np.asarray(Image.open(io.BytesIO(image)))[0, 0, 0])


@pytest.fixture
def components(tmp_path):
    return scripted_components(tmp_path / "store", ScriptedModel([]), target=Reddest(fingerprint="reddest"))


def of(folder, components, count=50, seed=0, other_names=None):
    return Photographs("photos", folder_bank(folder), other_names or {}, components, LAYER, count, seed)


def rows(images, concept):
    return sorted(images.activations(concept, 0)[:, 0].round().tolist())


def test_each_photograph_counts_once_and_as_it_is(folder, words, components):
    caption_photographs(folder, words)
    images = of(folder, components)
    assert rows(images, "physical entity") == pytest.approx([0, 10, 20, 30, 40], abs=3)
    assert rows(images, "Tigers") == rows(images, "panthera tigris") == pytest.approx([0, 10], abs=3)
    assert rows(images, "animal") == pytest.approx([0, 10, 20], abs=3)
    assert rows(images, "(mouse OR racket) AND NOT tiger") == pytest.approx([20, 40], abs=3)


def test_of_many_a_seeded_part_is_taken(folder, words, components):
    caption_photographs(folder, words)
    drawn = {seed: tuple(rows(of(folder, components, 2, seed), "physical entity")) for seed in range(8)}
    assert all(len(found) == 2 for found in drawn.values())
    assert len(set(drawn.values())) > 1
    assert tuple(rows(of(folder, components, 2, 3), "physical entity")) == drawn[3]


def test_what_is_near_in_words_alone_has_no_photograph(folder, words, components):
    caption_photographs(folder, words)
    for unknown in ("tiger cat", "lion", "mouse and racket", "", "tiger in snow"):
        with pytest.raises(NotDrawableError):
            of(folder, components).activations(unknown, 0)


def test_a_label_is_also_found_by_what_the_searched_bank_calls_the_same_thing(folder, words, components, tmp_path):
    caption_photographs(folder, words)
    searched = Bank("b", [Entry("x", tmp_path, "big cat", ("tiger",), ("animal",), "photo", (), "search", "0")])
    named = synonyms(searched)
    assert named == {"big cat": ["big cat", "tiger"], "tiger": ["big cat", "tiger"]}
    images = of(folder, components, other_names=named)
    assert rows(images, "big cats") == rows(images, "tiger")
    assert images.fingerprint != of(folder, components).fingerprint


def test_the_source_is_named_by_its_folder(folder, words, components):
    caption_photographs(folder, words)
    found = open_images(f"photos:{folder}", components, LAYER, count=None, seed=0, mode="fixed")
    assert (found.name, found.count) == (f"photos:{folder}", 50)
    for wrong in ("photos:", "photos:/nowhere"):
        with pytest.raises(UsageError):
            open_images(wrong, components, LAYER, count=None, seed=0, mode="fixed")
