"""Queries of the run store for lists, reports and provenance, each answered by SQLite without reading records."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from itertools import accumulate, groupby
from operator import itemgetter
from typing import Any, NamedTuple

from line_neurons.agent.setting_groups.guidance import WITHOUT_LANGUAGE_MODEL
from line_neurons.tools.json_text import loads
from line_neurons.tools.store.runs import RunStore


def unit_states(runs: RunStore) -> dict[str, dict[str, int]]:
    """Count the units of every run by state."""
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for run, status, count in runs.rows("SELECT run, status, count(*) FROM units GROUP BY run, status"):
        found[run][status] = count
    return found


def unit_verdicts(runs: RunStore, run: str) -> list[tuple[Any, ...]]:
    """Return state, note, AUC and label of each unit of a run; stores of earlier versions have no notes."""
    note = "note" if "note" in runs.columns("units") else "NULL"
    return runs.rows(f"SELECT status, {note}, auc, label FROM units WHERE run = ?", run)  # noqa: S608


def run_revisions(runs: RunStore) -> dict[str, tuple[Any, ...]]:
    """Return, newest run first, values that differ once a run's record has changed.

    They leave out the vocabulary, which may have thousands of words.
    """
    statement = "SELECT id, status, finished, error, settings, fingerprints FROM runs ORDER BY rowid DESC"
    return {row[0]: row for row in runs.rows(statement)}


def last_event_id(runs: RunStore, run: str) -> int | None:
    """Return the id of a run's last event."""
    number: int | None = runs.rows("SELECT max(id) FROM events WHERE run = ?", run)[0][0]
    return number


def last_detail(runs: RunStore, run: str, kind: str) -> Any:
    """Return the detail of a run's last event of a kind; None if there is none, or it is damaged."""
    statement = "SELECT detail FROM events WHERE run = ? AND kind = ? ORDER BY id DESC LIMIT 1"
    rows = runs.rows(statement, run, kind)
    try:
        return loads(rows[0][0]) if rows else None
    except ValueError:
        # Reading the events reports the damaged row.
        return None


def lasting_failure(runs: RunStore, run: str) -> str | None:
    """Return why a run stopped if resuming it as it is fails again; None if it may succeed.

    That is the last event of such a run; whatever is done to it later adds another one.
    """
    statement = "SELECT kind, detail FROM events WHERE run = ? ORDER BY id DESC LIMIT 1"
    for kind, detail in runs.rows(statement, run):
        try:
            values = loads(detail) if kind == "stopped" else None
        except ValueError:
            return None
        if isinstance(values, dict) and values.get("lasting") is True:
            return str(values.get("error", ""))
    return None


def is_known_target(runs: RunStore, fingerprint: str) -> bool:
    """Tell whether the store has a run of a target; the runs' fingerprints add how a layer is read."""
    statement = "SELECT 1 FROM runs WHERE instr(fingerprints, ?) LIMIT 1"
    return bool(runs.rows(statement, json.dumps(fingerprint)[1:-1]))


def largest_margins(runs: RunStore, run: str, limit: int) -> tuple[tuple[str, float], ...]:
    """Return the labels that exceed the initial ones by most, with their margins."""
    statement = (
        "SELECT label, max(score - initial_score) AS margin FROM units WHERE run = ? AND label IS NOT NULL"
        " GROUP BY label HAVING margin IS NOT NULL ORDER BY margin DESC, label LIMIT ?"
    )
    return tuple((str(label), float(margin)) for label, margin in runs.rows(statement, run, limit))


def first_failure(runs: RunStore, run: str) -> tuple[int, str] | None:
    """Return the first failed unit of a run and its error."""
    statement = "SELECT unit, error FROM units WHERE run = ? AND status = 'failed' ORDER BY position LIMIT 1"
    rows = runs.rows(statement, run)
    return (int(rows[0][0]), str(rows[0][1] or "")) if rows else None


