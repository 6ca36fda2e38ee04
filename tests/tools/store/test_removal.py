"""Runs that are deleted, and what nothing refers to afterwards."""

import json
import multiprocessing
import os
import shutil
import signal
import sqlite3
from contextlib import closing, contextmanager

import pytest

from line_neurons.agent.errors import UsageError
from line_neurons.graphs.runs.fork import fork
from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.tools.doctor import disk_space
from line_neurons.tools.doctor import store as store_check
from line_neurons.tools.store.leases import acquire
from line_neurons.tools.store.removal import runs as removal
from line_neurons.tools.store.removal.runs import find_runs, remove_runs, run_content
from line_neurons.tools.store.results.evaluations import CosyScore, Evaluation, Evaluations
from line_neurons.tools.store.runs import RunStore
from support.fakes import LAYER, ScriptedModel, scripted_components

FIRST, SECOND = "model-head-1", "model-head-2"


def components_for(store, seed=0, **settings):
    model = ScriptedModel(lambda prompt, number, temperature: f"thing {number}")
    return scripted_components(store, model, iterations=2, seed=seed, **settings)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two finished runs with different proposals, and an evaluation of each."""
    store = tmp_path_factory.mktemp("made") / "store"
    for seed in (0, 1):
        components = components_for(store, seed)
        work(components, start(components, LAYER, ["0-1"]))
        components.cache.close()
        components.runs.close()
    evaluations = Evaluations(store)
    for run in (FIRST, SECOND):
        evaluation = Evaluation("LINE", run, "model", LAYER, "bank", "bank", "fixed", 0, 5)
        evaluations.put(evaluation, [CosyScore(0, "thing", 0.9, 1.0, 0.1, 1.0, 5)])
    evaluations.close()
    return store


@pytest.fixture
def store(made, tmp_path):
    return shutil.copytree(made, tmp_path / "store")


def rows(store, database, statement):
    with closing(sqlite3.connect(store / database)) as db:
        return db.execute(statement).fetchall()


def runs_named(store):
    """The run of every row of every table that has one."""
    tables = {"units": "run", "steps": "run", "events": "run", "leases": "run", "runs": "id"}
    named = {
        run
        for table, column in tables.items()
        for (run,) in rows(store, "runs.db", f"SELECT {column} FROM {table}")
    }
    threads = rows(store, "checkpoints.db", "SELECT thread_id FROM checkpoints UNION SELECT thread_id FROM writes")
    return named | {thread.partition("/")[0] for (thread,) in threads}


def images_of(store, run):
    texts = rows(store, "runs.db", f"SELECT images FROM steps WHERE run = '{run}' AND images IS NOT NULL")
    return {image for (text,) in texts for image in json.loads(text)}


def remove(store, *names):
    with closing(RunStore(store)) as runs:
        remove_runs(runs, find_runs(runs, names))


def test_a_removed_run_leaves_nothing_and_the_other_everything(store):
    with closing(RunStore(store)) as runs:
        content = run_content(runs, FIRST)
    assert (content.units, content.steps, content.evaluations) == (2, 6, 1)
    assert content.checkpoints == 2
    remove(store, FIRST)
    assert runs_named(store) == {SECOND}
    assert rows(store, "evaluations.db", "SELECT source FROM evaluations") == [(SECOND,)]
    assert rows(store, "evaluations.db", "SELECT count(*) FROM judged") == [(1,)]
    assert not list((store / "locks").glob(f"{FIRST}@*"))
    assert store_check.check(store, deep=True) == []


def test_a_run_that_a_process_works_on_is_refused_and_stays(store):
    with (
        closing(RunStore(store)) as holder,
        acquire(holder, [FIRST]),
        closing(RunStore(store)) as runs,
        pytest.raises(UsageError, match=FIRST),
    ):
        remove_runs(runs, [SECOND, FIRST])
    assert runs_named(store) == {FIRST, SECOND}


def killed_amid(store, place):
    """Remove the first run, and kill the process before the change of a database; for a process of its own."""
    runs, atomic, transaction = RunStore(store), RunStore.atomic, removal.databases.transaction

    @contextmanager
    def killed(*args):
        with (atomic if place == "runs.db" else transaction)(*args) as db:
            yield db
            if place != "runs.db" or len(args) > 1:
                os.kill(os.getpid(), signal.SIGKILL)

    def after(db):
        name = db.execute("PRAGMA database_list").fetchone()[2]
        return killed(db) if name.endswith(place) else transaction(db)

    if place == "runs.db":
        RunStore.atomic = killed
    else:
        removal.databases.transaction = after
    remove_runs(runs, [FIRST])


@pytest.mark.parametrize("place", ["checkpoints.db", "evaluations.db", "runs.db"])
def test_a_kill_amid_a_removal_leaves_a_run_that_the_next_one_removes(store, place):
    process = multiprocessing.get_context("fork").Process(target=killed_amid, args=(store, place))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert runs_named(store) == {FIRST, SECOND}
    with closing(RunStore(store)) as runs:
        assert len(runs.units(FIRST)) == 2
    remove(store, FIRST)
    assert runs_named(store) == {SECOND}
    assert store_check.check(store, deep=True) == []


def test_a_fork_continues_without_its_origin_and_no_new_run_has_that_name(store):
    components = components_for(
        store,
        1,
    )
    runs = components.runs
    new = fork(components, runs.run(SECOND), 0, 1)
    assert run_content(runs, SECOND).forks == (new.id,)
    remove(store, SECOND)
    later = components_for(store, 1)
    assert work(later, later.runs.run(new.id)).status == "finished"
    assert start(components, LAYER, ["0"]).id not in {SECOND, new.id}


def test_gc_removes_what_only_the_removed_run_referred_to(store):
    first, second = images_of(store, FIRST), images_of(store, SECOND)
    assert first - second
    assert disk_space.survey(store).images == []
    remove(store, FIRST)
    found = disk_space.survey(store)
    assert set(found.images) == first - second
    assert found.image_bytes == sum((store / "images" / i[:2] / f"{i}.png").stat().st_size for i in first - second)
    assert len(list((store / "images").rglob("*.png"))) == len(first | second)
    disk_space.collect(store)
    assert {path.stem for path in (store / "images").rglob("*.png")} == second
    assert {image for (image,) in rows(store, "bank.db", "SELECT image FROM draws")} == second
    assert {image for (image,) in rows(store, "bank.db", "SELECT image FROM activations")} == second
    assert store_check.check(store, deep=True) == []
    assert disk_space.survey(store).size == 0


def test_gc_of_a_store_without_runs_frees_its_control_set_too(store):
    remove(store, FIRST, SECOND)
    assert list((store / "controls").glob("*.npz"))
    found = disk_space.collect(store)
    assert found.controls
    assert not list((store / "controls").glob("*.npz"))
    assert rows(store, "bank.db", "SELECT count(*) FROM controls") == [(0,)]


def test_gc_keeps_the_images_that_only_a_checkpoint_has(store):
    components = components_for(store, 2)
    run = start(components, LAYER, ["0"])

    def stop(progress):
        if progress.node == "synthesize":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work(components, run, stop)
    components.runs.close()
    components.cache.close()
    before = {path.stem for path in (store / "images").rglob("*.png")}
    assert before - images_of(store, FIRST) - images_of(store, SECOND) - images_of(store, run.id)
    disk_space.collect(store)
    assert {path.stem for path in (store / "images").rglob("*.png")} == before


def test_gc_keeps_the_images_of_evaluated_labels(store):
    remove(store, FIRST)
    generator, concept = rows(
        store,
        "bank.db",
        "SELECT generator, json_extract(request, '$.concept') FROM draws ORDER BY rowid DESC LIMIT 1",
    )[0]
    evaluations = Evaluations(store)
    evaluation = Evaluation(
        "other", "labels.csv", "model", LAYER, "bank", "bank", "fixed", 0, 5, images_id=generator
    )
    evaluations.put(evaluation, [CosyScore(0, concept, 0.9, 1.0, 0.1, 1.0, 5)])
    evaluations.close()
    remove(store, SECOND)
    disk_space.collect(store)
    statement = "SELECT DISTINCT json_extract(request, '$.concept') FROM draws"
    assert rows(store, "bank.db", statement) == [(concept,)]


def test_gc_removes_files_that_a_killed_one_left(store):
    remove(store, FIRST)
    unused = set(disk_space.survey(store).images)
    with closing(sqlite3.connect(store / "bank.db")) as db, db:
        for table in ("draws", "activations"):
            db.executemany(f"DELETE FROM {table} WHERE image = ?", [(image,) for image in unused])
    disk_space.collect(store)
    assert not unused & {path.stem for path in (store / "images").rglob("*.png")}


def test_gc_is_refused_beside_a_process_but_says_what_it_would_free(store):
    with closing(RunStore(store)) as runs, acquire(runs, [FIRST]):
        assert disk_space.survey(store).size == 0
        with pytest.raises(UsageError, match=FIRST):
            disk_space.collect(store)
