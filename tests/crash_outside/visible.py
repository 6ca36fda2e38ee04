"""All that is visible of a store when a story is over, but for times and what a kill rightly leaves a note of."""

import csv
import json
import sqlite3
import zipfile
from contextlib import closing

# Times, and what names a moment, a process or the place of the store.
FLEETING = {
    "seconds", "created", "finished", "taken", "began", "ended", "token", "process", "boot", "beat", "beats",
    "command", "store", "applied_at", "when", "cpu_seconds", "spent", "times", "sheet",
}  # fmt: skip
# Events have a row for each time that a process worked on a run, which kills and resumes multiply.
TABLES = {
    "runs": ("runs", "units", "steps", "wishes"),
    "bank": ("draws", "activations", "controls"),
    "replies": None,
}


def visible(world):
    """By place, what the commands say and the databases hold; and what the check of the store finds."""
    seen = {}
    runs = sorted(world.states())
    units = world.rows("SELECT run, unit FROM units ORDER BY run, unit")
    commands = [["show", run, str(unit), "--json"] for run, unit in units]
    commands += [["results", run, "--format", "jsonl"] for run in runs]
    commands += [["runs", "--json"], ["doctor", "--deep", "--json"]]
    answers = world.look(*commands)
    for command, answer in zip(commands[:-1], answers, strict=False):
        rows = answer.splitlines() if command[0] == "results" else [answer]
        try:
            said = [lasting(json.loads(row)) for row in rows if row.strip()]
            # Runs are listed by when they began, which is chance where two begin at once.
            seen["line " + " ".join(command)] = sorted(said[0], key=repr) if command[0] == "runs" else said
        except ValueError:
            seen["line " + " ".join(command)] = answer
    for name, tables in TABLES.items():
        for table, rows in _rows(world.folder / "store" / f"{name}.db", tables):
            seen[f"{name}.db: {table}"] = rows
    seen["pictures"] = sorted(path.name for path in (world.folder / "store" / "images").glob("*/*"))
    seen["hidden files"] = sorted(
        str(path.relative_to(world.folder)) for path in world.folder.rglob(".*") if ".before-" not in path.name
    )
    seen["outputs"] = dict(sorted(_outputs(world.folder / "out")))
    return seen, [problem["detail"] for problem in json.loads(answers[-1])["problems"]]


def lasting(value):
    """A value of JSON without what is fleeting."""
    if isinstance(value, dict):
        return {key: lasting(one) for key, one in value.items() if key not in FLEETING and key != "events"}
    return [lasting(one) for one in value] if isinstance(value, list) else value


def differences(seen, expected):
    """One line for each place that is not as expected."""
    return [
        f"{place}: {_first(seen.get(place), expected.get(place))}"
        for place in sorted(seen.keys() | expected.keys())
        if seen.get(place) != expected.get(place)
    ]


def _rows(path, tables):
    if not path.is_file():
        return
    with closing(sqlite3.connect(path)) as database:
        database.row_factory = sqlite3.Row
        if tables is None:
            tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            rows = []
            for row in database.execute(f'SELECT * FROM "{table}"'):
                kept = {k: row[k] for k in row.keys() if k not in FLEETING and (k, table) != ("id", "wishes")}  # noqa: SIM118
                rows.append({k: lasting(_parsed(v)) for k, v in kept.items()})
            yield table, sorted(rows, key=repr)


def _parsed(value):
    try:
        return json.loads(value) if isinstance(value, str) and value[:1] in "{[" else value
    except ValueError:
        return value


def _outputs(folder):
    """Each file with what it holds: rows, or the names in an archive."""
    for path in folder.rglob("*"):
        holds = []
        if path.suffix == ".csv":
            holds = [lasting(row) for row in csv.DictReader(path.read_text().splitlines())]
        elif path.suffix == ".jsonl" and path.parent == folder:
            holds = [lasting(json.loads(row)) for row in path.read_text().splitlines()]
        elif path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                holds = [archive.testzip(), *sorted(archive.namelist())]
        yield str(path.relative_to(folder)), holds


def _first(seen, expected):
    """Where two values first differ."""
    if isinstance(seen, dict) and isinstance(expected, dict):
        for key in sorted(seen.keys() | expected.keys()):
            if seen.get(key) != expected.get(key):
                return f"{key}: {_first(seen.get(key), expected.get(key))}"
    if isinstance(seen, list) and isinstance(expected, list):
        for one, other in zip(seen, expected, strict=False):
            if one != other:
                return _first(one, other)
        return f"{len(seen)} instead of {len(expected)} entries: {(seen + expected)[-1]!r:.300}"
    return f"{seen!r:.200} instead of {expected!r:.200}"
