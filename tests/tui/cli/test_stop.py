"""`line stop`, and who is said to work on a run, with the real command in processes of its own."""

import json
import multiprocessing
import os
import signal

import pytest

from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.tools.store import leases
from line_neurons.tools.store.leases import MachineId, acquire
from line_neurons.tools.store.runs import RunStore
from support.command_checks import refused
from support.fakes import LAYER, ScriptedModel, scripted_components

FORK = multiprocessing.get_context("fork")
RUN = "model-head-1"


def components_for(store):
    return scripted_components(
        store, ScriptedModel(lambda prompt, seed, temperature: f"thing {seed}"), iterations=2
    )


@pytest.fixture
def store(tmp_path):
    components = components_for(tmp_path / "store")
    start(components, LAYER, ["0-2"])
    components.runs.close()
    return tmp_path / "store"


def _work(store, mouth, machine):
    leases.this_machine = lambda: machine
    leases.BEAT_SECONDS = 0.02
    components = components_for(store)

    def slowly(progress):
        mouth.send(progress.node)
        signal.sigtimedwait([], 0.1)

    work(components, components.runs.run(RUN), slowly)


@pytest.fixture
def worker(store):
    """Starts a process that works on the run, slowly; gives its id once it does."""
    processes = []

    def begin(machine=None):
        hears, mouth = FORK.Pipe(duplex=False)
        process = FORK.Process(target=_work, args=(store, mouth, machine or leases.this_machine()))
        process.start()
        processes.append((process, hears))
        assert hears.poll(60)
        return process

    yield begin
    for process, _ in processes:
        process.kill()
        process.join()


def listed(line):
    (run,) = json.loads(line("runs", "--json")[1])
    return run["status"], run["holder"]


def test_a_run_that_is_worked_on_says_by_whom_and_stops_when_asked(line, worker):
    process = worker()
    status, holder = listed(line)
    assert (status, holder["process"], holder["units"], holder["stale"]) == ("running", process.pid, [0], False)
    assert f"holder: process {process.pid} on" in line("show", RUN)[1]
    assert json.loads(line("show", RUN, "--json")[1])["holder"]["process"] == process.pid
    refused(line("resume", RUN), f"process {process.pid}", f"line stop {RUN}")
    status, said, _ = line("stop", "model", "--wait")
    assert status == 0
    assert f"Stop requested: process {process.pid}" in said
    assert f"Run {RUN} has stopped." in said
    process.join(60)
    assert process.exitcode == 0
    assert listed(line) == ("interrupted", None)


def test_a_killed_worker_leaves_an_interrupted_run_whose_stale_holder_is_told(line, worker):
    process = worker()
    process.kill()
    process.join()
    status, holder = listed(line)
    assert (status, holder["process"], holder["stale"]) == ("interrupted", process.pid, True)
    assert f"process {process.pid} on {holder['host']} (gone)" in line("runs")[1]
    assert "(gone), units 0" in line("show", RUN)[1]
    refused(line("stop", RUN), f"run {RUN} is not active", f"process {process.pid}")


def test_who_waits_for_a_stop_learns_that_the_worker_died(line, worker, monkeypatch):
    process = worker(MachineId("elsewhere", "boot"))
    monkeypatch.setattr(leases, "STALE_SECONDS", 0.3)
    monkeypatch.setattr("line_neurons.tui.cli.steer.STALE_SECONDS", 0.3)
    real = leases.request_stop

    def ask(runs, holder):
        process.kill()
        process.join()
        return real(runs, holder)

    monkeypatch.setattr("line_neurons.tui.cli.steer.request_stop", ask)
    status, said, _ = line("stop", RUN, "--wait")
    assert status == 0
    assert "has stopped" in said


def test_nobody_and_nothing_cannot_be_stopped(line, store):
    refused(line("stop", RUN), f"run {RUN} is not active")
    refused(line("stop", "other"), "'other' is not a run")


def test_a_stop_is_asked_for_without_waiting(line, store):
    with acquire(RunStore(store), [RUN]):
        status, said, _ = line("stop", RUN)
        assert (status, "Stop requested: process" in said, "has stopped" in said) == (0, True, False)
        assert "stop requested by process" in line("show", RUN)[1]
        asked = json.loads(line("stop", RUN, "--json")[1])
        assert (asked["run"], asked["asked"]["process"], asked["stopped"]) == (RUN, os.getpid(), False)
