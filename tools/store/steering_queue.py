"""What people ask of units: written by any process, taken by the one that works on the run.

A wish is no write to the run's own rows, so that whoever may write to the store may ask. It stays in the store
with who asked, when it was taken, at which step, and what came of it.
"""

from __future__ import annotations

import getpass
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from line_neurons.agent.concepts import concept_key, find_duplicate, normalise_concept
from line_neurons.agent.errors import DamagedError, UsageError
from line_neurons.agent.loop import NODES, rank
from line_neurons.agent.steering import SteeringKind
from line_neurons.agent.text import clean_text
from line_neurons.tools.store.leases import this_machine
from line_neurons.tools.store.records import Run
from line_neurons.tools.store.runs import RunStore, open_store

REFUSED = "refused"
"""How the outcome of a wish begins that changed nothing."""


@dataclass(frozen=True)
class SteeringCommand:
    """What somebody asks of a unit.

    Args:
        id: its number; wishes are taken in this order.
        kind: see ``agent.steering.SteeringKind``.
        concept: of what concept; empty for ``again``.
        by: who asked.
        created: when, in seconds since the epoch.
        taken: when the runner took it; None while it waits.
        outcome: what came of it; begins with ``refused`` where it changed nothing.
        step: the step that was in hand when it was taken.
        attempt: how often the model had been asked in that step.
        node: the node before whose work it was taken; empty where the search had ended.

    One that waits though it has a step is of a unit that began again: it is taken where it was taken before.
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
    def applied(self) -> bool:
        """Whether it was taken and changed something."""
        return self.taken is not None and not self.outcome.startswith(REFUSED)

    @property
    def place(self) -> Place | None:
        """Where it was taken, so that places can be compared; None for a wish that is new."""
        if self.step is None or self.attempt is None or self.node is None:
            return None
        return place_of(self.step, self.attempt, self.node)


Place = tuple[int, int, int]
"""A place in a unit's search: step, attempt, and the rank of the node that comes next."""


def place_of(step: int, attempt: int, node: str) -> Place:
    """The place before a node's work; an empty node is the end of a search, before a step beyond it begins.

    Raises:
        ValueError: there is no such node.
    """
    return step, attempt, rank(node)


_COLUMNS = [field.name for field in fields(SteeringCommand)]
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM wishes WHERE run = ? AND unit = ?"  # noqa: S608
_ASK = "INSERT INTO wishes (run, unit, kind, concept, by, created) VALUES (?, ?, ?, ?, ?, ?)"
_MARK = (
    "UPDATE wishes SET taken = ?, step = ?, attempt = ?, node = ?, outcome = ?"
    " WHERE id = ? AND run = ? AND taken IS NULL"
)
_COPY = (
    "INSERT INTO wishes (run, unit, kind, concept, by, created, taken, step, attempt, node, outcome)"
    " SELECT ?, unit, kind, concept, by, created, taken, step, attempt, node, outcome FROM wishes"
    " WHERE run = ? AND unit = ? AND taken IS NOT NULL AND step <= ? ORDER BY id"
)


def submit(store: Path, run: str, unit: int, kind: SteeringKind, concept: str = "") -> None:
    """Ask something of a unit; the runner takes it before the unit's next node.

    Args:
        store: the store's folder.
        run: the run, or the beginning of its name.
        unit: index of the unit.
        kind: what is asked.
        concept: of what concept; empty for ``again``.

    Raises:
        UsageError: there is no such run or unit, or the wish makes no sense.
        StoreError: the store cannot be written.
    """
    with closing(open_store(store, read_only=False, remedy="name another store with --store")) as runs:
        submit_all(runs, runs.run(run), unit, [(kind, concept)])


def submit_all(
    runs: RunStore, run: Run, unit: int, asked: Sequence[tuple[SteeringKind, str]]
) -> list[SteeringCommand]:
    """Ask several things of a unit in order, all or none.

    Returns:
        the wishes as they were written.

    Raises:
        UsageError: there is no such unit, or one of the wishes makes no sense.
        StoreError: the store cannot be written.
    """
    with runs.atomic() as db:
        if not runs.rows("SELECT 1 FROM units WHERE run = ? AND unit = ?", run.id, unit):
            known = ", ".join(str(one.unit) for one in runs.units(run.id)[:12])
            raise UsageError(f"run {run.id} has no unit {unit!r:.60}", f"units: {known}")
        written = []
        for kind, concept in asked:
            named = _checked(runs, run, unit, kind, concept)
            by, now = _current_user(), time.time()
            row = db.execute(_ASK, [run.id, unit, kind, named, by, now]).lastrowid
            written.append(SteeringCommand(row or 0, kind, named, by, now))
    return written


