import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from line_neurons.agent.concepts import class_concept, concept_key, distinct, find_duplicate, normalise_concept


@given(st.text(max_size=300))
@example("A¡0")
@example("a the an owl")
@example("0.»")
def test_any_text_is_either_a_clean_concept_or_refused(text):
    try:
        concept = normalise_concept(text)
    except ValueError:
        return
    assert concept == normalise_concept(concept)
    assert 1 <= len(concept.split()) <= 3
    assert all(character.isprintable() for character in concept)
    assert not set(concept) & set('<>[]{}/\\|`"*')


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Dogs", "dog"),
        ("a dog", "dog"),
        ("berries", "berry"),
        ("fire-engine", "fire engine"),
        ("mice", "mouse"),
        ("boxes", "box"),
        ("sea lions", "sea lion"),
        ("peaches", "peach"),
        ("magpies", "magpie"),
        ("pies", "pie"),
    ],
)
def test_spellings_of_one_concept_share_a_key(one, other):
    assert concept_key(one) == concept_key(other)
    assert find_duplicate(one, ["cat", other]) == other


@pytest.mark.parametrize(
    ("one", "other"), [("glass", "glas s"), ("bus", "bu"), ("dog", "dog house"), ("iris", "iri")]
)
def test_different_concepts_have_different_keys(one, other):
    assert concept_key(one) != concept_key(other)


def test_class_names_become_concepts():
    assert class_concept("great_grey_owl") == "great grey owl"
    assert class_concept("tench, Tinca tinca") == "tench"


def test_the_key_of_a_normalised_concept_is_stable():
    assert concept_key(normalise_concept("The Red Foxes")) == "red fox"


@pytest.mark.parametrize(
    ("concept", "other", "apart"),
    [
        ("red fox", "barn owl", True),
        ("red fox", "foxes", False),
        ("Fox's den", "fox", False),
        ("church-bells", "bell tower", False),
        ("glass of water", "loaf of bread", True),
        ("the sea", "the hill", True),
        ("the", "the", False),
        ("", "", False),
    ],
)
def test_concepts_are_distinct_where_they_share_no_word_that_tells_what_they_are(concept, other, apart):
    assert distinct(concept, other) is apart


# Few words, so that two concepts often share one.
_FEW = st.lists(st.sampled_from(["a", "the", "of", "fox", "foxes", "Foxes", "owl's", "ice-cream", "cream", "'"]))
_ANY_CONCEPT = _FEW.map(" ".join) | st.text(max_size=30)


@given(_ANY_CONCEPT, _ANY_CONCEPT)
def test_being_distinct_is_mutual_and_concepts_that_count_as_the_same_never_are(concept, other):
    assert distinct(concept, other) == distinct(other, concept)
    if concept_key(concept) == concept_key(other):
        assert not distinct(concept, other)
