"""The nodes of the loop: which leads to which, and how each is called on screen.

Everything that tells nodes apart reads this table, so that a node which is added here is known everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Node:
    """A node of one unit's loop.

    Args:
        name: as the graph, its checkpoints and the rows of steering commands have it.
        after: the node that leads to it; a state is written as that node's to continue here.
        word: what a unit does at it, in a word of at most 12 characters.
        sentence: the same for a reader of one unit; ``{}`` stands for the current concept.
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
        Node("init", "update", "initializing", "filling the initial scoreboard", "prompting for a concept"),
        Node("propose", "update", "proposing", "prompting the language model for a concept", "generating images"),
        Node("synthesize", "propose", "generating", "generating images of {}", "measuring"),
        Node("activate", "synthesize", "measuring", "measuring the unit on images of {}", "scoring"),
        Node("score", "activate", "scoring", "scoring {}", "updating the board"),
        Node("update", "score", "updating", "offering {} to the board", "prompting for a concept"),
        Node(
            "summarize",
            "update",
            "summarizing",
            "prompting the language model for one concept over the best three",
            "generating images",
        ),
    )
}
"""By name, in the order of the graph's drawing."""

BEGINNING = "init"
LAST = "update"
"""The node that ends a step; the kind of the next step tells which node follows it."""


def node_of(name: str) -> Node:
    """Find a node by its name.

    Raises:
        ValueError: there is no such node.
    """
    if name not in NODES:
        raise ValueError(f"{name!r:.60} is no node of the loop; nodes: {', '.join(NODES)}")
    return NODES[name]


def rank(name: str) -> int:
    """Order a node among those of one attempt: -1 initial scoreboard, 0 end of a search, 1 prompting, then on.

    A restart that fills no board ends at the place of its initial scoreboard, after it.

    Raises:
        ValueError: there is no such node.
    """
    if name in {"", BEGINNING}:
        return -1 if name else 0
    before = node_of(name).after
    return 1 if before == LAST else 1 + rank(before)


def predecessor(name: str) -> str:
    """Return the node as which a state is written that continues at ``name``; the last one at a search's end.

    Raises:
        ValueError: there is no such node.
    """
    return node_of(name).after if name else LAST


def successor(name: str) -> str:
    """Return the node that always follows ``name``.

    Raises:
        ValueError: there is no such node, or its outcome decides what follows.
    """
    following = [node.name for node in NODES.values() if node.after == node_of(name).name]
    if len(following) != 1:
        raise ValueError(f"what follows {name!r} is decided by its outcome")
    return following[0]


def has_proposal(name: str) -> bool:
    """Return whether a proposal exists when a node begins; an empty name is the end of a search.

    Raises:
        ValueError: there is no such node.
    """
    return rank(name) > 1


def nodes_per_attempt() -> int:
    """Count the nodes from prompting to the end of a step."""
    return rank(LAST)
