import pytest

from line_neurons.agent.errors import MissingPartError
from line_neurons.eval.benchmarks.speed import cost_of_a_known_concept, step_overhead
from line_neurons.eval.class_units import judge_all, sample
from line_neurons.eval.label_quality import TrueClass
from line_neurons.eval.wordnet import WordNet
from line_neurons.tools.run_store import Unit


@pytest.fixture(scope="module")
def words(assets):
    return WordNet(assets / "wordnet")


@pytest.fixture(scope="module")
def names():
    from torchvision.models import MobileNet_V2_Weights

    return MobileNet_V2_Weights.IMAGENET1K_V1.meta["categories"]


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("label", "relation", "levels"),
    [
        ("tiger", "exact", 0),
        ("Panthera tigris", "synonym", 0),
        ("big cat", "hypernym", 1),
        ("animals", "hypernym", 8),
        ("lion", "sibling", 0),
        ("bengal tiger", "hyponym", 0),
        ("hammer", "other", 0),
        ("zzyzx", "other", 0),
    ],
)
def test_labels_of_the_tiger_unit_are_judged(words, names, label, relation, levels):
    judged = words.judge(label, names[292], words.class_synsets(names)[292])
    assert judged.relation == relation
    assert judged.levels == levels or (label == "animals" and judged.levels > 3)


@pytest.mark.e2e
def test_classes_with_an_ambiguous_name_get_the_sense_that_fits_imagenets_order(words, names):
    synsets = words.class_synsets(names)
    assert len(synsets) == len(set(synsets)) == 1000
    assert synsets == sorted(synsets)
    assert "bird" in str([words.lemmas[up] for up in words.hypernyms(synsets[134])])
    assert "bird" not in str([words.lemmas[up] for up in words.hypernyms(synsets[517])])


def test_missing_wordnet_names_the_pack(tmp_path):
    with pytest.raises(MissingPartError, match="line assets install wordnet"):
        WordNet(tmp_path)


def test_the_sample_is_seeded_and_sorted():
    units = [TrueClass(i, f"c{i}", i, ()) for i in range(100)]
    assert sample(units, 10) == sample(units, 10) == sorted(sample(units, 10), key=lambda one: one.unit)
    assert sample(units, 1000) == units


@pytest.mark.e2e
def test_a_caption_of_the_class_counts_as_its_name(words, names):
    synset = words.class_synsets(names)[292]
    unit = Unit("r", 292, 0, label="stripy cat")
    judged = judge_all(words, [TrueClass(292, "tiger", synset, ("stripy cat",))], [unit])
    assert judged[0][2].relation == "synonym"


def test_a_concept_in_the_bank_costs_nothing(tmp_path):
    assert cost_of_a_known_concept(tmp_path) == (0, 0)


def test_the_overhead_of_a_step_is_measured(tmp_path):
    assert 0 < step_overhead(tmp_path, iterations=5) < 60
