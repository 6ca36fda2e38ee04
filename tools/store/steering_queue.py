"""Steering commands for units: submitted by any process, applied by the one that works on the run.

A command is no write to the run's own rows, so that whoever may write to the store may submit one. It stays in the
store with its author, when and at which step it was applied, and its outcome.
"""

from __future__ import annotations

import getpass
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import TypeAdapter

from line_neurons.agent.concepts import concept_key, find_duplicate, normalise_concept
from line_neurons.agent.errors import DamagedError, UsageError
from line_neurons.agent.loop import NODES, rank
from line_neurons.agent.steering import OUTDATED, REFUSED, SteeringKind
from line_neurons.agent.text import clean_text
from line_neurons.tools.store.leases import this_machine
from line_neurons.tools.store.records import Run, Trial, damaged_row
from line_neurons.tools.store.runs import RunStore, open_store

CommandState = Literal["waiting", "applied", "refused", "outdated", "withdrawn"]
"""``waiting``: not applied yet; ``applied``: it changed the search; ``refused``: it changed nothing; ``outdated``:
the search had ended, so that it counts only if that continues; ``withdrawn``: a user withdrew it before."""


@dataclass(frozen=True)
class SteeringCommand:
    """What somebody asks of a unit.

    Args:
        id: its number; commands are applied in this order.
        kind: see ``agent.steering.SteeringKind``.
        concept: its concept, or the source of a ``facet``; empty for ``again``.
        created: when, in seconds since the epoch.
        taken: when the runner applied or refused it, or a user withdrew it; None while it is pending.
        outcome: what applying it did; see ``agent.steering.steer``.
        step: the current step when it was applied; None where it was withdrawn.
        attempt: earlier requests to the language model in that step.
        node: the node before whose work it was applied; empty where the search had ended.

    A pending command with a step belongs to a restarted unit; it is applied at the same step again.
    """

    id: int
    kind: SteeringKind
    concept: str
    by: str
    created: float
    taken: float | None = None
    outcome: str = ""
    step: int | None = None
    attempt: int | None = None
    node: str | None = None

    @property
    def state(self) -> CommandState:
        """What became of it."""
        if self.taken is None:
            return "waiting"
        if self.step is None:
            return "withdrawn"
        if self.outcome.startswith(OUTDATED):
            return "outdated"
        return "refused" if self.outcome.startswith(REFUSED) else "applied"

    @property
    def applied(self) -> bool:
        """Whether it changed something."""
        return self.state in {"applied", "outdated"}

    @property
    def counts(self) -> bool:
        """Whether it was applied or is pending."""
        return self.taken is None or self.applied

    @property
    def place(self) -> Place | None:
        """Where it was applied, comparable; None for a new command."""
        if self.step is None or self.attempt is None or self.node is None:
            return None
        return place_of(self.step, self.attempt, self.node)


Place = tuple[int, int, int]
"""A place in a unit's search: step, attempt, and the rank of the node that comes next."""


def place_of(step: int, attempt: int, node: str) -> Place:
    """Return the place before a node's work; an empty node is the end of a search, before any later step.

    Raises:
        ValueError: there is no such node.
    """
    return step, attempt, rank(node)


_COLUMNS = [field.name for field in fields(SteeringCommand)]
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM wishes WHERE run = ? AND unit = ?"  # noqa: S608
_SUBMIT = "INSERT INTO wishes (run, unit, kind, concept, by, created) VALUES (?, ?, ?, ?, ?, ?)"
# A command that a checkpoint has is applied, whatever a user withdrew after a process was killed in between.
_APPLY = (
    "UPDATE wishes SET taken = ?, step = ?, attempt = ?, node = ?, outcome = ?"
    " WHERE id = ? AND run = ? AND (taken IS NULL OR step IS NULL)"
)
_WITHDRAW = (
    "UPDATE wishes SET taken = ?, step = NULL, attempt = NULL, node = NULL, outcome = ?"
    " WHERE id = ? AND run = ? AND unit = ? AND taken IS NULL"
)
_APPLIED = ["unit", *(name for name in _COLUMNS if name != "id")]
_COPY = (
    f"INSERT INTO wishes (run, {', '.join(_APPLIED)}) SELECT ?, {', '.join(_APPLIED)} FROM wishes"  # noqa: S608
    " WHERE run = ? AND unit = ? AND taken IS NOT NULL AND step <= ? ORDER BY id"
)
_NEEDS = "wishes.id"


