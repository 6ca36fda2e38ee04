"""Instructions of a user in place of the usual ones."""

import pytest

from line_neurons.agent.errors import UsageError
from line_neurons.agent.ports import EditRequest
from line_neurons.agent.prompts import EDIT_WORDS
from line_neurons.tools.editors.instructions import instruction, instructions_of, parse_words


def test_words_of_a_user_take_the_place_of_the_usual_ones():
    words = instructions_of(parse_words(["remove=Erase the {concept} = gone.", "replace = {concept} to {other}"]))
    request = EditRequest(b"", "remove", "tabby {other}", "dog")
    assert instruction(words, request) == "Erase the tabby dog = gone."
    assert instruction(words, EditRequest(b"", "replace", "cat", "dog")) == "cat to dog"
    assert words["insert"] == EDIT_WORDS["insert"]
    assert instructions_of({}) == EDIT_WORDS


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["delete=x {concept}"], "does not begin with a kind of edit"),
        (["remove"], "has 0 characters"),
        (["remove= "], "has 0 characters"),
        (["remove=" + "x" * 501], "has 501 characters"),
        (["remove=a {concept}", "remove=b {concept}"], "two instructions to remove"),
        (["remove=Erase it."], r"has no {concept}"),
        (["replace=Replace the {concept}."], r"has no {other}"),
    ],
)
def test_words_that_cannot_be_an_instruction_are_refused(texts, said):
    with pytest.raises(UsageError, match=said):
        instructions_of(parse_words(texts))


def test_a_model_that_fills_a_region_takes_a_description():
    assert instructions_of({"remove": "an empty street"}, fills=True)["remove"] == "an empty street"
    with pytest.raises(UsageError, match="cannot insert"):
        instructions_of({"insert": "Add a {concept}"}, fills=True)
