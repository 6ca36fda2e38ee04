"""Steering commands as pure changes of a unit's board, concepts and current proposal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from line_neurons.agent.concepts import concept_key, find_duplicate
from line_neurons.agent.scoreboard import Entry, Scoreboard

SteeringKind = Literal["pin", "unpin", "ban", "unban", "try", "again", "facet"]
"""``pin``: a concept stays on the board; ``unpin``: no longer; ``ban``: it leaves the board and is no label;
``unban``: it may be both again; ``try``: the user's concept is the next proposal; ``again``: the current proposal
is withdrawn and the model prompted again, or a search that has ended continues for one iteration; ``facet``: a
further search follows, for the facet that has a source of this name."""

REFUSED = "refused:"
"""How the outcome of a command starts that changed nothing."""

OUTDATED = "outdated:"
"""How the outcome of a command starts that counts only if the ended search continues."""


@dataclass(frozen=True)
class Search:
    """What steering reads and changes of a unit's search.

    Args:
        scored: every concept that the unit was scored on, in order.
        tried: concepts that are scored, cannot be generated, or are banned; none is proposed again.
        pinned: concepts of the board that the update rule never removes.
        banned: concepts that are neither proposed nor the label.
        typed: the user's concepts to be proposed next, in order.
        further: iterations requested beyond the end.
        facets: a source of each facet that a further search was requested for, in order.
        proposal: the concept that is being generated, measured or scored; empty if there is none.
        withdrawn: why that proposal is withdrawn, in words for the model; empty while it is not.
    """

    board: Scoreboard
    scored: tuple[Entry, ...]
    tried: tuple[str, ...]
    pinned: tuple[str, ...] = ()
    banned: tuple[str, ...] = ()
    typed: tuple[str, ...] = ()
    further: int = 0
    facets: tuple[str, ...] = ()
    ended: bool = False
    proposal: str = ""
    withdrawn: str = ""
    repeats: bool = False


def steer(search: Search, kind: SteeringKind, concept: str = "") -> tuple[Search, str]:
    """Apply a steering command.

    Returns:
        The search after it, and the outcome for users, which begins with ``REFUSED`` where nothing changed, and
        with ``OUTDATED`` where a pin came after the end of the search.
    """
    after, outcome = _COMMANDS[kind](search, concept)
    if kind in {"pin", "unpin"} and after.ended and not after.further and after != search:
        outcome = f"{OUTDATED} the search had ended; {outcome}, which counts if it continues"
    return after, outcome


def _pin(search: Search, concept: str) -> tuple[Search, str]:
    entry = _best_entry(search.scored, concept)
    if entry is None:
        return search, "refused: it was never scored"
    if find_duplicate(concept, search.banned):
        return search, "refused: it is banned"
    on_board = _find_entry(search.board, concept)
    if on_board is None:
        board = _with_free_place(search.board, search.pinned)
        if board is None:
            return search, "refused: every place of the board is pinned"
        search = replace(search, board=Scoreboard((*board.entries, entry), board.capacity))
    named = (on_board or entry).concept
    pinned = (*_without(search.pinned, concept), named)
    return replace(search, pinned=pinned), "pinned" if on_board else "back on the board, and pinned"


def _with_free_place(board: Scoreboard, pinned: Sequence[str]) -> Scoreboard | None:
    """Free a place of a full board by removing its lowest concept that is not pinned; None if all are."""
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
    left = _find_entry(search.board, concept) is not None
    tried = search.tried if find_duplicate(concept, search.tried) else (*search.tried, concept)
    after = replace(
        search,
        board=Scoreboard(board, search.board.capacity),
        tried=tried,
        banned=(*search.banned, concept),
        pinned=_without(search.pinned, concept),
        typed=_without(search.typed, concept),
    )
    if search.proposal and _same(search.proposal, concept):
        return replace(after, withdrawn=f'"{concept}" is forbidden.'), "banned; the current proposal is withdrawn"
    return after, "banned; it left the board" if left else "banned"


def _unban(search: Search, concept: str) -> tuple[Search, str]:
    banned = _without(search.banned, concept)
    if banned == search.banned:
        return search, "refused: it is not banned"
    after = replace(search, banned=banned)
    entry = _best_entry(search.scored, concept)
    if entry is None:
        # The ban had put it among the tried ones.
        return replace(after, tried=_without(search.tried, concept)), "no longer banned"
    entries, pinned = search.board.entries, search.pinned
    if len(entries) == search.board.capacity:
        lower = [other for other in entries if other.score < entry.score and other.concept not in pinned]
        if not lower:
            return after, "no longer banned"
        entries = tuple(other for other in entries if other != lower[-1])
    board = Scoreboard((*entries, entry), search.board.capacity)
    return replace(after, board=board), "no longer banned; back on the board"


def _try(search: Search, concept: str) -> tuple[Search, str]:
    if find_duplicate(concept, search.banned):
        return search, "refused: it is banned"
    if find_duplicate(concept, search.typed):
        return search, "refused: it comes next already"
    if search.proposal and _same(search.proposal, concept):
        return search, "refused: it is being tried"
    if not search.repeats and find_duplicate(concept, search.tried):
        return search, "refused: it was tried already"
    return replace(_extended(search), typed=(*search.typed, concept)), "comes next"


def _again(search: Search, concept: str) -> tuple[Search, str]:
    if search.ended:
        return _extended(search), "continues for an iteration"
    if not search.proposal:
        return search, "refused: there is no current proposal; the model is prompted next"
    return replace(search, withdrawn=f'"{search.proposal}" was set aside.'), f"{search.proposal} withdrawn"


def _facet(search: Search, concept: str) -> tuple[Search, str]:
    if not search.board.entries:
        return search, "refused: the unit has no scoreboard"
    if concept in search.facets:
        return search, "refused: its search comes already"
    return replace(search, facets=(*search.facets, concept)), "a search for this facet follows"


def _extended(search: Search) -> Search:
    """Extend a search that has ended by an iteration."""
    return replace(search, further=search.further + 1) if search.ended else search


_COMMANDS = {
    "pin": _pin, "unpin": _unpin, "ban": _ban, "unban": _unban, "try": _try, "again": _again, "facet": _facet,
}  # fmt: skip


def _same(concept: str, other: str) -> bool:
    return concept_key(concept) == concept_key(other)


def _without(concepts: tuple[str, ...], concept: str) -> tuple[str, ...]:
    return tuple(other for other in concepts if not _same(other, concept))


def _find_entry(board: Scoreboard, concept: str) -> Entry | None:
    return next((entry for entry in board.entries if _same(entry.concept, concept)), None)


def _best_entry(scored: Sequence[Entry], concept: str) -> Entry | None:
    own = [entry for entry in scored if _same(entry.concept, concept)]
    return max(own, key=lambda entry: entry.score, default=None)
