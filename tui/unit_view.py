"""State of one unit for the screens that show it, and its board after any step."""

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
    """A unit with its run, history and current state.

    Args:
        run: its run.
        unit: its record.
        steps: its history, in order.
        doing: its current activity; None if no process works on it.
        holder: the process that holds the run; empty if none does.
        stale: whether that process is gone.
        stopping: the process that requested a stop; empty if none did.
        commands: its steering commands, oldest first.
        forks: ids of the runs forked from it, oldest first.
        unfinished: whether resuming the run has work to do.
    """

    run: Run
    unit: Unit
    steps: tuple[Step, ...]
    doing: Activity | None
    holder: str
    stale: bool
    stopping: str
    commands: tuple[SteeringCommand, ...]
    forks: tuple[str, ...]
    unfinished: bool

    @property
    def worked_on(self) -> bool:
        """Whether a live process holds the run."""
        return bool(self.holder) and not self.stale

    @property
    def done(self) -> bool:
        """Whether the unit is finished and did not fail."""
        return self.unit.status in DONE

    @property
    def state(self) -> str:
        """The unit's state; a killed process may have left it as running."""
        return "interrupted" if self.unit.status == "running" and not self.worked_on else self.unit.status


@dataclass(frozen=True)
class BoardRow:
    """A concept of a board.

    Args:
        concept: the concept.
        score: its score; None for a removed concept that was never scored.
        mark: ``+`` added by the last step, ``-`` removed by it, or empty.
        came: its origin.
        place: the history entry that scored it.
        pinned: whether it always stays on the board.
        banned: whether it is forbidden.
    """

    concept: str
    score: float | None
    mark: str
    came: str
    place: Place | None
    pinned: bool
    banned: bool


def read_unit(runs: RunStore, run: str, unit: int) -> UnitView:
    """Read a unit from the store.

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
        doing = next((activity for activity in activities(runs).get(shown.id, []) if activity.unit == unit), None)
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
    """Return a unit's board after the history entry ``until``, best first; None: the current board.

    The concept that was removed last stands where it was.
    """
    history = [entry for entry in view.steps if until is None or (entry.step, entry.attempt) <= until]
    if until is not None and history and history[-1].kind == "initial":
        # The entries of an initial scoreboard were written together.
        history = [entry for entry in view.steps if entry.step <= until[0]]
    last = next((entry for entry in reversed(history) if entry.board), None)
    if last is None:
        return []
    origins: dict[str, Step] = {}
    for entry in history:
        if entry.outcome == "scored" and entry.concept:
            origins[entry.concept] = entry
    pinned, banned = steered(view.commands, until)

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

    newest = next(
        (entry for entry in reversed(history) if entry.outcome == "scored" and entry.kind != "revisit"), None
    )
    entered = newest.concept if newest and newest.kind != "initial" else None
    rows = [row(concept, score, "+" if concept == entered else "") for concept, score in last.board]
    removed = newest.removed if newest else None
    if removed and all(row.concept != removed for row in rows):
        before = origins.get(removed)
        score = before.score if before else None
        at = sum(1 for row in rows if score is None or (row.score or 0.0) >= score)
        rows.insert(at, row(removed, score, "-"))
    return rows


def steered(
    submitted: Sequence[SteeringCommand], until: Place | None = None
) -> tuple[frozenset[str], frozenset[str]]:
    """Return the keys of pinned and of banned concepts, by the applied commands up to the entry ``until``."""
    pinned: set[str] = set()
    banned: set[str] = set()
    for command in submitted:
        if not command.applied or (until is not None and (command.step or 0) > until[0]):
            continue
        key = concept_key(command.concept)
        if command.kind in {"unpin", "ban"}:
            pinned.discard(key)
        if command.kind in {"pin", "ban"}:
            (pinned if command.kind == "pin" else banned).add(key)
    return frozenset(pinned), frozenset(banned)


def origin_of(entry: Step) -> str:
    """Return the origin of a scored concept."""
    if entry.kind == "initial":
        return entry.origin or "first board"
    return f"{entry.origin or entry.kind}, step {step_name(entry)}"


def result_of(entry: Step) -> str:
    """Return the outcome of a history entry as text."""
    if entry.outcome == "scored":
        return f"replaced {entry.removed}" if entry.removed else ""
    return OUTCOMES.get(entry.outcome, entry.outcome)


def reason_of_refusal(entry: Step) -> str:
    """Return why a reply was refused, as the model was told; empty if it was not."""
    detail = entry.detail or {}
    if reason := detail.get("reason"):
        return str(reason)
    near = detail.get("nearest")
    if not isinstance(near, list):
        return ""
    captions = [str(item[0]) for item in near if isinstance(item, list) and item]
    return f"nothing like it can be generated; near it: {', '.join(captions)}" if captions else ""
