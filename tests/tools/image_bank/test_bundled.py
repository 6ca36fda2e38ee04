"""The bundled bank and the real text encoder."""

import csv
import io
import re
import time
from collections import defaultdict
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from line_neurons.agent.errors import MissingPartError, NotDrawableError
from line_neurons.agent.ports import ImageRequest
from line_neurons.tools.image_bank.bank import bundled_bank
from line_neurons.tools.image_bank.control import BankControl
from line_neurons.tools.image_bank.folder import clean
from line_neurons.tools.image_bank.generator import BankSettings, ImageBankGenerator
from line_neurons.tools.image_bank.text_encoder import SentenceEncoder

JUDGED, CAPTIONS = 190, 801
FINGERPRINT = "46ce1c7dd7bac594da76e1f10a804691ee0d86f8d2a4de67c76af4a30a586d7a"

TEMPLATE = "A realistic photo of a {concept}, {angle}, {lighting}"


def ask(concept, seed=0):
    return ImageRequest(concept, "low angle", "natural sunlight", seed, TEMPLATE)


def table(name):
    text = files("line_neurons.tools.image_bank").joinpath(name).read_text("utf-8")
    return list(csv.DictReader(text.splitlines()))


@pytest.fixture(scope="module")
def manifest():
    return table("bundled.csv")


@pytest.fixture(scope="module")
def icons():
    return table("icons.csv")


@pytest.fixture(scope="module")
def bundled(assets):
    return bundled_bank(assets)


@pytest.fixture(scope="module")
def with_icons(assets):
    return bundled_bank(assets, "bank+icons")


@pytest.fixture(scope="module")
def generator(bundled, sentence_encoder):
    return ImageBankGenerator(bundled, sentence_encoder)


@pytest.mark.parametrize("tables", [("bundled.csv",), ("bundled.csv", "icons.csv")])
def test_every_caption_with_several_images_has_one_in_each_split(tables):
    splits = defaultdict(list)
    families = set()
    for row in (row for name in tables for row in table(name)):
        if row["kind"] != "background" and row.get("family") not in families:
            splits[row["caption"]].append(row["split"])
            families |= {row["family"]} if row.get("family") else set()
    for caption, found in splits.items():
        assert "search" in found, caption
        assert len(found) == 1 or "heldout" in found, caption
    assert {"shared"}.isdisjoint(split for found in splits.values() for split in found)


def test_icons_of_one_model_with_small_changes_are_never_on_both_sides(icons):
    splits = defaultdict(set)
    for row in icons:
        if row["family"]:
            splits[row["family"]].add((row["caption"], row["split"]))
    assert len(splits) > 10
    assert {len(found) for found in splits.values()} == {1}


def test_icons_are_clean_and_name_their_model_author_and_licence(icons):
    assert len({row["file"] for row in icons}) == len(icons)
    notice = Path(__file__).parents[3].joinpath("NOTICE").read_text("utf-8")
    for row in icons:
        names = [row["caption"], *row["also"].split(";"), *row["broader"].split(";")]
        assert all(name == clean(name) for name in names if name), row
        assert (row["pack"], row["kind"]) == ("icons", "cutout")
        assert row["model"] and row["licence"] in {"CC0", "CC-BY-3.0", "CC-BY-3.0-US"}, row
        assert row["author"] in " ".join(notice.split()), row


def test_icons_more_than_double_the_captions_that_can_be_judged(manifest, icons):
    def captions(rows):
        subjects = [row for row in rows if row["kind"] != "background"]
        held = {row["caption"] for row in subjects if row["split"] == "heldout"}
        return len(held), len({row["caption"] for row in subjects})

    assert captions(manifest) == (81, 360)
    assert captions([*manifest, *icons]) == (JUDGED, CAPTIONS)


def test_the_manifest_is_clean(manifest):
    files_listed = [(row["pack"], row["file"]) for row in manifest]
    assert len(files_listed) == len(set(files_listed))
    for row in manifest:
        names = [row["caption"], *row["also"].split(";"), *row["broader"].split(";")]
        assert all(name == clean(name) for name in names if name), row
        assert row["pack"] in ("stamps", "photos", "backgrounds")
        assert row["kind"] in ("cutout", "photo", "background")
        assert row["kind"] != "background" or row["scene"]


def test_a_missing_pack_names_the_command_that_installs_it(tmp_path):
    with pytest.raises(MissingPartError, match="line assets install demo"):
        bundled_bank(tmp_path)


def test_a_missing_pack_of_icons_names_the_command_that_installs_it(tmp_path):
    for pack in ("stamps", "photos", "backgrounds"):
        (tmp_path / pack).mkdir()
    with pytest.raises(MissingPartError, match="line assets install icons"):
        bundled_bank(tmp_path, "bank+icons")


