"""What a person may ask of a unit's search, as pure changes of its board, concepts and proposal in hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from line_neurons.agent.concepts import concept_key, find_duplicate
from line_neurons.agent.scoreboard import Entry, Scoreboard

SteeringKind = Literal["pin", "unpin", "ban", "try", "again"]
"""``pin``: a concept stays on the board; ``unpin``: no longer; ``ban``: it leaves the board for good and is no
label; ``try``: a concept of one's own is the next proposal; ``again``: the proposal in hand is given up and the
model asked anew, or a search that has ended goes on for one iteration."""


@dataclass(frozen=True)
class Search:
    """What can be steered of a unit's search.

    Args:
        board: the scoreboard.
        scored: every concept that the unit was scored on, in order.
        tried: what is forbidden from now on: what was scored, cannot be generated, or is banned.
        pinned: concepts of the board that the update rule never removes.
        banned: concepts that are neither proposed nor the label.
        typed: concepts of people, to be proposed next, in order.
        further: iterations that people asked for beyond the end.
        ended: the search has come to its end.
        in_hand: the proposal that is being drawn, measured or scored; empty if there is none.
        given_up: why the proposal in hand is given up; empty while it is not.
        repeats: a concept may be scored again.
    """

    board: Scoreboard
    scored: tuple[Entry, ...]
    tried: tuple[str, ...]
    pinned: tuple[str, ...] = ()
    banned: tuple[str, ...] = ()
    typed: tuple[str, ...] = ()
    further: int = 0
    ended: bool = False
    in_hand: str = ""
    given_up: str = ""
    repeats: bool = False


def steer(search: Search, kind: SteeringKind, concept: str = "") -> tuple[Search, str]:
    """Grant a wish.

    Args:
        search: the search before.
        kind: what is asked.
        concept: of what concept.

    Returns:
        The search after, and what came of the wish, for people; it begins with ``refused`` where it changed
        nothing.
    """
    return _GRANTED[kind](search, concept)


def _pin(search: Search, concept: str) -> tuple[Search, str]:
    entry = _best(search.scored, concept)
    if entry is None:
        return search, "refused: it was never scored"
    if find_duplicate(concept, search.banned):
        return search, "refused: it is banned"
    on_board = _entry(search.board, concept)
    if on_board is None:
        board = _room(search.board, search.pinned)
        if board is None:
            return search, "refused: every place of the board is pinned"
        search = replace(search, board=Scoreboard((*board.entries, entry), board.capacity))
    named = (on_board or entry).concept
    pinned = (*_without(search.pinned, concept), named)
    return replace(search, pinned=pinned), "pinned" if on_board else "back on the board, and pinned"


def _room(board: Scoreboard, pinned: Sequence[str]) -> Scoreboard | None:
    """A board with a free place: where it is full, its lowest concept that is not pinned has left."""
    if len(board.entries) < board.capacity:
        return board
    free = [entry for entry in board.entries if entry.concept not in pinned]
    if not free:
        return None
    return Scoreboard(tuple(entry for entry in board.entries if entry != free[-1]), board.capacity)


def _unpin(search: Search, concept: str) -> tuple[Search, str]:
    pinned = _without(search.pinned, concept)
    if pinned == search.pinned:
        return search, "refused: it is not pinned"
    return replace(search, pinned=pinned), "no longer pinned"


def _ban(search: Search, concept: str) -> tuple[Search, str]:
    if find_duplicate(concept, search.banned):
        return search, "refused: it is banned already"
    board = tuple(entry for entry in search.board.entries if not _same(entry.concept, concept))
    if search.board.entries and not board:
        # Another concept of the search fills a board that would be empty.
        banned = (*search.banned, concept)
        others = [entry for entry in search.scored if not find_duplicate(entry.concept, banned)]
        if not others:
            return search, "refused: nothing else was scored yet"
        board = (max(others, key=lambda entry: entry.score),)
    left = _entry(search.board, concept) is not None
    tried = search.tried if find_duplicate(concept, search.tried) else (*search.tried, concept)
    after = replace(
        search,
        board=Scoreboard(board, search.board.capacity),
        tried=tried,
        banned=(*search.banned, concept),
        pinned=_without(search.pinned, concept),
        typed=_without(search.typed, concept),
    )
    if search.in_hand and _same(search.in_hand, concept):
        return replace(after, given_up=f'"{concept}" is forbidden.'), "banned; the proposal in hand is given up"
    return after, "banned; it left the board" if left else "banned"


def _try(search: Search, concept: str) -> tuple[Search, str]:
    if find_duplicate(concept, search.banned):
        return search, "refused: it is banned"
    if find_duplicate(concept, search.typed):
        return search, "refused: it comes next already"
    if search.in_hand and _same(search.in_hand, concept):
        return search, "refused: it is being tried"
    if not search.repeats and find_duplicate(concept, search.tried):
        return search, "refused: it was tried already"
    return replace(_going_on(search), typed=(*search.typed, concept)), "comes next"


def _again(search: Search, concept: str) -> tuple[Search, str]:
    if search.ended:
        return _going_on(search), "goes on for an iteration"
    if not search.in_hand:
        return search, "refused: no proposal was in hand; the model is asked next"
    return replace(search, given_up=f'"{search.in_hand}" was set aside.'), f"{search.in_hand} given up"


def _going_on(search: Search) -> Search:
    """A search that has ended goes on for an iteration more; another goes on anyway."""
    return replace(search, further=search.further + 1) if search.ended else search


_GRANTED = {"pin": _pin, "unpin": _unpin, "ban": _ban, "try": _try, "again": _again}


def _same(one: str, other: str) -> bool:
    return concept_key(one) == concept_key(other)


def _without(concepts: tuple[str, ...], concept: str) -> tuple[str, ...]:
    return tuple(one for one in concepts if not _same(one, concept))


def _entry(board: Scoreboard, concept: str) -> Entry | None:
    return next((entry for entry in board.entries if _same(entry.concept, concept)), None)


def _best(scored: Sequence[Entry], concept: str) -> Entry | None:
    own = [entry for entry in scored if _same(entry.concept, concept)]
    return max(own, key=lambda entry: entry.score, default=None)
