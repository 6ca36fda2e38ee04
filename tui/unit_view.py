"""View of one unit: its state, history and steering commands, and its board after any step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from line_neurons.agent.concepts import concept_key
from line_neurons.agent.errors import UsageError
from line_neurons.tools.label_marks import DONE
from line_neurons.tools.run_problems import recorded_doubts
from line_neurons.tools.spreads import Spreads
from line_neurons.tools.steering.outcomes import CommandOutcome, outcomes
from line_neurons.tools.store.activity import Activity, activities
from line_neurons.tools.store.columns import OUTCOMES
from line_neurons.tools.store.leases import lease_status
from line_neurons.tools.store.queries import forks
from line_neurons.tools.store.records import Run, Step, Unit
from line_neurons.tools.store.runs import RunStore
from line_neurons.tools.store.steering_queue import SteeringCommand, commands, units_with_pending
from line_neurons.tui.formatting import is_unfinished

StepKey = tuple[int, int]
"""Number and attempt of a step."""

COMMAND_VERBS = {"try": "suggest", "again": "regenerate"}
"""Names of steering commands that differ from their kind."""


@dataclass(frozen=True)
class UnitView:
    """A unit with everything the store has about it.

    Args:
        activity: its current node; None if the run is not active.
        holder: name of the process that holds the run; empty if there is none.
        stale: that process is gone.
        stop_requested_by: who requested a stop; empty if nobody did.
        commands: its steering commands, oldest first.
        forks: ids of the runs that were forked from it, oldest first.
        resumable: `line resume` has units to continue.
        doubts: why the labels of the run may be wrong.
        spreads: spreads of concepts with their scores, as far as they were read; None where one is not known.
    """

    run: Run
    unit: Unit
    steps: tuple[Step, ...]
    activity: Activity | None
    holder: str
    stale: bool
    stop_requested_by: str
    commands: tuple[SteeringCommand, ...]
    forks: tuple[str, ...]
    resumable: bool
    doubts: tuple[str, ...] = ()
    spreads: Mapping[tuple[str, float], float | None] = field(default_factory=dict)

    @property
    def is_active(self) -> bool:
        """Whether a live process holds the run."""
        return bool(self.holder) and not self.stale

    @property
    def is_done(self) -> bool:
        """Whether the unit ended and did not fail."""
        return self.unit.status in DONE

    @property
    def outcomes(self) -> list[CommandOutcome]:
        """What became of its steering commands, oldest first."""
        return outcomes(self.commands, self.steps)

    @property
    def state(self) -> str:
        """State of the unit; without a live process it is not running, whatever is recorded."""
        return "interrupted" if self.unit.status == "running" and not self.is_active else self.unit.status


@dataclass(frozen=True)
class BoardRow:
    """A concept of a board.

    Args:
        score: its score; None for a concept that left without one.
        mark: ``+`` entered with the last step, ``-`` left with it, empty: neither.
        origin: its origin and step, in words.
        spread: the standard error of its score; None where it is not known.
    """

    concept: str
    score: float | None
    mark: str
    origin: str
    pinned: bool
    banned: bool
    spread: float | None = None


def read_unit(runs: RunStore, run: str, unit: int) -> UnitView:
    """Read a unit from the store.

    Raises:
        UsageError: there is no such run or unit.
        StoreError: the store cannot be read.
    """
    of_run = runs.run(run)
    record = runs.unit(of_run.id, unit)
    if record is None:
        raise UsageError(f"run {of_run.id} has no unit {unit}", f"its units: line show {of_run.id}")
    lease = lease_status(runs, check_liveness=False).get(of_run.id)
    activity = None
    if lease is not None and not lease.stale:
        activity = next((row for row in activities(runs).get(of_run.id, []) if row.unit == unit), None)
    return UnitView(
        of_run,
        record,
        tuple(runs.steps(of_run.id, unit)),
        activity,
        lease.holder.name if lease else "",
        lease is not None and lease.stale,
        (lease.holder.stop or "") if lease else "",
        tuple(commands(runs, of_run.id, unit)),
        forks(runs, of_run.id, unit),
        is_unfinished(of_run, runs.states(of_run.id), units_with_pending(runs, of_run.id)),
        recorded_doubts(runs, of_run.id),
    )


class UnitReader:
    """Reads a unit again and again, with the spreads of its scores; each spread is computed once."""

    def __init__(self, run: str, unit: int) -> None:
        self._run, self._unit = run, unit
        self._spreads: Spreads | None = None
        self._fingerprints: object = None

    def __call__(self, runs: RunStore) -> UnitView:
        """Read the unit; errors as of ``read_unit``."""
        view = read_unit(runs, self._run, self._unit)
        # A run that starts has no fingerprints yet, which name its activations.
        if self._spreads is None or self._fingerprints != view.run.fingerprints:
            self._spreads, self._fingerprints = Spreads(runs.path.parent, view.run), view.run.fingerprints
        scored = [(step.concept, step.score) for step in view.steps if step.concept and step.score is not None]
        return replace(view, spreads=self._spreads.of_board(scored, view.steps))


def board(view: UnitView, until: StepKey | None = None, spreads: Spreads | None = None) -> list[BoardRow]:
    """Reconstruct a unit's board, best first, with the concept that left it last at its former rank.

    Args:
        until: the board after this step; None: the current board.
        spreads: the spreads of the run's scores; None: those that were read with the view.

    Raises:
        StoreError: the cache cannot be read.
    """
    history = [step for step in view.steps if until is None or (step.step, step.attempt) <= until]
    if until is not None and history and history[-1].kind == "initial":
        # The steps of an initial board were written together.
        history = [step for step in view.steps if step.step <= until[0]]
    last = next((step for step in reversed(history) if step.board), None)
    if last is None:
        return []
    origins: dict[str, Step] = {}
    for step in history:
        if step.outcome == "scored" and step.concept:
            origins[step.concept] = step
    pinned, banned = pinned_and_banned(view.commands, until)

    def row(concept: str, score: float | None, mark: str) -> BoardRow:
        step, key = origins.get(concept), concept_key(concept)
        return BoardRow(concept, score, mark, origin_of(step) if step else "", key in pinned, key in banned)

    scored = (step for step in reversed(history) if step.outcome == "scored" and step.kind != "revisit")
    newest = next(scored, None)
    entered = newest.concept if newest and newest.kind != "initial" else None
    rows = [row(concept, score, "+" if concept == entered else "") for concept, score in last.board]
    removed = newest.removed if newest else None
    if removed and all(other.concept != removed for other in rows):
        before = origins.get(removed)
        score = before.score if before else None
        rank = sum(1 for other in rows if score is None or (other.score or 0.0) >= score)
        rows.insert(rank, row(removed, score, "-"))
    scores = [(row.concept, row.score) for row in rows if row.score is not None]
    known = view.spreads if spreads is None else spreads.of_board(scores, view.steps)
    return [replace(row, spread=known.get((row.concept, row.score or 0.0))) for row in rows]


def pinned_and_banned(
    commands: Sequence[SteeringCommand], until: StepKey | None = None
) -> tuple[frozenset[str], frozenset[str]]:
    """Return the keys of the concepts that applied steering commands pinned and banned.

    Args:
        until: after this step; None: now.
    """
    pinned: set[str] = set()
    banned: set[str] = set()
    for command in commands:
        if not command.applied or (until is not None and (command.step or 0) > until[0]):
            continue
        key = concept_key(command.concept)
        if command.kind in {"unpin", "ban"}:
            pinned.discard(key)
        if command.kind in {"pin", "ban"}:
            (pinned if command.kind == "pin" else banned).add(key)
        if command.kind == "unban":
            banned.discard(key)
    return frozenset(pinned), frozenset(banned)


def origin_of(step: Step) -> str:
    """Return origin and step of a scored concept, in words."""
    if step.kind == "initial":
        return step.origin or "initial board"
    return f"{step.origin or step.kind}, step {step.name}"


def outcome_of(step: Step) -> str:
    """Return the outcome of a step, in words."""
    if step.outcome == "scored":
        return f"replaced {step.removed}" if step.removed else ""
    return OUTCOMES.get(step.outcome, step.outcome)