def commands(runs: RunStore, run: str, unit: int) -> list[SteeringCommand]:
    """What was asked of a unit, in order; of an older store that is only looked at: nothing."""
    return _read(runs, f"{_SELECT} ORDER BY id", run, unit)


def pending(runs: RunStore, run: str, unit: int, place: Place) -> list[SteeringCommand]:
    """What was asked of a unit, was not taken yet, and is to be taken at a place of its search; in order.

    Asked before each node, and cheap where there is none.
    """
    waiting = [_decode(row) for row in runs.rows(f"{_SELECT} AND taken IS NULL ORDER BY id", run, unit)]
    return [wish for wish in waiting if wish.place is None or wish.place <= place]


def units_with_pending(runs: RunStore, run: str) -> set[int]:
    """The units of a run of which something was asked that was not taken yet, but for those that failed."""
    if not _known(runs):
        return set()
    statement = (
        "SELECT DISTINCT unit FROM wishes JOIN units USING (run, unit)"
        " WHERE run = ? AND taken IS NULL AND status != 'failed'"
    )
    return {unit for (unit,) in runs.rows(statement, run)}


def banned(runs: RunStore, run: str) -> dict[int, list[str]]:
    """The concepts that may not be a label, by unit of a run."""
    if not _known(runs):
        return {}
    found: dict[int, list[str]] = defaultdict(list)
    taken = "SELECT unit, concept, outcome FROM wishes WHERE run = ? AND kind = 'ban' AND taken IS NOT NULL"
    for unit, concept, outcome in runs.rows(f"{taken} ORDER BY id", run):
        if not outcome.startswith(REFUSED):
            found[unit].append(concept)
    return dict(found)


def applied_kinds(runs: RunStore, run: str) -> dict[int, tuple[str, ...]]:
    """What was granted to people of each unit that they steered, each kind once, by unit of a run."""
    if not _known(runs):
        return {}
    found: dict[int, dict[str, None]] = defaultdict(dict)
    taken = "SELECT unit, kind, outcome FROM wishes WHERE run = ? AND taken IS NOT NULL ORDER BY unit, id"
    for unit, kind, outcome in runs.rows(taken, run):
        if not (outcome or "").startswith(REFUSED):
            found[unit][kind] = None
    return {unit: tuple(kinds) for unit, kinds in found.items()}


def mark_applied(runs: RunStore, run: str, wish: int, *, step: int, attempt: int, node: str, outcome: str) -> bool:
    """Write down that a wish was taken, where, and what came of it; False if that is written already."""
    with runs.atomic(run) as db:
        return db.execute(_MARK, [time.time(), step, attempt, node, outcome, wish, run]).rowcount == 1


def copy_applied(runs: RunStore, run: str, unit: int, until: int, to: str) -> list[SteeringCommand]:
    """Copy the wishes of a unit that were taken up to a step to another run, where they count as taken too."""
    with runs.atomic(to) as db:
        db.execute(_COPY, [to, run, unit, until])
        return commands(runs, to, unit)


def requeue(runs: RunStore, run: str, unit: int, known: Sequence[int]) -> None:
    """Let the wishes wait that a unit's search as it stands does not know, though they were taken once."""
    lost = [wish.id for wish in commands(runs, run, unit) if wish.taken is not None and wish.id not in known]
    if lost:
        with runs.atomic(run) as db:
            statement = "UPDATE wishes SET taken = NULL, outcome = NULL WHERE id = ?"
            db.executemany(statement, [(wish,) for wish in lost])


def reschedule(runs: RunStore, run: str, unit: int, asked: Sequence[SteeringCommand]) -> None:
    """Ask what was taken of a unit elsewhere, to be taken where it was taken there."""
    with runs.atomic(run) as db:
        db.executemany(
            "INSERT INTO wishes (run, unit, kind, concept, by, created, step, attempt, node)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (run, unit, one.kind, one.concept, one.by, one.created, one.step, one.attempt, one.node)
                for one in asked
                if one.taken is not None
            ],
        )


