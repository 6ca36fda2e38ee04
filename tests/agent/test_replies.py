import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from line_neurons.agent.concepts import class_concept, concept_key, distinct, find_duplicate, normalise_concept
from line_neurons.agent.errors import ReplyError
from line_neurons.agent.replies import parse_reply
from line_neurons.agent.text import clean_text


def reply(concept: object = "tractor", reasoning: object = "It harvests.") -> str:
    return json.dumps({"reasoning": reasoning, "concept": concept})


def test_a_good_reply_becomes_a_proposal():
    proposal = parse_reply(reply("  A Harvesting   Machine. "))
    assert (proposal.concept, proposal.reasoning) == ("harvesting machine", "It harvests.")


@pytest.mark.parametrize(
    ("text", "truncated", "kind"),
    [
        (reply(), True, "truncated"),
        ("", False, "empty"),
        ("  \n", False, "empty"),
        ("tractor", False, "not_json"),
        (reply() + " Hope that helps!", False, "not_json"),
        ('{"reasoning": "cut of', False, "not_json"),
        ("[" * 5000, False, "not_json"),
        (json.dumps(["tractor"]), False, "schema"),
        (json.dumps({"concept": "tractor"}), False, "schema"),
        (json.dumps({"reasoning": "r", "concept": "c", "extra": 1}), False, "schema"),
        (reply(concept=["a", "b"]), False, "schema"),
        (reply(concept=None), False, "schema"),
        (reply(reasoning=3), False, "schema"),
        (reply(concept=""), False, "concept"),
        (reply(concept="one two three four"), False, "concept"),
        (reply(concept="dog, cat"), False, "concept"),
        (reply(concept="../../etc/passwd"), False, "concept"),
        (reply(concept="<b>dog</b>"), False, "concept"),
        (reply(concept="[red]dog[/red]"), False, "concept"),
        (reply(concept="x" * 10_000), False, "concept"),
    ],
)
def test_a_bad_reply_is_a_typed_error_and_is_kept_as_it_came(text, truncated, kind):
    with pytest.raises(ReplyError) as caught:
        parse_reply(text, truncated=truncated)
    assert caught.value.kind == kind
    assert caught.value.raw == text
    assert caught.value.detail


def test_control_characters_and_bidirectional_overrides_are_cleaned_away():
    assert normalise_concept("red\x1b[0m fox".replace("[", "")) == "red 0m fox"
    assert normalise_concept("red\u202efox\x00") == "redfox"
    assert clean_text("a\x1bb\nc\u200bd", 100) == "a b cd"


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


@given(st.text())
def test_any_reply_is_a_proposal_or_a_typed_error(text):
    try:
        parse_reply(text)
    except ReplyError as error:
        assert error.raw == text


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
