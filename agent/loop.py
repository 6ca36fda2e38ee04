"""The nodes of the loop: which leads to which, and what a unit does at each, in words.

Everything that tells nodes apart reads this table, so that a node which is added here is known everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Node:
    """A node of one unit's loop.

    Args:
        name: as the graph, its checkpoints and the rows of wishes have it.
        after: the node that leads to it; a state is written as that node's to go on here.
        word: what a unit does at it, in a word of at most 12 characters.
        sentence: the same for a reader who looks at one unit; ``{}`` stands for the concept in hand.
        then: what comes next once it has ended.
    """

    name: str
    after: str
    word: str
    sentence: str
    then: str


NODES: Mapping[str, Node] = {
    node.name: node
    for node in (
        Node("init", "update", "first board", "filling the first board", "asking for a concept"),
        Node("propose", "update", "proposing", "asking the language model for a concept", "drawing"),
        Node("synthesize", "propose", "picturing", "drawing images of {}", "measuring"),
        Node("activate", "synthesize", "measuring", "measuring the unit on images of {}", "scoring"),
        Node("score", "activate", "scoring", "scoring {}", "updating the board"),
        Node("update", "score", "updating", "offering {} to the board", "asking for a concept"),
        Node(
            "summarize",
            "update",
            "summarizing",
            "asking the language model for one concept over the best three",
            "drawing",
        ),
    )
}
"""By name, in the order in which they are drawn."""

BEGINNING = "init"
LAST = "update"
"""The node that ends a step; the kind of the step to come tells which follows it."""


def node_of(name: str) -> Node:
    """Find a node by its name.

    Raises:
        ValueError: there is no such node.
    """
    if name not in NODES:
        raise ValueError(f"{name!r:.60} is no node of the loop; nodes: {', '.join(NODES)}")
    return NODES[name]


def rank(name: str) -> int:
    """Order a node among those of one attempt: -1 for the first board, 0 for the end, 1 for a question, then on.

    A restart that finds no board comes to the end at the place of its first board, after it.

    Raises:
        ValueError: there is no such node.
    """
    if name in {"", BEGINNING}:
        return -1 if name else 0
    before = node_of(name).after
    return 1 if before == LAST else 1 + rank(before)


def predecessor(name: str) -> str:
    """Name the node as which a state is written that goes on at a node; at the end of a search, the last one.

    Raises:
        ValueError: there is no such node.
    """
    return node_of(name).after if name else LAST


def successor(name: str) -> str:
    """Name the node that follows one without a choice.

    Raises:
        ValueError: there is no such node, or what it comes to decides what follows.
    """
    following = [node.name for node in NODES.values() if node.after == node_of(name).name]
    if len(following) != 1:
        raise ValueError(f"what follows {name!r} is decided by what it comes to")
    return following[0]


def has_proposal(name: str) -> bool:
    """Tell whether a concept is in hand when a node begins; an empty name is the end of a search.

    Raises:
        ValueError: there is no such node.
    """
    return rank(name) > 1


def nodes_per_attempt() -> int:
    """Count the nodes from a question to the end of its step."""
    return rank(LAST)
