"""Which synset each of ImageNet-1K's 1,000 classes is."""

from pathlib import Path

import pytest

from line_neurons.agent.concepts import concept_key
from line_neurons.eval.labels.imagenet import are_imagenets, imagenet_table
from line_neurons.eval.labels.wordnet import WordNet
from line_neurons.tools.vocabulary import imagenet_classes

# Class and a word of its synset that no other sense of the class's name has, or that of a class of the same name.
SENSES = {
    134: ("crane bird", {"crane"}), 517: ("crane", {"crane"}), 264: ("Cardigan", {"Cardigan Welsh corgi"}),
    474: ("cardigan", {"cardigan"}), 638: ("maillot", {"maillot"}), 639: ("maillot tank suit", {"tank suit"}),
    468: ("cab", {"taxi"}), 476: ("carousel", {"merry-go-round"}), 587: ("hammer", {"hammer"}),
    628: ("liner", {"ocean liner"}), 667: ("mortarboard", {"mortarboard"}), 800: ("slot", {"one-armed bandit"}),
    881: ("upright", {"upright piano"}), 897: ("washer", {"washing machine"}),
}  # fmt: skip


@pytest.fixture(scope="module")
def words(assets):
    return WordNet(assets / "wordnet")


def test_the_table_has_torchvisions_classes_in_their_order():
    assert [one.name for one in imagenet_table()] == imagenet_classes()


def test_the_synsets_are_the_official_ids():
    timm = pytest.importorskip("timm")
    official = (Path(timm.__file__).parent / "data" / "_info" / "imagenet_synsets.txt").read_text().split()
    assert [f"n{one.synset:08}" for one in imagenet_table()] == official


@pytest.mark.e2e
def test_every_class_is_a_synset_with_its_name_among_the_words(words):
    table = imagenet_table()
    assert len({one.synset for one in table}) == 1000
    others = {
        one.name
        for one in table
        if concept_key(one.name) not in {concept_key(lemma) for lemma in words.lemmas[one.synset]}
    }
    assert others == {"crane bird", "maillot tank suit"}


@pytest.mark.e2e
@pytest.mark.parametrize(("index", "name", "known"), [(index, *told) for index, told in SENSES.items()])
def test_names_of_several_senses_have_the_one_that_is_photographed(words, index, name, known):
    one = imagenet_table()[index]
    assert one.name == name
    assert known <= set(words.lemmas[one.synset])


@pytest.mark.e2e
def test_a_machine_is_no_bird_and_a_tool_no_part_of_a_gun(words):
    table = imagenet_table()

    def above(index):
        return {lemma for up in words.hypernyms(table[index].synset) for lemma in words.lemmas[up]}

    assert "bird" in above(134) - above(517)
    assert "dog" in above(264) - above(474)
    assert "hand tool" in above(587)
    assert "clothing" in above(638) & above(639)


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("named", "fits"),
    [
        ([(0, "tench"), (134, "crane bird")], True),
        ([(0, "tench, Tinca tinca"), (134, "crane"), (292, "tiger, Panthera tigris")], True),
        ([(1, "tench")], False),
        ([(0, "tench"), (1000, "more")], False),
    ],
)
def test_units_are_imagenets_by_their_index_and_any_of_their_names(words, named, fits):
    assert are_imagenets(named, words.lemmas) is fits
