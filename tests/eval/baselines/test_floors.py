"""What labellers that know nothing reach on every headline measure: who always says the same, and who guesses."""

from collections import Counter
from random import Random

import numpy as np
import pytest

from line_neurons.eval.labels.imagenet import imagenet_table
from line_neurons.eval.labels.wordnet import WIDEST, WordNet
from line_neurons.eval.reports.label_quality import Truth, is_named, is_right, names_of, true_classes
from line_neurons.tools.image_bank.text_encoder import SentenceEncoder
from line_neurons.tools.scorers import auc, mad
from line_neurons.tools.store.records import Unit

CONSTANT = ("entity", "object", "animal", "thing")


@pytest.fixture(scope="module")
def truth(assets):
    words = WordNet(assets / "wordnet")
    units = [Unit("", at, at, name=one.name) for at, one in enumerate(imagenet_table())]
    return Truth(words, true_classes(words, units))


@pytest.mark.e2e
@pytest.mark.parametrize("label", CONSTANT)
def test_who_always_says_the_same_is_never_right(truth, label):
    verdicts = [truth.judge(label, one) for one in truth.classes]
    assert not any(map(is_named, verdicts))
    assert not any(map(is_right, verdicts))


@pytest.mark.e2e
def test_no_word_at_all_is_right_on_more_than_a_twentieth_of_the_classes(truth):
    words = truth.words
    covered = Counter(up for one in truth.classes for up in words.hypernyms(one.synset))
    nearest = [synset for synset, classes in covered.most_common() if 20 <= classes <= 60]
    assert len(nearest) >= 30
    for synset in nearest[::2]:
        right = sum(is_right(truth.judge(words.lemmas[synset][0], one)) for one in truth.classes)
        assert right <= WIDEST * len(truth.classes), words.lemmas[synset][0]


@pytest.mark.e2e
def test_who_guesses_class_names_is_right_in_one_or_two_of_a_hundred(truth):
    names = [one.name for one in truth.classes]
    Random(0).shuffle(names)
    verdicts = [truth.judge(name, one) for name, one in zip(names, truth.classes, strict=True)]
    assert sum(map(is_named, verdicts)) <= 5
    assert sum(map(is_right, verdicts)) <= 20


@pytest.mark.e2e
def test_neither_is_similar_to_the_classes_beside_a_label_that_names_them(truth, assets):
    classes = truth.classes[::20]
    names = [one.name for one in classes]
    guessed = Random(0).sample(names, len(names))
    encoder = SentenceEncoder(assets / "minilm")

    known = [names_of(truth.words, one) for one in classes]
    texts = list({text for own in known for text in own} | {*CONSTANT})
    vectors = dict(zip(texts, encoder.encode(texts), strict=True))

    def similarity(labels):
        return np.mean(
            [max(vectors[label] @ vectors[name] for name in own) for label, own in zip(labels, known, strict=True)]
        )

    floors = {label: similarity([label] * len(names)) for label in CONSTANT} | {"guessed": similarity(guessed)}
    assert max(floors.values()) < 0.5 < similarity(names), floors


def test_labels_that_have_nothing_to_do_with_the_units_have_an_auc_of_one_half_and_no_mad():
    drawn = np.random.default_rng(0)
    units = [(drawn.normal(0, 1, 50), drawn.normal(0, 1, 500)) for _ in range(60)]
    assert np.mean([auc(*unit) for unit in units]) == pytest.approx(0.5, abs=0.03)
    assert np.mean([mad(*unit) for unit in units]) == pytest.approx(0.0, abs=0.06)
