import pytest

from line_neurons.agent.errors import MissingPartError
from line_neurons.eval.benchmarks.speed import cost_of_a_known_concept, step_overhead
from line_neurons.eval.labels.imagenet import imagenet_table
from line_neurons.eval.labels.wordnet import WordNet
from line_neurons.eval.reports.class_units import drawable_classes, judge_all, sample
from line_neurons.eval.reports.label_quality import TrueClass, Truth, is_right, true_classes
from line_neurons.tools.image_bank.bank import bundled_bank
from line_neurons.tools.store.records import Unit


@pytest.fixture(scope="module")
def words(assets):
    return WordNet(assets / "wordnet")


@pytest.fixture(scope="module")
def classes(words):
    return true_classes(words, [Unit("", at, at, name=one.name) for at, one in enumerate(imagenet_table())])


def judged(words, classes, label, unit):
    return Truth(words, classes).judge(label, classes[unit])


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("label", "relation", "levels"),
    [
        ("tiger", "exact", 0),
        ("Panthera tigris", "synonym", 0),
        ("big cat", "hypernym", 1),
        ("feline", "hypernym", 2),
        ("carnivore", "general", 3),
        ("animals", "general", 8),
        ("lion", "sibling", 0),
        ("bengal tiger", "hyponym", 0),
        ("stripy tiger", "modified", 0),
        ("tiger in grass", "modified", 0),
        ("old bengal tiger", "hyponym", 0),
        ("stone tiger", "other", 0),
        ("statue of a tiger", "other", 0),
        ("tiger cage", "other", 0),
        ("stripy cat", "other", 0),
        ("no tiger", "other", 0),
        ("lion and tiger", "other", 0),
        ("hammer", "other", 0),
        ("zzyzx", "other", 0),
        ("", "other", 0),
    ],
)
def test_labels_of_the_tiger_unit_are_judged(words, classes, label, relation, levels):
    found = judged(words, classes, label, 292)
    assert found.relation == relation
    assert found.levels == levels or (label in {"animals", "carnivore"} and found.levels >= levels)


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("label", "unit", "relation"),
    [
        ("red violin", 889, "modified"),
        ("wooden violin", 889, "modified"),
        ("toy violin", 889, "other"),
        ("violin case", 889, "other"),
        ("rubber duck", 97, "other"),
        ("duck", 97, "hypernym"),
        ("sea lion", 291, "other"),
        ("guinea pig", 341, "other"),
        ("hot dog", 235, "other"),
        ("rooster", 587, "other"),
        ("rooster", 7, "synonym"),
        ("giant panda", 387, "sibling"),
        ("luggage carousel", 476, "other"),
    ],
)
def test_a_phrase_is_judged_by_its_head_and_a_thing_of_its_own_by_what_it_is(
    words, classes, label, unit, relation
):
    assert judged(words, classes, label, unit).relation == relation


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("label", "relation"),
    [
        ("tiger AND NOT lion", "exact"),
        ("tiger AND animal", "exact"),
        ("tiger OR lion", "sibling"),
        ("tiger OR big cat", "hypernym"),
        ("tiger OR hammer", "other"),
        ("NOT tiger", "other"),
        ("tiger OR (", "other"),
    ],
)
def test_a_formula_is_as_right_as_its_worst_alternative(words, classes, label, relation):
    assert judged(words, classes, label, 292).relation == relation


def test_missing_wordnet_names_the_pack(tmp_path):
    with pytest.raises(MissingPartError, match="line assets install wordnet"):
        WordNet(tmp_path)


def test_the_sample_is_seeded_and_sorted():
    units = [TrueClass(i, f"c{i}", i) for i in range(100)]
    assert sample(units, 10) == sample(units, 10) == sorted(sample(units, 10), key=lambda one: one.unit)
    assert sample(units, 1000) == units


@pytest.mark.e2e
def test_no_label_is_right_by_what_an_image_bank_calls_the_class(words, assets):
    bank = bundled_bank(assets)
    drawable = {one.unit: one for one in drawable_classes(bank, words, [one.name for one in imagenet_table()])}
    assert len(drawable) == 152
    assert "giant panda" in drawable[387].captions
    unit = Unit("r", 387, 0, label="giant panda")
    assert not is_right(judge_all(words, [drawable[387]], [unit])[0][2])


def test_a_concept_in_the_bank_costs_nothing(tmp_path):
    assert cost_of_a_known_concept(tmp_path) == (0, 0)


def test_the_overhead_of_a_step_is_measured(tmp_path):
    assert 0 < step_overhead(tmp_path, iterations=5) < 60
