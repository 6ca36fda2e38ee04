"""Databases of earlier and of later versions: brought up to date with a copy from before, or refused."""

import json
import multiprocessing
import os
import signal
import sqlite3
from contextlib import closing

import pytest
from sqlite_utils import Database

from line_neurons.agent.errors import StoreError
from line_neurons.tools.cache import database as bank_folder
from line_neurons.tools.cache.database import CacheDatabase
from line_neurons.tools.cache.file_hashes import FileHashes
from line_neurons.tools.language_models.reply_cache import ReplyCache
from line_neurons.tools.store import migrations as upgrades
from line_neurons.tools.store import runs as run_store
from line_neurons.tools.store import schema as run_schema
from line_neurons.tools.store import sqlite as databases
from line_neurons.tools.store.leases import lease_status
from line_neurons.tools.store.runs import RunStore
from support.released_stores import FINISHED, KILLED, VERSIONS, dump, old_store

FORK = multiprocessing.get_context("fork")
NEXT = {"m001": "m002", "m002": "m003", "m003": "m004"}


def rows(path):
    """The rows of runs, units, steps and events, by column: those columns that hold something."""
    with closing(sqlite3.connect(path)) as db:
        db.row_factory = sqlite3.Row
        return {
            table: [
                {k: v for k, v in dict(row).items() if v is not None}
                for row in db.execute(f"SELECT * FROM {table}")
            ]
            for table in ("runs", "units", "steps", "events")
        }


@pytest.mark.parametrize("version", VERSIONS)
def test_every_released_schema_is_brought_up_to_date_with_all_its_rows(tmp_path, version, caplog):
    path = old_store(tmp_path, version) / "runs.db"
    before, held = dump(path), rows(path)
    store = RunStore(tmp_path)
    if version == "m001":
        # Two settings of the first version are one now.
        for run in held["runs"]:
            recorded = json.loads(run["settings"])
            assert (recorded.pop("pooling"), recorded.pop("tokens")) == ("mean", "cls")
            run["settings"] = json.dumps(recorded | {"pool": "auto"})
    assert not run_schema.SCHEMA.pending(Database(path))
    assert rows(path) == held
    assert [run.id for run in store.runs()] == [KILLED, FINISHED]
    (copy,) = tmp_path.glob("*.bak")
    assert copy.name == f"runs.db.before-{NEXT[version]}.bak"
    assert dump(copy) == before
    (said,) = caplog.messages
    assert str(copy) in said
    RunStore(tmp_path)
    assert (list(tmp_path.glob("*.bak")), len(caplog.messages)) == ([copy], 1)


@pytest.mark.parametrize("version", VERSIONS)
def test_who_only_looks_leaves_an_old_store_as_it_is(tmp_path, version):
    old_store(tmp_path, version)
    before = {path.name: dump(path) for path in tmp_path.glob("*.db")}
    viewer = RunStore(tmp_path, read_only=True)
    assert [run.id for run in viewer.runs()] == [KILLED, FINISHED]
    assert [unit.status for unit in viewer.units(KILLED)] == ["finished", "running"]
    assert viewer.steps(FINISHED, 0)
    assert lease_status(viewer) == {}
    viewer.close()
    assert {path.name: dump(path) for path in tmp_path.glob("*.db")} == before
    assert not list(tmp_path.glob("*.bak"))


@pytest.mark.parametrize(
    ("pooling", "tokens", "pool"),
    [("mean", "cls", "auto"), ("max", "cls", "max"), ("mean", "mean", "mean-tokens"), ("max", "mean", "max")],
)
def test_the_pooling_that_the_first_version_recorded_is_kept_as_one_setting(tmp_path, pooling, tokens, pool):
    old_store(tmp_path, "m001")
    with sqlite3.connect(tmp_path / "runs.db") as db:
        db.execute(
            "UPDATE runs SET settings = json_set(settings, '$.pooling', ?, '$.tokens', ?)", [pooling, tokens]
        )
        columns = "id, model, layer, seed, status, created, settings"
        db.execute(f"INSERT INTO runs ({columns}) VALUES ('x', 'm', 'l', 0, 'finished', 0, '{{')")
    pools = "CASE id WHEN 'x' THEN settings ELSE json_extract(settings, '$.pool') END"
    kept = RunStore(tmp_path).rows(f"SELECT {pools} FROM runs")
    assert kept == [(pool,), (pool,), ("{",)]


def test_a_new_store_needs_no_copy(tmp_path):
    RunStore(tmp_path)
    CacheDatabase(tmp_path)
    assert not list(tmp_path.glob("*.bak"))


def test_a_migration_that_fails_leaves_the_database_as_it_was_and_can_be_tried_again(tmp_path, monkeypatch):
    path = old_store(tmp_path, "m001") / "runs.db"
    before = dump(path)

    def fails(db):
        raise sqlite3.OperationalError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(run_schema.SCHEMA._migrations[-1], "fn", fails)
        for _ in range(2):
            with pytest.raises(StoreError, match="the disk is full"):
                RunStore(tmp_path)
            assert dump(path) == before
    assert RunStore(tmp_path).run(FINISHED)
    # Of what did not change in between, no second copy is kept.
    assert [copy.name for copy in tmp_path.glob("*.bak")] == ["runs.db.before-m002.bak"]


