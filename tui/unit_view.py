"""What the screens of one unit show, read off the store: how it stands, and its board after any step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from line_neurons.agent.concepts import concept_key
from line_neurons.agent.errors import UsageError
from line_neurons.tools.label_marks import DONE
from line_neurons.tools.store.activity import Activity, activities
from line_neurons.tools.store.columns import OUTCOMES
from line_neurons.tools.store.leases import lease_status
from line_neurons.tools.store.queries import forks
from line_neurons.tools.store.records import Run, Step, Unit
from line_neurons.tools.store.runs import RunStore
from line_neurons.tools.store.steering_queue import SteeringCommand, commands, units_with_pending
from line_neurons.tui.formatting import is_unfinished, step_name

Place = tuple[int, int]
"""Step and attempt of an entry of a history."""


@dataclass(frozen=True)
class UnitView:
    """A unit with all that is known of it.

    Args:
        run: its run.
        unit: the unit as it is recorded.
        steps: its history, in order.
        doing: what it does at this moment; None where nobody works on it.
        holder: the process that holds the run; empty if none does.
        stale: that process is gone.
        stopping: who asked it to stop; empty if nobody did.
        wishes: what people asked of the unit, oldest first.
        forks: ids of the runs that go on from a step of it, oldest first.
        unfinished: a resume has work on the run.
    """

    run: Run
    unit: Unit
    steps: tuple[Step, ...]
    doing: Activity | None
    holder: str
    stale: bool
    stopping: str
    wishes: tuple[SteeringCommand, ...]
    forks: tuple[str, ...]
    unfinished: bool

    @property
    def worked_on(self) -> bool:
        """Whether a living process holds the run."""
        return bool(self.holder) and not self.stale

    @property
    def done(self) -> bool:
        """Whether the unit is done with and did not fail."""
        return self.unit.status in DONE

    @property
    def state(self) -> str:
        """The unit's state; one that nobody works on is not running, whatever its process wrote last."""
        return "interrupted" if self.unit.status == "running" and not self.worked_on else self.unit.status


@dataclass(frozen=True)
class BoardRow:
    """A concept of a board.

    Args:
        concept: the concept.
        score: its score; None where a concept that left was never scored.
        mark: ``+`` entered with the last step, ``-`` left with it, empty: neither.
        came: where it came from, in words.
        place: the entry of the history that scored it.
        pinned: it stays on the board whatever is drawn.
        banned: it is forbidden.
    """

    concept: str
    score: float | None
    mark: str
    came: str
    place: Place | None
    pinned: bool
    banned: bool


def read_unit(runs: RunStore, run: str, unit: int) -> UnitView:
    """A unit as the store has it now.

    Raises:
        UsageError: there is no such run or unit.
        StoreError: the store cannot be read.
    """
    shown = runs.run(run)
    found = runs.unit(shown.id, unit)
    if found is None:
        raise UsageError(f"run {shown.id} has no unit {unit}", f"its units: line show {shown.id}")
    held = lease_status(runs, check_liveness=False).get(shown.id)
    doing = None
    if held is not None and not held.stale:
        doing = next((one for one in activities(runs).get(shown.id, []) if one.unit == unit), None)
    return UnitView(
        shown,
        found,
        tuple(runs.steps(shown.id, unit)),
        doing,
        held.holder.name if held else "",
        held is not None and held.stale,
        (held.holder.stop or "") if held else "",
        tuple(commands(runs, shown.id, unit)),
        forks(runs, shown.id, unit),
        is_unfinished(shown, runs.states(shown.id), units_with_pending(runs, shown.id)),
    )


def board(view: UnitView, until: Place | None = None) -> list[BoardRow]:
    """A unit's board, best first, with the concept that left it last in the place that it had.

    Args:
        view: the unit.
        until: the entry of the history after which; none: now.
    """
    history = [one for one in view.steps if until is None or (one.step, one.attempt) <= until]
    if until is not None and history and history[-1].kind == "initial":
        # The entries of a first board were written together.
        history = [one for one in view.steps if one.step <= until[0]]
    last = next((one for one in reversed(history) if one.board), None)
    if last is None:
        return []
    origins: dict[str, Step] = {}
    for one in history:
        if one.outcome == "scored" and one.concept:
            origins[one.concept] = one
    pinned, banned = steered(view.wishes, until)

    def row(concept: str, score: float | None, mark: str) -> BoardRow:
        came, key = origins.get(concept), concept_key(concept)
        return BoardRow(
            concept,
            score,
            mark,
            origin_of(came) if came else "",
            (came.step, came.attempt) if came else None,
            key in pinned,
            key in banned,
        )

    newest = next((one for one in reversed(history) if one.outcome == "scored" and one.kind != "revisit"), None)
    entered = newest.concept if newest and newest.kind != "initial" else None
    rows = [row(concept, score, "+" if concept == entered else "") for concept, score in last.board]
    removed = newest.removed if newest else None
    if removed and all(one.concept != removed for one in rows):
        before = origins.get(removed)
        score = before.score if before else None
        at = sum(1 for one in rows if score is None or (one.score or 0.0) >= score)
        rows.insert(at, row(removed, score, "-"))
    return rows


def steered(asked: Sequence[SteeringCommand], until: Place | None = None) -> tuple[frozenset[str], frozenset[str]]:
    """Keys of the concepts that are pinned and banned, as far as the runner has granted the wishes.

    Args:
        asked: what people asked of a unit, oldest first.
        until: the entry of the history after which; none: now.
    """
    pinned: set[str] = set()
    banned: set[str] = set()
    for wish in asked:
        if not wish.applied or (until is not None and (wish.step or 0) > until[0]):
            continue
        key = concept_key(wish.concept)
        if wish.kind in {"unpin", "ban"}:
            pinned.discard(key)
        if wish.kind in {"pin", "ban"}:
            (pinned if wish.kind == "pin" else banned).add(key)
    return frozenset(pinned), frozenset(banned)


def origin_of(entry: Step) -> str:
    """Where a scored concept came from, in few words."""
    if entry.kind == "initial":
        return entry.origin or "first board"
    return f"{entry.origin or entry.kind}, step {step_name(entry)}"


def result_of(entry: Step) -> str:
    """What came of an entry of a history, in words that need no colour."""
    if entry.outcome == "scored":
        return f"replaced {entry.removed}" if entry.removed else ""
    return OUTCOMES.get(entry.outcome, entry.outcome)


def reason_of_refusal(entry: Step) -> str:
    """Why an answer was refused, in the words that the model was told; empty where it was not."""
    detail = entry.detail or {}
    if reason := detail.get("reason"):
        return str(reason)
    near = detail.get("nearest")
    if not isinstance(near, list):
        return ""
    captions = [str(one[0]) for one in near if isinstance(one, list) and one]
    return f"nothing like it can be generated; near it: {', '.join(captions)}" if captions else ""