def _checked(runs: RunStore, run: Run, unit: int, kind: str, concept: str) -> str:
    """The concept of a wish as the unit knows it.

    Raises:
        UsageError: the wish makes no sense.
    """
    if kind not in get_args(SteeringKind):
        raise UsageError(f"{kind!r:.40} is nothing that can be asked", f"ask {', '.join(get_args(SteeringKind))}")
    if kind == "again":
        if concept:
            raise UsageError(f"again takes no concept, not {concept!r:.60}", "to try one of your own, ask try")
        return ""
    scored = [trial for trial in runs.trials(run.id, unit) if trial.concept and trial.score is not None]
    named = find_duplicate(concept, [trial.concept or "" for trial in scored])
    if named is None:
        try:
            named = normalise_concept(concept)
        except ValueError as error:
            raise UsageError(f"{concept!r:.60} is no concept: {error}", "name one to three words") from None
    before = commands(runs, run.id, unit)
    forbidden = [wish.concept for wish in before if wish.kind == "ban" and (wish.applied or wish.taken is None)]
    refused = _SENSELESS[kind](named, scored, before, forbidden, run.settings)
    if refused:
        raise UsageError(f"unit {unit} of run {run.id}: {named!r} {refused}", f"see `line show {run.id} {unit}`")
    return named


def _no_pin(
    named: str, scored: Sequence[Any], before: Sequence[SteeringCommand], forbidden: Sequence[str], _: Any
) -> str:
    if find_duplicate(named, forbidden):
        return "is banned"
    return "" if find_duplicate(named, [one.concept for one in scored]) else "was never scored, so it has no place"


def _no_unpin(
    named: str, scored: Sequence[Any], before: Sequence[SteeringCommand], forbidden: Sequence[str], _: Any
) -> str:
    last = ""
    for wish in before:
        if concept_key(wish.concept) == concept_key(named) and (wish.applied or wish.taken is None):
            last = wish.kind if wish.kind != "try" else last
    return "" if last == "pin" else "is not pinned"


def _no_ban(
    named: str, scored: Sequence[Any], before: Sequence[SteeringCommand], forbidden: Sequence[str], _: Any
) -> str:
    return "is banned already" if find_duplicate(named, forbidden) else ""


def _no_try(
    named: str,
    scored: Sequence[Any],
    before: Sequence[SteeringCommand],
    forbidden: Sequence[str],
    settings: Mapping[str, Any],
) -> str:
    if find_duplicate(named, forbidden):
        return "is banned"
    if find_duplicate(named, [wish.concept for wish in before if wish.kind == "try" and wish.taken is None]):
        return "waits to be tried already"
    known = next((one for one in scored if concept_key(one.concept) == concept_key(named)), None)
    if known is None or settings.get("duplicates", "refuse") != "refuse":
        return ""
    return f"was scored already, at step {known.step}"


_SENSELESS = {"pin": _no_pin, "unpin": _no_unpin, "ban": _no_ban, "try": _no_try}


def _current_user() -> str:
    try:
        person = getpass.getuser()
    except (KeyError, OSError):
        person = "somebody"
    return f"{person} on {this_machine().host}"


def _known(runs: RunStore) -> bool:
    # A store that is only looked at may be of an earlier schema.
    return bool(runs.rows("SELECT 1 FROM sqlite_master WHERE name = 'wishes'"))


def _read(runs: RunStore, statement: str, *values: Any) -> list[SteeringCommand]:
    return [_decode(row) for row in runs.rows(statement, *values)] if _known(runs) else []


def _decode(row: Sequence[Any]) -> SteeringCommand:
    values = dict(zip(_COLUMNS, row, strict=True))
    if values["node"] not in {None, "", *NODES}:
        node = clean_text(str(values["node"]), 80)
        raise DamagedError(
            f"wish {values['id']} was taken before {node!r}, which is no node of the loop",
            "open the store with the version that wrote it, or put a backup of runs.db in its place",
        )
    try:
        wish: SteeringCommand = _shape().validate_python(values | {"outcome": values["outcome"] or ""})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise DamagedError(
            f"a row of wishes in runs.db is damaged (id {clean_text(str(values['id']), 80)}): "
            f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
            "put a backup of the file in its place, or name another folder with --store",
        ) from error
    return wish


@cache
def _shape() -> TypeAdapter[SteeringCommand]:
    return TypeAdapter(SteeringCommand)
