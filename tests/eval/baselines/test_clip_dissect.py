"""Each similarity against a direct reading of its formula, a number at a time."""

from math import exp, log, sqrt

import numpy as np
import pytest

from line_neurons.agent.activations import SparseActivations
from line_neurons.eval.baselines import clip_dissect
from line_neurons.eval.baselines.clip_dissect import SIMILARITIES, rank_reorder, soft_wpmi, wpmi

RNG = np.random.default_rng(3)
WORDS = RNG.uniform(0.05, 0.9, (40, 5))
UNITS = RNG.normal(size=(40, 3)).astype(np.float32)


def strongest(unit, count):
    return sorted(range(len(UNITS)), key=lambda image: -UNITS[image, unit])[:count]


def softmax(image, a):
    total = sum(exp(a * value) for value in WORDS[image])
    return [exp(a * value) / total for value in WORDS[image]]


def mutual(count, a, lam, chance):
    """log p(word | unit's set) less lam times log p(word), whose p is the mean over the units."""
    given = [
        [
            sum(
                log(chance(rank, softmax(image, a)[word]) + 1e-7)
                for rank, image in enumerate(strongest(unit, count))
            )
            for word in range(5)
        ]
        for unit in range(3)
    ]
    overall = [log(sum(exp(row[word]) for row in given) / 3) for word in range(5)]
    return [[row[word] - lam * overall[word] for word in range(5)] for row in given]


def test_soft_wpmi():
    def chance(rank, likely):
        member = 0.998 - rank / 10 * (0.998 - 0.97)
        return 1 - member + member * likely

    np.testing.assert_allclose(soft_wpmi(WORDS, UNITS, top_k=10), mutual(10, 10, 1, chance), rtol=1e-6)


def test_wpmi():
    np.testing.assert_allclose(wpmi(WORDS, UNITS), mutual(28, 2, 0.6, lambda _, likely: likely), rtol=1e-6)


def test_rank_reorder():
    found = rank_reorder(WORDS, UNITS, top=0.25)
    for unit in range(3):
        images = strongest(unit, 10)
        own = [float(UNITS[image, unit]) for image in images]
        errors = []
        for word in range(5):
            by_word = sorted(images, key=lambda image: WORDS[image, word])
            # The image that is first by the word gets the strongest activation.
            moved = {image: sorted(own)[place] for place, image in enumerate(by_word)}
            change = sum(abs(own[at] - moved[image]) ** 3 for at, image in enumerate(images)) / 10
            errors.append(change / sqrt(sum(WORDS[image, word] for image in images) / 10))
        # Random orders set the scale of a unit, and nothing else.
        np.testing.assert_allclose(-found[unit] / -found[unit, 0], np.array(errors) / errors[0], rtol=1e-6)


def test_a_word_that_no_strong_image_is_near_is_the_worst_by_rank_reorder():
    words = WORDS.copy()
    words[:, 2] = -0.1
    assert (rank_reorder(words, UNITS)[:, 2] == -np.inf).all()


@pytest.mark.parametrize(("name", "power", "centre"), [("cos_similarity", 1, 0), ("cos_similarity_cubed", 3, 1)])
def test_cosines(name, power, centre):
    def prepared(column):
        mean = centre * sum(column) / len(column)
        return [(float(value) - mean) ** power for value in column]

    for unit, word in np.ndindex(3, 5):
        one, two = prepared(UNITS[:, unit].astype(float)), prepared(WORDS[:, word])
        product = sum(a * b for a, b in zip(one, two, strict=True))
        lengths = sqrt(sum(a * a for a in one)) * sqrt(sum(b * b for b in two))
        assert SIMILARITIES[name](WORDS, UNITS)[unit, word] == pytest.approx(product / lengths, rel=1e-6)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_each_finds_the_word_that_a_unit_follows(name):
    words = RNG.uniform(0.05, 0.9, (400, 5))
    units = np.stack([words[:, 1] ** 2, words[:, 4] ** 2], 1)
    assert SIMILARITIES[name](words, units).argmax(1).tolist() == [1, 4]


@pytest.mark.parametrize("name", SIMILARITIES)
@pytest.mark.parametrize("sparse", [False, True])
def test_some_of_the_units_have_the_words_that_they_have_among_all(name, sparse, monkeypatch):
    monkeypatch.setattr(clip_dissect, "_UNITS_AT_ONCE", 2)
    rows = np.maximum(RNG.normal(size=(40, 5)), 0).astype(np.float32)
    units = SparseActivations.joined([rows], 5) if sparse else rows
    due = SIMILARITIES[name](WORDS, rows)[[4, 0, 2]]
    np.testing.assert_allclose(SIMILARITIES[name](WORDS, units, of=[4, 0, 2]), due, rtol=1e-9)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_few_images_and_constant_units_give_numbers(name):
    found = SIMILARITIES[name](WORDS[:3], np.zeros((3, 2), np.float32))
    assert found.shape == (2, 5)
    assert not np.isnan(found).any()