def submit(store: Path, run: str, unit: int, kind: SteeringKind, *concepts: str) -> None:
    """Submit a command for each concept, all or none; ``again`` takes no concept.

    The runner applies them before the unit's next node.

    Raises:
        UsageError: there is no such run or unit, or one of the commands is not possible.
        StoreError: the store cannot be written.
    """
    with closing(open_store(store, read_only=False, remedy="name another store with --store")) as runs:
        submit_all(runs, runs.run(run), unit, [(kind, concept) for concept in concepts or ("",)])


def submit_all(
    runs: RunStore, run: Run, unit: int, requests: Sequence[tuple[SteeringKind, str]]
) -> list[SteeringCommand]:
    """Submit commands for a unit in order, all or none, and return them.

    Raises:
        UsageError: there is no such unit, or one of the commands is not possible.
        StoreError: the store cannot be written.
    """
    with runs.atomic() as db:
        if runs.unit(run.id, unit) is None:
            known = ", ".join(str(other.unit) for other in runs.units(run.id)[:12])
            raise UsageError(f"run {run.id} has no unit {unit!r:.60}", f"units: {known}")
        submitted = []
        for kind, concept in requests:
            named = _checked(runs, run, unit, kind, concept)
            by, now = _current_user(), time.time()
            row = db.execute(_SUBMIT, [run.id, unit, kind, named, by, now]).lastrowid
            submitted.append(SteeringCommand(row or 0, kind, named, by, now))
    return submitted


def withdraw(runs: RunStore, run: Run, unit: int, command: int) -> SteeringCommand:
    """Withdraw a command that is waiting, and return it; it is never applied then.

    Raises:
        UsageError: the unit has no such command, or it was applied, refused or withdrawn before.
        StoreError: the store cannot be written.
    """
    with runs.atomic() as db:
        known = {row.id: row for row in commands(runs, run.id, unit)}
        if command not in known:
            raise UsageError(
                f"unit {unit} of run {run.id} has no steering command {command}",
                f"`line steer {run.id} {unit} --list` lists them",
            )
        values = [time.time(), f"withdrawn by {_current_user()}", command, run.id, unit]
        if db.execute(_WITHDRAW, values).rowcount != 1:
            row = known[command]
            named = f"{row.kind} {row.concept}".rstrip()
            at = "" if row.step is None else f" at step {row.step}"
            raise UsageError(
                f"{named!r} was {row.state}{at} already, so it cannot be withdrawn",
                _UNDONE_BY.get(row.kind, f"see `line show {run.id} {unit}`"),
            )
        return known[command]


def withdraw_from(store: Path, run: str, unit: int, command: int) -> None:
    """Withdraw a waiting command of a store's run; see ``withdraw``.

    Raises:
        UsageError: there is no such run, unit or waiting command.
        StoreError: the store cannot be written.
    """
    with closing(open_store(store, read_only=False)) as runs:
        withdraw(runs, runs.run(run), unit, command)


def find_waiting(runs: RunStore, run: Run, unit: int, which: str) -> list[int]:
    """Find the numbers of a unit's waiting commands by their concept; a number is returned as it is.

    Raises:
        UsageError: none of them is about that concept.
    """
    waiting = [row for row in commands(runs, run.id, unit) if row.taken is None]
    if found := [row.id for row in waiting if row.concept and concept_key(row.concept) == concept_key(which)]:
        return found
    if which.isascii() and which.isdigit() and len(which) < 19:
        return [int(which)]
    named = ", ".join(f"{row.id} ({f'{row.kind} {row.concept}'.rstrip()})" for row in waiting[:12])
    raise UsageError(
        f"no steering command of unit {unit} of run {run.id} about {which!r:.60} is waiting",
        f"waiting: {named}" if named else f"none is; see `line steer {run.id} {unit} --list`",
    )


