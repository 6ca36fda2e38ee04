import pytest

from line_neurons.agent.loop import (
    LAST,
    NODES,
    has_proposal,
    node_of,
    nodes_per_attempt,
    predecessor,
    rank,
    successor,
)


def test_nodes_are_ranked_by_what_leads_to_them():
    ranks = {name: rank(name) for name in NODES}
    assert ranks == {
        "init": -1, "propose": 1, "summarize": 1, "synthesize": 2, "activate": 3, "score": 4, "update": 5
    }  # fmt: skip
    assert rank("") == 0
    assert nodes_per_attempt() == 5


def test_a_state_is_written_as_the_node_that_leads_to_the_one_at_work():
    assert {name: predecessor(name) for name in ("", *NODES)} == {
        "": LAST, "init": "update", "propose": "update", "summarize": "update", "synthesize": "propose",
        "activate": "synthesize", "score": "activate", "update": "score",
    }  # fmt: skip
    assert (successor("activate"), successor("score")) == ("score", "update")
    assert [name for name in NODES if has_proposal(name)] == ["synthesize", "activate", "score", "update"]
    assert not has_proposal("")


@pytest.mark.parametrize("ask", [node_of, rank, predecessor, successor, has_proposal])
def test_a_node_that_does_not_exist_is_refused_with_those_that_do(ask):
    with pytest.raises(ValueError, match="'critique' is no node of the loop; nodes: init, propose"):
        ask("critique")


def test_what_follows_a_choice_is_not_guessed():
    with pytest.raises(ValueError, match="decided by its outcome"):
        successor("update")


def test_every_node_has_a_word_that_fits_its_column():
    assert all(0 < len(node.word) <= 12 for node in NODES.values())
