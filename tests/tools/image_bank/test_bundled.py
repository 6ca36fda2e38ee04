"""The bundled bank and the real text encoder."""

import csv
import io
import time
from collections import defaultdict
from importlib.resources import files

import numpy as np
import pytest
from PIL import Image

from line_neurons.agent.errors import MissingPartError, NotDrawableError
from line_neurons.agent.ports import ImageRequest
from line_neurons.tools.image_bank.bank import bundled_bank
from line_neurons.tools.image_bank.control import BankControl
from line_neurons.tools.image_bank.folder import clean
from line_neurons.tools.image_bank.generator import ImageBankGenerator
from line_neurons.tools.image_bank.text_encoder import SentenceEncoder

TEMPLATE = "A realistic photo of a {concept}, {angle}, {lighting}"


def ask(concept, seed=0):
    return ImageRequest(concept, "low angle", "natural sunlight", seed, TEMPLATE)


@pytest.fixture(scope="module")
def manifest():
    text = files("line_neurons.tools.image_bank").joinpath("bundled.csv").read_text("utf-8")
    return list(csv.DictReader(text.splitlines()))


@pytest.fixture(scope="module")
def bundled(assets):
    return bundled_bank(assets)


@pytest.fixture(scope="module")
def generator(bundled, sentence_encoder):
    return ImageBankGenerator(bundled, sentence_encoder)


def test_every_caption_with_several_images_has_one_in_each_split(manifest):
    splits = defaultdict(list)
    for row in manifest:
        if row["kind"] != "background":
            splits[row["caption"]].append(row["split"])
    for caption, found in splits.items():
        assert "search" in found, caption
        assert len(found) == 1 or "heldout" in found, caption
    assert {"shared"}.isdisjoint(split for found in splits.values() for split in found)


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


def test_a_missing_encoder_names_the_command_that_installs_it(tmp_path):
    with pytest.raises(MissingPartError, match="line assets install demo"):
        SentenceEncoder(tmp_path)


@pytest.mark.e2e
def test_every_listed_image_is_there_and_can_be_drawn(bundled):
    captions = bundled.captions()
    control = BankControl(bundled, captions, m=1, size=64)
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
def test_the_held_out_generator_shares_no_thing_with_the_search(bundled, sentence_encoder):
    held = ImageBankGenerator(bundled, sentence_encoder, "heldout")
    searched = {entry.sha256 for entry in bundled.select("search") if entry.is_subject}
    for image in held.synthesize([ask(c) for c in bundled.captions("heldout")]):
        assert image.provenance["subjects"][0]["sha256"] not in searched


@pytest.mark.e2e
def test_twenty_images_are_made_in_a_second(generator):
    generator.synthesize([ask("gorilla", seed) for seed in range(3)])
    start = time.process_time()
    generator.synthesize([ask("gorilla", seed) for seed in range(20)])
    assert time.process_time() - start < 2