_UNDONE_BY = {"ban": "--unban undoes a ban", "pin": "--unpin undoes a pin"}


def commands(runs: RunStore, run: str, unit: int) -> list[SteeringCommand]:
    """Return all commands for a unit, in order."""
    return [_decode(row) for row in runs.rows(f"{_SELECT} ORDER BY id", run, unit, needs=_NEEDS)]


def pending(runs: RunStore, run: str, unit: int, place: Place) -> list[SteeringCommand]:
    """Return the pending commands for a unit that apply at a place of its search, in order.

    It is called before each node, and cheap where there is none.
    """
    waiting = [_decode(row) for row in runs.rows(f"{_SELECT} AND taken IS NULL ORDER BY id", run, unit)]
    return [command for command in waiting if command.place is None or command.place <= place]


def units_with_pending(runs: RunStore, run: str) -> set[int]:
    """Return the units of a run with pending commands, but for those that failed."""
    statement = (
        "SELECT DISTINCT unit FROM wishes JOIN units USING (run, unit)"
        " WHERE run = ? AND taken IS NULL AND status != 'failed'"
    )
    return {unit for (unit,) in runs.rows(statement, run, needs=_NEEDS)}


def banned(runs: RunStore, run: str) -> dict[int, list[str]]:
    """Return the concepts that may not be a label, by unit of a run."""
    found: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for unit, kind, concept in _applied(runs, run):
        found[unit].append((kind, concept))
    return {unit: remaining for unit, bans in found.items() if (remaining := banned_concepts(bans))}


def banned_concepts(applied: Iterable[tuple[str, str]]) -> list[str]:
    """Return the concepts that stay banned after commands, given as kind and concept in order."""
    banned: dict[str, str] = {}
    for kind, concept in applied:
        if kind == "ban":
            banned[concept_key(concept)] = concept
        elif kind == "unban":
            banned.pop(concept_key(concept), None)
    return list(banned.values())


def applied_kinds(runs: RunStore, run: str) -> dict[int, tuple[str, ...]]:
    """Return the kinds of the commands that were applied, each once, by unit of a run."""
    found: dict[int, dict[str, None]] = defaultdict(dict)
    for unit, kind, _ in _applied(runs, run):
        found[unit][kind] = None
    return {unit: tuple(kinds) for unit, kinds in found.items()}


def mark_applied(
    runs: RunStore, run: str, command: int, *, step: int, attempt: int, node: str, outcome: str
) -> bool:
    """Record where a command was applied and its outcome; return False if that is recorded already."""
    with runs.atomic(run) as db:
        return db.execute(_APPLY, [time.time(), step, attempt, node, outcome, command, run]).rowcount == 1


def copy_applied(runs: RunStore, run: str, unit: int, until: int, to: str) -> list[SteeringCommand]:
    """Copy the commands that were applied to a unit up to a step to another run, and return those."""
    with runs.atomic(to) as db:
        db.execute(_COPY, [to, run, unit, until])
        return commands(runs, to, unit)


def requeue(runs: RunStore, run: str, unit: int, known: Sequence[int]) -> None:
    """Make commands pending again that were applied, but that the unit's search does not know."""
    lost = [
        command.id
        for command in commands(runs, run, unit)
        if command.place is not None and command.taken is not None and command.id not in known
    ]
    if lost:
        with runs.atomic(run) as db:
            statement = "UPDATE wishes SET taken = NULL, outcome = NULL WHERE id = ?"
            db.executemany(statement, [(command,) for command in lost])


def reschedule(runs: RunStore, run: str, unit: int, originals: Sequence[SteeringCommand]) -> None:
    """Submit the commands that were applied to a unit elsewhere, to be applied at the same places.

    Those that were refused are refused there again; those that wait or were withdrawn are left out.
    """
    columns = [name for name in _COLUMNS if name not in {"id", "taken", "outcome"}]
    statement = f"INSERT INTO wishes (run, unit, {', '.join(columns)}) VALUES (?, ?{', ?' * len(columns)})"  # noqa: S608
    with runs.atomic(run) as db:
        db.executemany(
            statement,
            [
                (run, unit, *(getattr(original, name) for name in columns))
                for original in originals
                if original.taken is not None and original.place is not None
            ],
        )


