"""A run that another process takes over while its holder is suspended, and one that is asked to stop."""

import multiprocessing
import os
import signal
import sqlite3
import threading
import time
from contextlib import closing

import pytest

from line_neurons.agent.errors import TakenOverError
from line_neurons.graphs.runs.lifecycle import retry, start, work
from line_neurons.graphs.runs.revisit import revisit_recorded
from line_neurons.tools.store import leases
from line_neurons.tools.store.leases import MachineId, lease_status, request_stop
from support.fakes import LAYER, ScriptedModel, scripted_components

FORK = multiprocessing.get_context("fork")


def propose(prompt, seed, temperature):
    return f"thing {seed}"


def components_for(store, script=propose, **settings):
    return scripted_components(store, ScriptedModel(script), iterations=2, **settings)


def outcome(components, run):
    units = components.runs.units(run)
    steps = [
        (one.unit, one.step, one.attempt, one.outcome, one.concept, one.score, one.images, one.board)
        for unit in units
        for one in components.runs.steps(run, unit.unit)
    ]
    return [(one.unit, one.status, one.label, one.score) for one in units], steps


def everything(store):
    """All rows of checkpoints and run store but the leases."""
    rows = []
    for name, tables in (
        ("checkpoints.db", ("checkpoints", "writes")),
        ("runs.db", ("runs", "units", "steps", "events")),
    ):
        with sqlite3.connect(store / name) as db:
            rows += [db.execute(f"select * from {table} order by 1, 2, 3").fetchall() for table in tables]
    return rows


def suspended(store, run, beat, in_flight, ear, mouth):
    """Work on a run on another machine; says when the model is asked for the third time, and waits there."""
    leases.this_machine = lambda: MachineId("elsewhere", "boot")
    leases.BEAT_SECONDS = beat
    asked, lock = [], threading.Lock()

    def propose_slowly(prompt, seed, temperature):
        with lock:
            asked.append(seed)
            if len(asked) == 3:
                mouth.send("asked")
                ear.recv()
        return propose(prompt, seed, temperature)

    try:
        work(components_for(store, propose_slowly, max_concurrent_units=in_flight), run)
    except TakenOverError as error:
        mouth.send(str(error))
    else:
        mouth.send("went on")


def suspend(process, store):
    """Suspend a process where it holds no database; amid a write it would keep all others from theirs."""
    while True:
        os.kill(process.pid, signal.SIGSTOP)
        # The signal is only on its way: a thread may run on for a while, and take a database that was free.
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        try:
            for database in store.glob("*.db"):
                with closing(sqlite3.connect(database, timeout=0.2)) as db:
                    db.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError:
            os.kill(process.pid, signal.SIGCONT)
            time.sleep(0.01)


@pytest.mark.parametrize(
    ("beat", "in_flight"), [(3600, 1), (3600, 2), (0.01, 2)], ids=["by a write", "by writes", "by a beat"]
)
def test_a_suspended_process_writes_nothing_after_another_has_taken_over(tmp_path, monkeypatch, beat, in_flight):
    monkeypatch.setattr(leases, "STALE_SECONDS", 0.3)
    whole = components_for(tmp_path / "whole")
    finished = work(whole, start(whole, LAYER, ["0-1"]))
    components = components_for(tmp_path / "store")
    run = start(components, LAYER, ["0-1"])
    (ear, says), (hears, mouth) = FORK.Pipe(duplex=False), FORK.Pipe(duplex=False)
    process = FORK.Process(target=suspended, args=(components.store, run, beat, in_flight, ear, mouth))
    process.start()
    try:
        assert hears.poll(60)
        assert hears.recv() == "asked"
        suspend(process, components.store)
        assert work(components, run).status == "finished"
        before = everything(components.store)
        os.kill(process.pid, signal.SIGCONT)
        says.send("go on")
        assert hears.poll(60)
        assert f"run {run.id} was taken over by another process" in hears.recv()
        process.join(60)
        assert process.exitcode == 0
    finally:
        # Else pytest itself would wait for it, for ever.
        process.kill()
    assert everything(components.store) == before
    assert outcome(components, run.id) == outcome(whole, finished.id)


def test_units_in_flight_and_only_they_have_a_lease(tmp_path):
    components = components_for(tmp_path, max_concurrent_units=2)
    run = start(components, LAYER, ["0-2"])
    seen = []

    def look(progress):
        units = lease_status(components.runs)[run.id].units
        assert len(units) <= 2
        seen.append(progress.unit in units)

    work(components, run, look)
    assert all(seen)
    assert lease_status(components.runs) == {}


def test_a_run_that_is_asked_to_stop_drains_and_resumes_to_the_same_end(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.01)
    whole = components_for(tmp_path / "whole")
    finished = work(whole, start(whole, LAYER, ["0-1"]))
    components = components_for(tmp_path / "store")
    run = start(components, LAYER, ["0-1"])
    asked = threading.Event()

    def stop(progress):
        if not asked.is_set():
            assert request_stop(components.runs, lease_status(components.runs)[run.id].holder)
            asked.set()
        threading.Event().wait(0.05)

    assert work(components, run, stop).status == "interrupted"
    assert outcome(components, run.id) != outcome(whole, finished.id)
    assert work(components_for(tmp_path / "store"), run).status == "finished"
    assert outcome(components, run.id) == outcome(whole, finished.id)


def test_retry_and_revisit_hold_what_they_change(tmp_path, monkeypatch):
    components = components_for(tmp_path)
    run = work(components, start(components, LAYER, ["0"]))
    seen = []
    real = components.runs.add_event

    def add_event(name, kind, *arguments, **detail):
        seen.append((kind, list(lease_status(components.runs))))
        real(name, kind, *arguments, **detail)

    monkeypatch.setattr(components.runs, "add_event", add_event)
    monkeypatch.setattr("line_neurons.graphs.runs.revisit.reopen", lambda *_: components)
    revisit_recorded([run], components.store, None)
    components.runs.update_unit(run.id, 0, status="failed")
    retry(components.runs, run)
    assert seen == [("revisited", [run.id]), ("retry", [run.id])]
