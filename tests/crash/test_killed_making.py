"""Processes killed while a store's databases are made, or amid a write of an older kind: nothing is ever stuck.

`make crash` kills 500 times here; the number of kills is the variable LINE_KILLS.
"""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress

import pytest

from line_neurons.tools.cache.file_hashes import FileHashes
from line_neurons.tools.doctor import store as store_check
from line_neurons.tools.doctor.store import DATABASES
from support.released_stores import FINISHED, VERSIONS, old_store

KILLS = 500 if "LINE_KILLS" in os.environ else 12
FILES = 600
"""Their hashes are written down in three transactions."""

AMID_A_WRITE = """
import os, signal, sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
assert db.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
db.execute("PRAGMA cache_size = 1")
db.execute("BEGIN IMMEDIATE")
db.execute("CREATE TABLE IF NOT EXISTS half_written (text)")
db.executemany("INSERT INTO half_written VALUES (?)", [("x" * 4000,)] * 50)
os.kill(os.getpid(), signal.SIGKILL)
"""


def kill_amid_a_write(path):
    """Leave a rollback journal that SQLite must play back before the database can be read."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = DELETE").fetchone()
    died = subprocess.run([sys.executable, "-c", AMID_A_WRITE, str(path)], check=False)
    assert died.returncode == -signal.SIGKILL
    assert path.with_name(f"{path.name}-journal").stat().st_size
    with pytest.raises(sqlite3.OperationalError, match="readonly"), closing(read_only(path)) as db:
        db.execute("SELECT * FROM sqlite_master").fetchall()


def read_only(path):
    return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    for number in range(FILES):
        file = folder / f"{number:03d}"
        file.write_bytes(b"%d" % number)
        # A file that has just changed is not remembered.
        os.utime(file, (0, 0))
    return folder


def test_databases_whose_making_is_killed_are_made_by_the_next_process(nursery, files, tmp_path):
    assert nursery.do(store=str(tmp_path / "first"), files=str(files)) == 0
    began = time.monotonic()
    assert nursery.do(store=str(tmp_path / "whole"), files=str(files)) == 0
    seconds = time.monotonic() - began
    rng, left, stories, kills = random.Random(0), set(), 0, 0
    expected = FileHashes().of(sorted(files.iterdir()))
    while kills < KILLS:
        store = tmp_path / str(stories)
        stories += 1
        for _ in range(rng.randint(1, 4)):
            child = nursery.start(store=str(store), files=str(files))
            time.sleep(rng.uniform(0, seconds))
            # It may have ended by itself.
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            kills += nursery.wait() == -signal.SIGKILL
            if store.exists():
                left |= {problem.kind for problem in store_check.check(store, deep=True)}
        assert nursery.do(store=str(store), files=str(files)) == 0
        assert FileHashes(store / "digests.db").of(sorted(files.iterdir())) == expected
        for name in DATABASES:
            with closing(sqlite3.connect(store / name)) as db:
                assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert {problem.kind for problem in store_check.check(store, deep=True)} <= {"leftover"}
    assert left <= {"leftover"}
    print(f"\nkilled while databases were made: {kills} in {stories} stores, 0 stuck")  # noqa: T201


@pytest.mark.parametrize("name", DATABASES)
def test_a_rollback_journal_left_by_a_killed_process_keeps_nobody_out(name, tmp_path, nursery, files):
    store = tmp_path / "store"
    assert nursery.do(store=str(store), files=str(files)) == 0
    kill_amid_a_write(store / name)
    assert store_check.check(store, deep=True) == []
    kill_amid_a_write(store / name)
    assert nursery.do(store=str(store), files=str(files)) == 0
    with closing(read_only(store / name)) as db:
        assert not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'half_written'").fetchall()
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize("name", ["runs.db", "bank.db", "checkpoints.db"])
@pytest.mark.parametrize("command", [["runs"], ["show", FINISHED], ["doctor"], ["results", FINISHED]], ids=str)
def test_commands_go_on_after_it(name, command, line, tmp_path):
    store = old_store(tmp_path, VERSIONS[-1])
    kill_amid_a_write(store / name)
    status, _, err = line(*command, "--store", store)
    assert (status, "readonly" in err) == (0, False), err


def test_a_run_database_without_tables_holds_no_runs(line, tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "runs.db").touch()
    assert "no runs" in line("runs")[1]
    status, _, err = line("show", "x")
    assert (status, "there are no runs" in err) == (2, True)