def test_a_missing_encoder_names_the_command_that_installs_it(tmp_path):
    with pytest.raises(MissingPartError, match="line assets install demo"):
        SentenceEncoder(tmp_path)


@pytest.mark.e2e
def test_icons_leave_the_bank_of_earlier_runs_as_it_was(bundled, with_icons):
    assert (bundled.name, bundled.fingerprint) == ("bundled", FINGERPRINT)
    assert with_icons.fingerprint != bundled.fingerprint
    splits = {entry.id: entry.split for entry in with_icons.entries}
    assert {entry.id: entry.split for entry in bundled.entries}.items() <= splits.items()


@pytest.mark.e2e
def test_the_authors_of_the_icons_are_those_of_the_catalogue(assets, icons):
    line = re.compile(r"^(icon|creator|name)#(\d+)=(.*?)\s*$", re.MULTILINE)
    known = {}
    for library in (assets / "icons" / "licences").glob("*.properties"):
        values = {(key, number): value for key, number, value in line.findall(library.read_text("latin-1"))}
        for (key, number), value in values.items():
            if key == "icon":
                name = re.sub(r"\\u([0-9A-Fa-f]{4})", lambda found: chr(int(found[1], 16)), values["name", number])
                known[value.lstrip("/")] = name, values["creator", number]
    assert {row["file"]: (row["model"], row["author"]) for row in icons}.items() <= known.items()


@pytest.mark.e2e
def test_each_image_says_which_source_it_is_from(with_icons, bundled, sentence_encoder):
    def sources(bank):
        scissors = ImageBankGenerator(bank, sentence_encoder, "all")
        drawn = scissors.synthesize([ask("scissors", seed) for seed in range(6)])
        return {image.provenance["subjects"][0].get("source") for image in drawn}

    icon = 'icon of the 3D model "Scissors" by Celticluis, CC0'
    assert sources(with_icons) == {"stamp of Tux Paint", "photograph of GCompris", icon}
    assert sources(bundled) == {None}


@pytest.mark.e2e
def test_every_listed_image_is_there_and_can_be_drawn(with_icons):
    captions = with_icons.captions()
    control = BankControl(with_icons, captions, m=1, size=64)
    for caption in captions:
        assert Image.open(io.BytesIO(control.images(caption)[0])).size == (64, 64)


@pytest.mark.e2e
def test_sentences_are_embedded_as_unit_vectors_near_their_like(sentence_encoder):
    vectors = sentence_encoder.encode(["dog", "puppy", "car", "automobile", ""])
    assert vectors.dtype == np.float32
    assert vectors.shape == (5, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > 0.7 > 0.5 > vectors[0] @ vectors[2]


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("phrase", "caption"),
    [
        ("automobile", "sports car"),
        ("puppy", "husky dog"),
        ("killer whale", "orca"),
        ("ashcan", "garbage can"),
        ("cock", "rooster"),
        ("sailing boat", "sailing ship"),
        ("green apple", "green apple"),
        ("polar bear", "polar bear"),
    ],
)
def test_synonyms_reach_their_caption(generator, phrase, caption):
    assert caption in dict(generator.match(phrase))


@pytest.mark.e2e
@pytest.mark.parametrize(
    "phrase",
    [
        "piano",
        "democracy",
        "farming",
        "harvesting machine",
        "striped fur",
        "hot dog",
        "toadstool",
        "tree bark",
        "starfish",
    ],
)
def test_absent_things_are_refused(generator, phrase):
    with pytest.raises(NotDrawableError) as caught:
        generator.synthesize([ask(phrase)])
    assert caught.value.nearest


@pytest.mark.e2e
def test_a_broader_term_draws_several_kinds(generator):
    drawn = generator.synthesize([ask("bird", seed) for seed in range(5)])
    assert len({image.provenance["subjects"][0]["caption"] for image in drawn}) == 5


@pytest.mark.e2e
def test_suggestions_are_near_and_new(generator):
    near = generator.suggest(["pliers", "wrench"], 5)
    assert {"pliers", "wrench"}.isdisjoint(near)
    assert {"hammer", "screwdriver", "scissors", "tweezers"} & set(near)


@pytest.mark.e2e
def test_the_held_out_generator_shares_no_thing_with_the_search(with_icons, sentence_encoder):
    held = ImageBankGenerator(with_icons, sentence_encoder, "heldout", BankSettings(size=64))
    searched = {entry.sha256 for entry in with_icons.select("search") if entry.is_subject}
    for image in held.synthesize([ask(c) for c in with_icons.captions("heldout")]):
        assert image.provenance["subjects"][0]["sha256"] not in searched


@pytest.mark.e2e
def test_twenty_images_are_made_in_a_second(generator):
    generator.synthesize([ask("gorilla", seed) for seed in range(3)])
    start = time.process_time()
    generator.synthesize([ask("gorilla", seed) for seed in range(20)])
    assert time.process_time() - start < 2
