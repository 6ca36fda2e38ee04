"""The scoreboard: a fixed number of concepts with their scores, and the rule that updates it.

>>> board = Scoreboard((Entry("tiger", 4.0), Entry("zebra", 2.5), Entry("sofa", 0.1)), capacity=3)
>>> board.best
Entry(concept='tiger', score=4.0)
>>> after = update(board, "leopard", 3.2, update_rng(run_seed=0, unit=7, step=1))
>>> [entry.concept for entry in after.board.entries], after.removed
(['tiger', 'leopard', 'zebra'], Entry(concept='sofa', score=0.1))
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from random import Random

from line_neurons.agent.seeds import derive_rng


@dataclass(frozen=True)
class Entry:
    """A concept and its score (psi over its images; higher is better)."""

    concept: str
    score: float


@dataclass(frozen=True)
class Scoreboard:
    """Concepts sorted by score, best first; at most ``capacity`` of them, each once."""

    entries: tuple[Entry, ...]
    capacity: int

    def __post_init__(self) -> None:
        if self.capacity < 1:
            raise ValueError(f"capacity must be at least 1, not {self.capacity}")
        if len(self.entries) > self.capacity:
            raise ValueError(f"{len(self.entries)} concepts do not fit a board of {self.capacity}")
        if len({entry.concept for entry in self.entries}) < len(self.entries):
            raise ValueError("a concept stands on the board twice")
        if not all(math.isfinite(entry.score) for entry in self.entries):
            raise ValueError("scores must be finite")
        ordered = tuple(sorted(self.entries, key=lambda entry: (-entry.score, entry.concept)))
        object.__setattr__(self, "entries", ordered)

    @property
    def best(self) -> Entry:
        """The entry with the highest score."""
        return self.entries[0]

    def top(self, k: int) -> tuple[Entry, ...]:
        """The ``k`` best entries, best first."""
        return self.entries[:k]


@dataclass(frozen=True)
class Update:
    """A board after one concept was offered, and the entry that was removed, if any."""

    board: Scoreboard
    removed: Entry | None


def draw_others(ranked: Sequence[str], n_top: int, rng: Random, pool: Container[str] = ()) -> list[str]:
    """Shuffle the candidates for the random places of a first board (paper, section 3.2).

    Args:
        ranked: class names, best control score first.
        n_top: number of best names that are on the board already; the others are shuffled.
        pool: names that come before all others. Where it was drawn uniformly, and without regard to the unit, each
            class that is not among the best is still as likely as any other.
    """
    others = list(ranked[n_top:])
    rng.shuffle(others)
    return sorted(others, key=lambda name: name not in pool)


def update(
    board: Scoreboard,
    concept: str,
    score: float,
    rng: Random,
    pinned: Container[str] = (),
    *,
    overwrite: bool = False,
) -> Update:
    """Offer a scored concept to the board (paper, section 3.2; the rule keeps the board's size).

    If the score beats the lowest, the concept replaces the lowest. Otherwise the concept takes the place of
    one drawn with probability proportional to (best score - its score), so that high scores survive; if all
    are equal the draw is uniform. A concept that is on the board already keeps the higher of its two scores.
    A board of one keeps its concept unless a better one comes. Pinned concepts stay: the rule applies to the
    other places, and changes nothing where all are pinned.

    Args:
        score: finite.
        rng: source of the draw; used only when a removal is drawn.
        overwrite: a concept that is on the board already gets its new score, and one leaves by the rule all the
            same, as in the authors' code: the board is one smaller from then on.
    """
    if not math.isfinite(score):
        raise ValueError(f"the score of {concept!r} is not finite: {score}")
    offered = Entry(concept, score)
    entries = list(board.entries)
    known = next((entry for entry in entries if entry.concept == concept), None)
    if known is not None and not overwrite:
        kept = known if known.score >= score else offered
        return Update(_replaced(board, known, kept), None)
    if len(entries) < board.capacity and not overwrite:
        return Update(Scoreboard((*entries, offered), board.capacity), None)
    free = [entry for entry in entries if entry.concept not in pinned]
    if not free:
        return Update(board, None)
    lowest = free[-1]
    if score > lowest.score:
        removed = lowest
    elif len(free) > 1:
        removed = _draw_removal(free, entries[0].score, rng)
    elif known is None:
        return Update(board, None)
    else:
        return Update(_replaced(board, known, offered), None)
    staying = (entry for entry in entries if entry not in (removed, known))
    return Update(Scoreboard((*staying, offered), board.capacity), removed if removed != known else None)


def _draw_removal(entries: Sequence[Entry], best: float, rng: Random) -> Entry:
    weights = [best - entry.score for entry in entries]
    largest = max(weights)
    if largest == 0:
        return rng.choice(list(entries))
    # Scaled first: a range that overflows to infinity, or underflows to nothing, still has an order.
    finite = [1.0 if math.isinf(largest) and math.isinf(weight) else weight / largest for weight in weights]
    return rng.choices(list(entries), weights=finite)[0]


def _replaced(board: Scoreboard, old: Entry, new: Entry) -> Scoreboard:
    return Scoreboard(tuple(new if entry == old else entry for entry in board.entries), board.capacity)


def update_rng(run_seed: int, unit: int, step: int) -> Random:
    """Return the random generator of the update at ``step`` of ``unit``."""
    return derive_rng("update", run_seed, unit, step)


def replay(initial: Scoreboard, history: Iterable[tuple[int, str, float]], run_seed: int, unit: int) -> Scoreboard:
    """Rebuild the board after a history of (step, concept, score), in order."""
    board = initial
    for step, concept, score in history:
        board = update(board, concept, score, update_rng(run_seed, unit, step)).board
    return board