def _applied(runs: RunStore, run: str) -> Iterator[tuple[int, str, str]]:
    """Yield unit, kind and concept of the commands that were applied to a run, by unit and then in order."""
    statement = (
        "SELECT unit, kind, concept, outcome FROM wishes WHERE run = ? AND taken IS NOT NULL AND step IS NOT NULL"
    )
    rows = runs.rows(f"{statement} ORDER BY unit, id", run, needs=_NEEDS)
    for unit, kind, concept, outcome in rows:
        if not (outcome or "").startswith(REFUSED):
            yield unit, kind, concept


def _checked(runs: RunStore, run: Run, unit: int, kind: str, concept: str) -> str:
    """Return the concept of a command as the unit knows it.

    Raises:
        UsageError: the command is not possible.
    """
    if kind not in get_args(SteeringKind):
        raise UsageError(
            f"{kind!r:.40} is not a steering command", f"the commands are {', '.join(get_args(SteeringKind))}"
        )
    if kind == "again":
        if concept:
            raise UsageError(f"again takes no concept, not {concept!r:.60}", "to suggest a concept, use try")
        return ""
    if kind == "facet":
        return concept
    scored = [trial for trial in runs.trials(run.id, unit) if trial.concept and trial.score is not None]
    named = find_duplicate(concept, [trial.concept or "" for trial in scored])
    if named is None:
        try:
            named = normalise_concept(concept)
        except ValueError as error:
            raise UsageError(f"{concept!r:.60} is no concept: {error}", "name one to three words") from None
    earlier = [command for command in commands(runs, run.id, unit) if command.counts]
    problem = _problem(kind, named, scored, earlier, run.settings)
    if problem:
        remedy = "--unban undoes a ban" if problem == _BANNED else f"see `line show {run.id} {unit}`"
        raise UsageError(f"unit {unit} of run {run.id}: {named!r} {problem}", remedy)
    return named


_BANNED = "is banned"


def _problem(
    kind: str,
    named: str,
    scored: Sequence[Trial],
    earlier: Sequence[SteeringCommand],
    settings: Mapping[str, Any],
) -> str:
    """Return why a command is not possible, in words that follow its concept; empty if it is."""
    key = concept_key(named)
    banned = banned_concepts((command.kind, command.concept) for command in earlier)
    is_banned = find_duplicate(named, banned) is not None
    if kind in {"ban", "unban"}:
        return {("ban", True): "is banned already", ("unban", False): "is not banned"}.get((kind, is_banned), "")
    if kind == "unpin":
        kinds = [one.kind for one in earlier if concept_key(one.concept) == key and one.kind != "try"]
        return "" if kinds[-1:] == ["pin"] else "is not pinned"
    if is_banned:
        return _BANNED
    trial = next((trial for trial in scored if concept_key(trial.concept or "") == key), None)
    if kind == "pin":
        return "" if trial else "was never scored, so it has no place"
    if find_duplicate(named, [one.concept for one in earlier if one.kind == "try" and one.taken is None]):
        return "is waiting to be tried already"
    refused = trial is not None and settings.get("duplicates", "refuse") == "refuse"
    return f"was scored already, at step {trial.step}" if trial and refused else ""


def _current_user() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "somebody"
    return f"{user} on {this_machine().host}"


def _decode(row: Sequence[Any]) -> SteeringCommand:
    values = dict(zip(_COLUMNS, row, strict=True))
    if values["node"] not in {None, "", *NODES}:
        node = clean_text(str(values["node"]), 80)
        raise DamagedError(
            f"steering command {values['id']} was applied before {node!r}, which is no node of the loop",
            "open the store with the version that wrote it, or put a backup of runs.db in its place",
        )
    with damaged_row("wishes", {"id": values["id"]}):
        command: SteeringCommand = _adapter().validate_python(values | {"outcome": values["outcome"] or ""})
        return command


@cache
def _adapter() -> TypeAdapter[SteeringCommand]:
    return TypeAdapter(SteeringCommand)
