"""A store that somebody else wrote: every column that holds text holds hostile text."""

import csv
import io
import json
import shutil
import sqlite3
from contextlib import closing

import pytest

from hostile.components import LAYER, Talker, hostile_components
from hostile.sandbox import confined
from hostile.texts import LARGE, NAMED, obeyed
from line_neurons.agent.errors import StoreError
from line_neurons.agent.text import clean_text
from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.tools.cache.activation_cache import Cache
from line_neurons.tools.store.leases import run_lock_path
from line_neurons.tui.app.runs.screen import RunsScreen
from line_neurons.tui.app.unit.prompt import PromptScreen
from line_neurons.tui.app.unit.screen import UnitScreen
from line_neurons.tui.app.units.screen import UnitsScreen
from support.app_pilot import SIZES, opened, rested, shown, until
from support.command_checks import refused

# What SQLite holds.
TEXTS = [text for name, text in NAMED.items() if name != "lone surrogates"]
# Several at once, for the time's sake.
JOINED = ["\n".join(TEXTS[start::6]) for start in range(6)]
IDS = {"id", "run", "image", "images"}
JSON = {"settings", "fingerprints", "versions", "vocabulary", "board", "detail", "request", "provenance"}
DATABASES = {"runs.db": ("runs", "units", "steps", "events"), "bank.db": ("draws",)}


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A store of one run of one unit, and the run's name."""
    store = tmp_path_factory.mktemp("own") / "store"
    components = hostile_components(
        store, Talker(), ("a", "b", "c"), iterations=1, summary=False, top=2, random=1, images=1
    )
    run = work(components, start(components, LAYER, ["0"]))
    components.runs.close()
    components.cache.close()
    return store, run.id


@pytest.fixture
def foreign(own, tmp_path, line, monkeypatch):
    """A sandbox with a copy of the store, the run's name, and what a foreign hand does to its rows."""
    folder = tmp_path / "sandbox"
    shutil.copytree(own[0], folder / "store")
    monkeypatch.setenv("LINE_STORE", str(folder / "store"))

    def change(database, statement, *values):
        with closing(sqlite3.connect(folder / "store" / database)) as opened, opened:
            opened.execute(statement, values)

    return folder, own[1], change


def with_text(value, text):
    """A value of a JSON column with ``text`` in place of each text, as a name too."""
    if isinstance(value, dict):
        return {key: with_text(one, text) for key, one in value.items()} | {text: text}
    if isinstance(value, list):
        return [with_text(one, text) for one in value]
    return text if isinstance(value, str) else value


def write_everywhere(store, text):
    for database, tables in DATABASES.items():
        with closing(sqlite3.connect(store / database)) as opened, opened:
            for table in tables:
                kinds = {name: kind for _, name, kind, *_ in opened.execute(f"PRAGMA table_info({table})")}
                for column in (name for name, kind in kinds.items() if kind == "TEXT" and name not in IDS):
                    kept = opened.execute(f"SELECT rowid, {column} FROM {table}").fetchmany(3)
                    if column in JSON:
                        kept = [(row, json.dumps(with_text(json.loads(one), text))) for row, one in kept if one]
                    else:
                        kept = [(row, text) for row, _ in kept]
                    opened.executemany(f"UPDATE {table} SET {column} = ?2 WHERE rowid = ?1", kept)


def test_every_text_in_every_column_is_shown_inert_and_exported_as_it_is(own, foreign, line):
    folder, run, _ = foreign
    store = folder / "store"
    for text in JOINED:
        for database in DATABASES:
            # Not by file: a command's connections end with its process, and here stay open on the files.
            with (
                closing(sqlite3.connect(own[0] / database)) as source,
                closing(sqlite3.connect(store / database)) as copy,
            ):
                source.backup(copy)
        write_everywhere(store, text)
        with confined(folder):
            for command in (("runs",), ("show", run), ("show", run, "0"), ("results", run)):
                status, out, err = line(*command)
                assert (status, err) == (0, "")
                assert obeyed(out) == []
                assert len(out) < 2_000_000
            for command in (("runs",), ("show", run), ("show", run, "0")):
                status, out, err = line(*command, "--json")
                assert (status, err) == (0, "")
                assert obeyed(out) == []
                json.loads(out)
            assert json.loads(out)["unit"]["label"] == text
            status, out, err = line("results", run, "--format", "csv")
            (row,) = csv.DictReader(io.StringIO(out, newline=""))
            assert row["label"].removeprefix("'") == clean_text(text, 4000)
            assert json.loads(line("results", run, "--format", "jsonl")[1])["label"] == text
            refused(line("resume", run))


