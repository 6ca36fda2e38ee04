import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from line_neurons.agent.errors import ReplyError
from line_neurons.agent.replies import parse_reply


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


@given(st.text())
def test_any_reply_is_a_proposal_or_a_typed_error(text):
    try:
        parse_reply(text)
    except ReplyError as error:
        assert error.raw == text