def test_a_copy_is_never_overwritten(tmp_path):
    path = old_store(tmp_path, "m003") / "runs.db"
    (tmp_path / "runs.db.before-m004.bak").write_text("mine")
    before = dump(path)
    RunStore(tmp_path)
    assert (tmp_path / "runs.db.before-m004.bak").read_text() == "mine"
    assert dump(tmp_path / "runs.db.before-m004-2.bak") == before


def test_a_copy_that_cannot_be_written_leaves_the_database_as_it_was(tmp_path, monkeypatch):
    path = old_store(tmp_path, "m003") / "runs.db"
    before = dump(path)

    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(databases.os, "fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        RunStore(tmp_path)
    assert dump(path) == before
    assert not [file.name for file in tmp_path.iterdir() if "before" in file.name]


def _killed(root, place):
    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    if place == "in a migration":
        run_schema.SCHEMA._migrations[-1].fn = die
    elif place == "in the copy":
        databases.os.fsync = die
    else:
        upgrades._log.warning = die
    RunStore(root)


@pytest.mark.parametrize("place", ["in the copy", "in a migration", "after its commit"])
def test_a_kill_in_the_middle_leaves_the_old_database_or_the_new_one(tmp_path, place):
    path = old_store(tmp_path, "m001") / "runs.db"
    before, steps = dump(path), rows(path)["steps"]
    process = FORK.Process(target=_killed, args=(tmp_path, place))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert (dump(path) == before) == (place != "after its commit")
    RunStore(tmp_path)
    assert rows(path)["steps"] == steps
    (copy,) = tmp_path.glob("*.bak")
    assert dump(copy) == before
    assert not list(tmp_path.glob(".*before*"))


def _open(root, go, opened):
    go.wait()
    store = RunStore(root)
    opened.put((os.getpid(), len(store.runs())))


def test_of_processes_that_open_an_old_store_at_once_one_migrates_and_the_others_wait(tmp_path):
    old_store(tmp_path, "m001")
    go, opened = FORK.Event(), FORK.Queue()
    processes = [FORK.Process(target=_open, args=(tmp_path, go, opened)) for _ in range(4)]
    for process in processes:
        process.start()
    go.set()
    assert {opened.get(timeout=60)[1] for _ in processes} == {2}
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert [copy.name for copy in tmp_path.glob("*.bak")] == ["runs.db.before-m002.bak"]
    assert not run_schema.SCHEMA.pending(Database(tmp_path / "runs.db"))


def test_processes_that_make_the_same_new_store_at_once_make_one(tmp_path):
    go, opened = FORK.Event(), FORK.Queue()
    processes = [FORK.Process(target=_open, args=(tmp_path, go, opened)) for _ in range(4)]
    for process in processes:
        process.start()
    go.set()
    assert {opened.get(timeout=60)[1] for _ in processes} == {0}


def test_a_bank_with_images_is_copied_before_its_schema_changes(tmp_path, monkeypatch):
    folder = CacheDatabase(tmp_path)
    with folder.transaction() as db:
        db.execute("INSERT INTO controls VALUES ('key', '[]', '[]', NULL)")
    folder.close()
    before = dump(tmp_path / "bank.db")
    number = len(bank_folder._MIGRATIONS) + 1
    later = (*bank_folder._MIGRATIONS, ("ALTER TABLE draws ADD COLUMN note TEXT",))
    monkeypatch.setattr(bank_folder, "_MIGRATIONS", later)
    folder = CacheDatabase(tmp_path)
    assert folder.one("SELECT count(*), count(note) FROM controls LEFT JOIN draws", ()) == (1, 0)
    assert dump(tmp_path / f"bank.db.before-m{number:03d}.bak") == before


def _newer(path):
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")


def _ask(root):
    return ReplyCache(root / "replies.db").get("prompt", "model")


def _hash(root):
    return FileHashes(root / "digests.db").of([root])


@pytest.mark.parametrize(
    ("name", "use"), [("bank.db", CacheDatabase), ("replies.db", _ask), ("digests.db", _hash)]
)
def test_a_database_of_a_newer_version_is_refused_and_left_as_it_is(tmp_path, name, use):
    use(tmp_path)
    _newer(tmp_path / name)
    before = dump(tmp_path / name)
    with pytest.raises(StoreError, match=rf"{name}' was made by a newer version \(schema 99"):
        use(tmp_path)
    assert dump(tmp_path / name) == before


@pytest.mark.parametrize("read_only", [False, True])
def test_a_run_store_of_a_newer_version_is_refused_even_if_it_became_so_just_now(tmp_path, monkeypatch, read_only):
    old_store(tmp_path, "m003")
    with sqlite3.connect(tmp_path / "runs.db") as db:
        db.execute("INSERT INTO _sqlite_migrations VALUES (99, 'line-runs', 'm999_future', '2040-01-01')")
    before = dump(tmp_path / "runs.db")
    with pytest.raises(StoreError, match="newer version"):
        RunStore(tmp_path, read_only=read_only)
    if not read_only:
        # As if another process had made it newer while this one waited for its turn.
        real, looks = run_store._refuse_newer, []
        monkeypatch.setattr(
            run_store, "_refuse_newer", lambda *at: looks.append(at) or (len(looks) > 2 and real(*at))
        )
        with pytest.raises(StoreError, match="newer version"):
            RunStore(tmp_path)
    assert dump(tmp_path / "runs.db") == before
    assert not list(tmp_path.glob("*.bak"))
