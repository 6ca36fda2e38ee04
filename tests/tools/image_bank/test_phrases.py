"""Concept phrases taken apart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from line_neurons.tools.image_bank.phrases import Phrase, Subject, normalise, parse, singular_phrase

NAMES = {
    "dog",
    "ball",
    "apple",
    "green apple",
    "sea lion",
    "polar bear",
    "soccer ball",
    "horse",
    "bread and butter",
}


def read(text, scenes=()):
    return parse(text, lambda phrase: phrase in NAMES or singular_phrase(phrase) in NAMES, scenes)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_name_of_the_bank_is_never_split(name):
    assert read(f"a {name}").subjects == (Subject(name),)
    assert not read(name).scenes


@pytest.mark.parametrize(
    ("text", "subjects", "place", "conditions"),
    [
        ("red apple", [("apple", "red")], None, ()),
        ("gray horse", [("horse", "grey")], None, ()),
        ("dog in snow", [("dog", None)], None, ("snow",)),
        ("a dog on the beach", [("dog", None)], "beach", ()),
        ("night street", [], "road", ("night",)),
        ("snowy forest", [], "forest", ("snow",)),
        ("foggy mountain at night", [], "mountain", ("night", "fog")),
        ("forest", [], "forest", ()),
        ("dog in a snowy forest", [("dog", None)], "forest", ("snow",)),
        ("dog and ball", [("dog", None), ("ball", None)], None, ()),
        ("dog with a red ball in the grass", [("dog", None), ("ball", "red")], "meadow", ()),
        ("dog next to a horse", [("dog", None), ("horse", None)], None, ()),
        ("underwater sea lion", [("sea lion", None)], "underwater", ()),
        ("polar bears in the snow", [("polar bears", None)], None, ("snow",)),
        ("striped fur", [("striped fur", None)], None, ()),
        ("dog on a white background", [("dog", None)], "studio", ()),
    ],
)
def test_phrases_are_taken_apart(text, subjects, place, conditions):
    phrase = read(text)
    assert [(s.text, s.colour) for s in phrase.subjects] == subjects
    assert phrase.place == place
    assert phrase.conditions == conditions


def test_a_scene_noun_before_another_noun_is_part_of_its_name():
    assert read("sea cow") == Phrase("sea cow", (Subject("sea cow"),))


def test_a_third_thing_is_reported_not_dropped():
    phrase = read("dog, ball and horse")
    assert [s.text for s in phrase.subjects] == ["dog", "ball"]
    assert phrase.ignored == ("horse",)


def test_a_bare_colour_is_reported():
    assert read("black and white dog").ignored == ("black",)


def test_scenes_of_a_bank_extend_the_table():
    assert read("dog in the clinic").place is None
    assert read("dog in the clinic", {"clinic"}).place == "clinic"


@given(st.text(max_size=300))
def test_no_text_raises(text):
    phrase = read(text)
    assert len(phrase.subjects) <= 2
    assert all(subject.text.strip() for subject in phrase.subjects)


@given(st.text(alphabet="ab -'.,", max_size=40))
def test_normalising_twice_is_normalising_once(text):
    assert normalise(normalise(text)) == normalise(text)


@given(
    st.lists(
        st.sampled_from(["a", "the", "red", "dog", "and", "with", "in", "snow", "night", "sea", "ball"]),
        max_size=8,
    )
)
def test_no_order_of_the_grammars_words_raises(words):
    assert isinstance(read(" ".join(words)), Phrase)


@pytest.mark.parametrize(
    ("plural", "one"),
    [
        ("red foxes", "red fox"),
        ("wet green leaves", "wet green leaf"),
        ("horses", "horse"),
        ("mice", "mouse"),
        ("glass", "glass"),
    ],
)
def test_a_phrase_is_looked_up_by_the_singular_of_its_last_word(plural, one):
    assert singular_phrase(plural) == singular_phrase(one) == one
