"""Remove runs from a store, with everything that belongs to them alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from line_neurons.agent.errors import UsageError
from line_neurons.tools.json_text import loads
from line_neurons.tools.store import sqlite as databases
from line_neurons.tools.store.leases import acquire, run_lock_path
from line_neurons.tools.store.locks import shared_lock
from line_neurons.tools.store.runs import RunStore
from line_neurons.tools.store.sqlite import translate_errors

_TABLES = ("facets", "unit_facets", "events", "wishes", "steps", "units", "leases")
"""Tables with rows of a run, in the order in which they are emptied: foreign keys are enforced."""
AUDIT_MARK = " (audit,"
"""Follows the name of a run in the source of edits of classes' images, which are no edits of its units."""
_STEPS = (
    "SELECT count(*) FROM (SELECT DISTINCT unit, step FROM steps"
    " WHERE run = ? AND kind IN ('iteration', 'summary'))"
)
_NAMES = "(SELECT value FROM json_each(?))"


@dataclass(frozen=True)
class RunContent:
    """What a store holds of a run.

    Args:
        steps: number of their iterations and summaries.
        evaluations: number of the evaluations of its labels.
        forks: runs that were forked from it; they have copies of what they need, except for a replay.
    """

    run: str
    units: int
    steps: int
    checkpoints: int
    evaluations: int
    forks: tuple[str, ...]


def run_content(runs: RunStore, run: str) -> RunContent:
    """Count what a store holds of a run.

    Raises:
        StoreError: a database cannot be read.
    """
    store = runs.path.parent
    return RunContent(
        run,
        int(runs.rows("SELECT count(*) FROM units WHERE run = ?", run)[0][0]),
        int(runs.rows(_STEPS, run)[0][0]),
        _count(store, "checkpoints", f"{run}/", f"{run}0"),
        _count(store, "evaluations", run),
        tuple(
            str(name)
            for (name,) in runs.rows(
                "SELECT id FROM runs WHERE forked_from = ? ORDER BY rowid", run, needs="runs.forked_from"
            )
        ),
    )


# The names of a run's threads are those between: "0" comes after "/".
_COUNTS = {
    "checkpoints": "SELECT count(*) FROM checkpoints WHERE thread_id > ? AND thread_id < ?",
    "evaluations": "SELECT count(*) FROM evaluations WHERE source = ?",
}


def _count(store: Path, table: str, *values: str) -> int:
    path = store / f"{table}.db"
    if not path.is_file():
        return 0
    with translate_errors(path), closing(databases.open_readonly(path)) as db:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = ?", [table]).fetchone():
            return 0
        return int(db.execute(_COUNTS[table], values).fetchone()[0])


def images_of_runs(runs: RunStore, names: Sequence[str], *, others: bool = False) -> set[str]:
    """Return the ids of the images that some runs refer to or, with ``others``, that all other runs do."""
    among = f"run {'NOT ' if others else ''}IN {_NAMES}"
    found: set[str] = set()
    for table in ("steps", "units"):
        # Units have no images in stores of the first version.
        if "images" in runs.columns(table):
            statement = f"SELECT DISTINCT images FROM {table} WHERE images IS NOT NULL AND {among}"  # noqa: S608
            for (images,) in runs.rows(statement, json.dumps(list(names))):
                # What is no list in a damaged store names no image.
                with suppress(ValueError, TypeError):
                    found.update(map(str, loads(images)))
    return found


def remove_runs(
    runs: RunStore, names: Sequence[str], on_progress: Callable[[str, int, int], None] | None = None
) -> None:
    """Remove runs with their units, histories, checkpoints, steering commands and evaluations; images stay.

    The run's own rows go last, in one transaction: after a kill the runs are still listed, and removing them again
    completes it.

    Args:
        runs: the store, opened to write.
        on_progress: see ``acquire``.

    Raises:
        UsageError: a process works on one of them; nothing was removed.
        StoreError: a database cannot be written.
    """
    store = runs.path.parent
    with shared_lock(store), acquire(runs, names, on_progress=on_progress):
        for database, statements in _elsewhere(store):
            path = store / database
            with (
                translate_errors(path),
                closing(databases.connect(path, lambda db: None, isolation_level=None)) as db,
                databases.transaction(db),
            ):
                for statement in statements:
                    db.executemany(statement, [{"run": name} for name in names])
        with runs.atomic(*names) as db:
            for table in _TABLES:
                db.executemany(f"DELETE FROM {table} WHERE run = ?", [(name,) for name in names])  # noqa: S608
            db.executemany("DELETE FROM runs WHERE id = ?", [(name,) for name in names])
        for name in names:
            # Whoever waited for it finds no run.
            with suppress(OSError):
                run_lock_path(store, name).unlink(missing_ok=True)


def _elsewhere(store: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the statements that remove what a run has in the other databases."""
    threads = "thread_id > :run || '/' AND thread_id < :run || '0'"
    of_run = "(SELECT id FROM evaluations WHERE source = :run)"
    edited = f"(source = :run OR substr(source, 1, length(:run) + {len(AUDIT_MARK)}) = :run || '{AUDIT_MARK}')"
    of_edits = f"(SELECT id FROM edit_evaluations WHERE {edited})"  # noqa: S608
    of_audits = "(SELECT id FROM audits WHERE source = :run)"
    of_sets = "(SELECT id FROM visual_evaluations WHERE source = :run)"
    statements = {
        "checkpoints.db": {
            "checkpoints": f"DELETE FROM checkpoints WHERE {threads}",  # noqa: S608
            "writes": f"DELETE FROM writes WHERE {threads}",  # noqa: S608
        },
        "evaluations.db": {
            "edits": f"DELETE FROM edits WHERE evaluation IN {of_edits}",  # noqa: S608
            "edited_units": f"DELETE FROM edited_units WHERE evaluation IN {of_edits}",  # noqa: S608
            "visual_sets": f"DELETE FROM visual_sets WHERE evaluation IN {of_sets}",  # noqa: S608
            "visual_evaluations": "DELETE FROM visual_evaluations WHERE source = :run",
            "edit_evaluations": f"DELETE FROM edit_evaluations WHERE {edited}",  # noqa: S608
            "audited_features": f"DELETE FROM audited_features WHERE audit IN {of_audits}",  # noqa: S608
            "audits": "DELETE FROM audits WHERE source = :run",
            "judged": f"DELETE FROM judged WHERE evaluation IN {of_run}",  # noqa: S608
            "evaluations": "DELETE FROM evaluations WHERE source = :run",
        },
    }
    for database, by_table in statements.items():
        path = store / database
        if path.is_file():
            with translate_errors(path), closing(databases.open_readonly(path)) as db:
                tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
            yield database, [statement for table, statement in by_table.items() if table in tables]


def find_runs(runs: RunStore, names: Sequence[str]) -> list[str]:
    """Return the ids of runs, each once, by their ids or unambiguous beginnings.

    Raises:
        UsageError: there is no such run, or several.
    """
    if not names:
        raise UsageError("no run is named", "see `line runs`")
    return list(dict.fromkeys(runs.run(name).id for name in names))