def test_a_million_characters_are_cut_where_they_are_shown_and_whole_in_json(foreign, line):
    _, run, change = foreign
    change("runs.db", "UPDATE units SET label = ?, error = ?", LARGE["escapes"], LARGE["one word"])
    for command in (("runs",), ("show", run), ("show", run, "0"), ("results", run)):
        status, out, err = line(*command)
        assert (status, err) == (0, "")
        assert obeyed(out) == []
        assert len(out) < 100_000
    status, out, err = line("show", run, "--json")
    assert (status, err) == (0, "")
    assert "\x1b" not in out
    assert json.loads(out)["units"][0]["label"] == LARGE["escapes"]


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.mark.anyio
@pytest.mark.parametrize("size", SIZES, ids=str)
async def test_the_terminal_app_shows_every_text_inert_and_stands(own, foreign, size):
    folder, _, change = foreign
    store = folder / "store"
    for text in [*JOINED, LARGE["escapes"]]:
        for database in DATABASES:
            shutil.copy(own[0] / database, store)
        if text in JOINED:
            write_everywhere(store, text)
        else:
            change("runs.db", "UPDATE units SET label = ?1, error = ?1", text)
            change("runs.db", "UPDATE steps SET concept = ?1, reasoning = ?1, reply = ?1", text)
        with confined(folder):
            async with opened(store, size=size) as pilot:
                for screen, key in (
                    (RunsScreen, "enter"), (UnitsScreen, "enter"), (UnitScreen, "v"), (PromptScreen, "escape")
                ):  # fmt: skip
                    await until(pilot, lambda screen=screen: isinstance(pilot.app.screen, screen))
                    await rested(pilot)
                    assert obeyed(shown(pilot)) == []
                    assert links(pilot) == []
                    await pilot.press(key)
                await until(pilot, lambda: isinstance(pilot.app.screen, UnitScreen))


def links(pilot):
    """Where the text on the screen would lead a terminal to."""
    strips = pilot.app.screen._compositor.render_strips()
    return [part.style.link for strip in strips for part in strip if part.style and part.style.link]


def test_a_run_whose_name_is_no_name_is_refused_by_every_command(foreign, line):
    folder, _, change = foreign
    for text in [NAMED["path"], *TEXTS[::3], JOINED[0], LARGE["escapes"]]:
        for table, column in (("runs", "id"), ("units", "run"), ("steps", "run")):
            change("runs.db", f"UPDATE {table} SET {column} = ?", text)
        before = files(folder)
        with confined(folder):
            for command in (
                ("runs",),
                ("resume",),
                *((verb, "--", text) for verb in ("show", "results", "retry")),
            ):
                status, out, err = line(*command)
                assert "Traceback" not in err
                assert obeyed(out + err) == []
                if text not in {"--help", ".."}:
                    assert (status, out) == (2, "")
        assert files(folder) == before


def files(folder):
    return sorted(path for path in folder.rglob("*") if not path.name.endswith(("-shm", "-wal")))


@pytest.mark.parametrize("name", ["../../owned", "/owned", "", "a/b", "a\0", "a" * 300, "a b", "$(id)"])
def test_a_name_that_could_be_a_path_or_a_command_locks_nothing(tmp_path, name):
    with pytest.raises(StoreError, match="is named"):
        run_lock_path(tmp_path / "store", name)


@pytest.mark.parametrize(
    "image", ["../../../victim", "/victim", "", "A" * 64, "a" * 63, "\x1b[31m", "a" * 64 + "\n"]
)
def test_the_id_of_a_image_that_could_be_a_path_reads_and_removes_nothing(foreign, line, image):
    folder, run, change = foreign
    victim = folder / "victim.png"
    victim.write_bytes(b"precious")
    change("bank.db", "UPDATE draws SET image = ?", image)
    change("runs.db", "UPDATE steps SET images = ? WHERE images != '[]'", json.dumps([image]))
    with confined(folder):
        status, out, err = line("show", run, "0")
        assert status == 0
        assert "has an id that no image has" in err
        assert obeyed(out + err) == []
        bank = Cache(folder / "store")
        with pytest.raises(StoreError, match="is not the id of an image"):
            bank.image_bytes(image)
        bank.close()
    assert victim.read_bytes() == b"precious"