def best_scores(runs: RunStore, run: str, units: Sequence[int]) -> dict[int, tuple[float, ...]]:
    """Return the best score of each unit's search after each step that was scored."""
    rows = runs.rows(
        "SELECT unit, max(score) FROM steps WHERE run = ? AND unit IN (SELECT value FROM json_each(?))"
        " AND outcome = 'scored' AND kind != 'revisit' AND typeof(score) IN ('real', 'integer')"
        " GROUP BY unit, step ORDER BY unit, step",
        run,
        json.dumps(list(units)),
    )
    found: dict[int, tuple[float, ...]] = dict.fromkeys(units, ())
    for unit, steps in groupby(rows, itemgetter(0)):
        found[unit] = tuple(accumulate((score for _, score in steps), max))
    return found


def searched_units(runs: RunStore, run: str) -> set[int]:
    """Return the units of a run whose own search has scored a concept."""
    statement = "SELECT DISTINCT unit FROM steps WHERE run = ? AND kind != 'revisit' AND score IS NOT NULL"
    return {unit for (unit,) in runs.rows(statement, run)}


def step_times(runs: RunStore, run: str) -> list[float]:
    """Return when each step of a run was written, in seconds since the epoch; 0 where that is not known."""
    return [
        time for (time,) in runs.rows("SELECT CAST(coalesce(created, 0) AS REAL) FROM steps WHERE run = ?", run)
    ]


def forks(runs: RunStore, run: str, unit: int) -> tuple[str, ...]:
    """Return the runs that were forked from a unit, oldest first."""
    statement = "SELECT id FROM runs WHERE forked_from = ? AND forked_unit = ? ORDER BY rowid"
    return tuple(str(fork) for (fork,) in runs.rows(statement, run, unit, needs="runs.forked_unit"))


def used_names(runs: RunStore) -> set[str]:
    """Return the names of all runs, and of removed ones that other runs refer to: no new run may have them."""
    found = set(runs.names())
    for column, table in (("forked_from", "runs"), ("found_in", "units")):
        statement = f"SELECT DISTINCT {column} FROM {table} WHERE {column} IS NOT NULL"  # noqa: S608
        found.update(str(name) for (name,) in runs.rows(statement, needs=f"{table}.{column}"))
    return found


def run_of_process(runs: RunStore, process: int, host: str) -> str | None:
    """Return a run that a process holds."""
    statement = "SELECT run FROM leases WHERE process = ? AND host = ? AND unit IS NULL"
    rows = runs.rows(statement, process, host, needs="leases.run")
    return str(rows[0][0]) if rows else None


def run_of_command(runs: RunStore, command: str, since: float) -> str | None:
    """Return the last run that a command started at or after a time."""
    statement = "SELECT id FROM runs WHERE command = ? AND created >= ? ORDER BY rowid DESC LIMIT 1"
    rows = runs.rows(statement, command, since)
    return str(rows[0][0]) if rows else None


class Cost(NamedTuple):
    """What the searches of some units took: requests to the language model, and what was measured."""

    requests: int
    reply_seconds: float
    concepts: int
    images: int


def cost(runs: RunStore, run: str, units: Sequence[int]) -> Cost:
    """Sum up what the searches of some units of a run took."""
    of_units = "WHERE run = ? AND unit IN (SELECT value FROM json_each(?))"
    values = run, json.dumps(list(units))
    # An earlier schema has no models of steps.
    model = "model" if "model" in runs.columns("steps") else "NULL"
    (requests, seconds), *_ = runs.rows(
        f"SELECT count(*), coalesce(total(seconds), 0) FROM steps {of_units}"  # noqa: S608
        " AND kind IN ('iteration', 'summary') AND outcome != 'stalled' AND coalesce(origin, '') != 'typed'"
        # A concept that an earlier request named has no seed; where candidates are chosen, nothing was requested.
        f" AND seed IS NOT NULL AND coalesce({model}, '') NOT IN (SELECT value FROM json_each(?))",
        *values,
        json.dumps(sorted(WITHOUT_LANGUAGE_MODEL)),
    )
    scored = f"SELECT count(DISTINCT concept) FROM steps {of_units} AND score IS NOT NULL"  # noqa: S608
    (concepts,), *_ = runs.rows(scored, *values)
    # What is no list in a damaged store has no images.
    (images,), *_ = runs.rows(
        "SELECT count(DISTINCT image.value) FROM steps,"  # noqa: S608
        f" json_each(CASE WHEN json_valid(steps.images) THEN steps.images ELSE '[]' END) AS image {of_units}",
        *values,
    )
    return Cost(requests, seconds, concepts, images)
