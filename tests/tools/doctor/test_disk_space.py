"""Space that a store gives back: what earlier versions kept of finished units, and free pages of its databases."""

import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from line_neurons.agent.errors import UsageError
from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.tools.doctor import store as store_check
from line_neurons.tools.doctor.disk_space import compact
from line_neurons.tools.store.checkpoints import PRUNE
from line_neurons.tools.store.locks import shared_lock
from line_neurons.tools.store.steering_queue import submit_all
from support.fakes import LAYER, ScriptedModel, outcome, scripted_components
from support.full_checkpoints import all_checkpoints_kept, keep_results_of_nodes

FORK = multiprocessing.get_context("fork")


def answer(prompt, seed, temperature):
    return f"thing {seed}"


def components_for(store, **options):
    return scripted_components(store, ScriptedModel(answer), iterations=8, **options)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store that an earlier version left: two finished units, and one that was stopped."""
    store = tmp_path_factory.mktemp("made") / "store"
    components = components_for(store)
    with all_checkpoints_kept():
        run = start(components, LAYER, ["0-2"])
        work(components, run)
    components.runs.update_unit(run.id, 2, status="interrupted")
    components.runs.set_status(run.id, "interrupted")
    components.runs.close()
    components.cache.close()
    keep_results_of_nodes(store)
    return store


@pytest.fixture
def store(made, tmp_path):
    return shutil.copytree(made, tmp_path / "store")


def rows(store, database, statement):
    with closing(sqlite3.connect(store / database)) as db:
        return db.execute(statement).fetchall()


def threads(store):
    """How many checkpoints each unit has."""
    found = rows(store, "checkpoints.db", "SELECT thread_id, count(*) FROM checkpoints GROUP BY thread_id")
    return [count for _, count in sorted(found)]


def content(store):
    """All rows of the runs and the bank."""
    tables = {"runs.db": ("runs", "units", "steps", "events"), "bank.db": ("draws", "activations")}
    return [
        rows(store, name, f"SELECT * FROM {table} ORDER BY rowid") for name in tables for table in tables[name]
    ]


def test_finished_units_keep_their_last_checkpoint_others_all_and_the_files_get_smaller(store):
    before, held = threads(store), content(store)
    given = {one.database: one for one in compact(store)}
    assert threads(store) == [1, 1, before[2]]
    assert before[2] > 20
    assert rows(store, "checkpoints.db", "SELECT DISTINCT thread_id FROM writes") == [("model-head-1/2",)]
    found = given["checkpoints.db"]
    assert (found.pruned, found.after) == (2, (store / "checkpoints.db").stat().st_size)
    assert found.after < found.before / 2
    assert [one.pruned for one in compact(store)] == [0] * len(given)
    assert content(store) == held
    assert store_check.check(store, deep=True) == []


def test_a_pruned_store_is_resumed_and_steered_as_the_one_that_has_all_checkpoints(store, made, tmp_path):
    list(compact(store))
    kept = shutil.copytree(made, tmp_path / "kept")
    ends = []
    for one in (store, kept):
        components = components_for(one)
        run = components.runs.run("model")
        submit_all(components.runs, run, 0, [("ban", components.runs.units(run.id)[0].label), ("again", "")])
        ends.append(outcome(components, work(components, run).id))
    assert ends[0] == ends[1]
    assert len(ends[0][1]) > len(rows(made, "runs.db", "SELECT 1 FROM steps"))


def test_nobody_else_may_work_on_the_store(store):
    before = threads(store)
    with shared_lock(store), pytest.raises(UsageError, match="is in use"):
        list(compact(store))
    assert threads(store) == before


def test_a_folder_that_is_not_there_is_no_store(tmp_path):
    with pytest.raises(UsageError, match="there is no store"):
        list(compact(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def killed_in(store, statement, instructions):
    """Compact a store, and kill the process in the midst of a statement; for a process of its own."""
    left = instructions

    def at_work():
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    class Watched(sqlite3.Connection):
        def execute(self, executed, *values):
            self.set_progress_handler(at_work if executed == statement else None, 50)
            return super().execute(executed, *values)

    connect = sqlite3.connect
    sqlite3.connect = lambda *values, **options: connect(*values, **{"factory": Watched, **options})
    list(compact(store))


@pytest.mark.parametrize("statement", ["VACUUM", PRUNE[0], PRUNE[1]], ids=["vacuum", "writes", "checkpoints"])
@pytest.mark.parametrize("instructions", [0, 3, 10])
def test_a_kill_in_the_middle_loses_nothing_and_the_next_one_goes_on(store, statement, instructions):
    held = content(store)
    process = FORK.Process(target=killed_in, args=(store, statement, instructions))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert min(threads(store)) >= 1
    list(compact(store))
    assert threads(store)[:2] == [1, 1]
    assert content(store) == held
    assert store_check.check(store, deep=True) == []


ON_A_FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from line_neurons.agent.errors import StoreError
from line_neurons.tools.doctor.disk_space import compact
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    list(compact(Path(sys.argv[1])))
except StoreError as error:
    print(error.message, error.remedy, sep="; ")
"""


def test_a_full_disk_is_one_line_and_loses_nothing(store):
    held = content(store)
    command = [sys.executable, "-c", ON_A_FULL_DISK, str(store)]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout.count("\n"), ended.stderr) == (0, 1, "")
    assert "checkpoints.db" in ended.stdout
    assert "line gc again; nothing is lost" in ended.stdout
    assert content(store) == held
    assert list(compact(store))
    assert store_check.check(store, deep=True) == []
