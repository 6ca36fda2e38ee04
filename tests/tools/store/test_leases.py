"""Who holds a run: one process at a time, on one machine or several, whatever the clocks say."""

import multiprocessing
import os
import signal
import threading
import time
from contextlib import ExitStack, contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from line_neurons.agent.errors import StoreError, TakenOverError, UsageError
from line_neurons.tools.store import leases
from line_neurons.tools.store.leases import (
    MachineId,
    acquire,
    lease_status,
    lease_unit,
    request_stop,
    run_lock_path,
)
from line_neurons.tools.store.records import Run, Step, Unit
from line_neurons.tools.store.runs import RunStore

FORK = multiprocessing.get_context("fork")
HERE, ELSEWHERE = MachineId("here", "boot 1"), MachineId("elsewhere", "boot 2")


def add(store, name="r-1"):
    store.add_run(Run(name, "net:x", "head", 0, "running", 1.0, {}, {}, {}), [Unit(name, 0, 0), Unit(name, 1, 1)])


@pytest.fixture
def store(tmp_path):
    opened = RunStore(tmp_path)
    add(opened)
    return opened


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Beats and waits that a test can wait for."""
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.02)
    monkeypatch.setattr(leases, "STALE_SECONDS", 0.5)
    monkeypatch.setattr(leases, "_LIVENESS_SECONDS", 0.3)
    monkeypatch.setattr(leases, "_POLL_SECONDS", 0.02)


@contextmanager
def at(machine):
    """Let this process believe that it runs on another machine."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(leases, "this_machine", lambda: machine)
        yield


def _hold(root, machine, told, jump):
    leases.this_machine = lambda: machine
    if jump:
        real = time.time
        leases.time.time = lambda: real() + jump
    store = RunStore(root)
    stopped = threading.Event()
    with acquire(store, ["r-1"], lambda reason: (told.send(reason), stopped.set())), lease_unit(store, "r-1", 1):
        told.send("holding")
        stopped.wait(60)
    told.send("done")


@contextmanager
def holder(store, machine=None, jump=0.0):
    """A process that holds run r-1, and has unit 1 in hand, until it is to stop; gives it and what it tells."""
    hears, tells = FORK.Pipe(duplex=False)
    arguments = (store.path.parent, machine or leases.this_machine(), tells, jump)
    process = FORK.Process(target=_hold, args=arguments)
    process.start()
    try:
        assert hears.poll(60)
        assert hears.recv() == "holding"
        yield process, hears
    finally:
        process.kill()
        process.join()


def test_a_run_is_held_by_one_and_free_afterwards(store):
    with (
        acquire(store, ["r-1"]),
        pytest.raises(UsageError, match="r-1 is in use"),
        acquire(store, ["r-1"]),
    ):
        pass
    assert lease_status(store) == {}
    with acquire(store, ["r-1"]):
        pass


def test_a_second_process_is_told_which_one_where_and_since_when(store):
    with holder(store) as (process, _), pytest.raises(UsageError) as refused, acquire(store, ["r-1"]):
        pass
    said = str(refused.value)
    assert f"process {process.pid} on {leases.this_machine().host} since {time.strftime('%Y-')}" in said
    assert "last heard of" in said
    assert "line stop r-1" in said


def test_two_processes_hold_different_runs_of_one_store(store):
    add(store, "r-2")
    with holder(store), acquire(store, ["r-2"]):
        assert {run: one.stale for run, one in lease_status(store).items()} == {"r-1": False, "r-2": False}


def test_of_several_runs_all_are_held_or_none(store):
    add(store, "r-0")
    add(store, "r-2")
    with holder(store), pytest.raises(UsageError, match="r-1"), acquire(store, ["r-2", "r-1", "r-0"]):
        pass
    assert lease_status(store).keys() <= {"r-1"}
    with acquire(store, ["r-0", "r-2"]):
        assert lease_status(store).keys() >= {"r-0", "r-2"}


def test_viewers_see_holder_and_units_in_hand_while_they_are_in_hand(store):
    with holder(store) as (process, hears):
        viewer = RunStore(store.path.parent, read_only=True)
        seen = lease_status(viewer)["r-1"]
        assert (seen.holder.process, seen.units, seen.stale) == (process.pid, (1,), False)
        assert request_stop(store, seen.holder)
        hears.recv()
        assert hears.recv() == "done"
    assert lease_status(viewer) == {}


def test_what_a_killed_process_left_is_stale_and_taken_over_at_once(store, monkeypatch):
    monkeypatch.setattr(leases, "STALE_SECONDS", 3600)
    with holder(store) as (process, _):
        process.kill()
        process.join()
        left = lease_status(store)["r-1"]
        assert (left.stale, left.units) == (True, (1,))
        with acquire(store, ["r-1"]):
            now = lease_status(store)["r-1"]
            assert (now.holder.process, now.units, now.stale) == (os.getpid(), (), False)
    (event,) = store.events("r-1")
    assert (event["kind"], event["detail"]["process"]) == ("taken over", process.pid)


def test_a_suspended_process_of_this_machine_keeps_its_run(store):
    with holder(store) as (process, _):
        os.kill(process.pid, signal.SIGSTOP)
        with pytest.raises(UsageError, match=f"process {process.pid}"), acquire(store, ["r-1"]):
            pass
        assert not lease_status(store)["r-1"].stale


@pytest.mark.parametrize("jump", [0.0, 1e9, -1e9], ids=["same clock", "ahead", "behind"])
def test_a_living_process_of_another_machine_keeps_its_run_whatever_its_clock(store, jump):
    leases.STALE_SECONDS = leases._LIVENESS_SECONDS = 60
    with holder(store, ELSEWHERE, jump) as (process, _):
        with pytest.raises(UsageError, match=f"process {process.pid} on elsewhere"), acquire(store, ["r-1"]):
            pass
        assert not lease_status(store)["r-1"].stale


@pytest.mark.parametrize("jump", [0.0, 1e9, -1e9], ids=["same clock", "ahead", "behind"])
def test_a_dead_process_of_another_machine_is_watched_and_then_followed_whatever_its_clock(store, jump):
    with holder(store, ELSEWHERE, jump) as (process, _):
        process.kill()
        process.join()
    told = []
    leases.STALE_SECONDS = 1.2
    with acquire(store, ["r-1"], on_progress=lambda what, done, total: told.append((what, done, total))):
        assert lease_status(store)["r-1"].holder.process == os.getpid()
    assert told == [(f"waiting for a sign of life from process {process.pid} on elsewhere", 1, 1)]


def _follow(root, machine, go, tells, over):
    leases.this_machine = lambda: machine
    store = RunStore(root)
    go.wait()
    try:
        with acquire(store, ["r-1"]):
            tells.put("held")
            over.wait(60)
    except UsageError:
        tells.put("refused")


def test_of_machines_that_follow_a_dead_one_at_once_one_gets_the_run(store):
    with holder(store, ELSEWHERE) as (process, _):
        process.kill()
        process.join()
    leases.STALE_SECONDS = 1.5
    go, over, tells = FORK.Event(), FORK.Event(), FORK.Queue()
    machines = [MachineId(f"host {number}", "boot") for number in range(4)]
    followers = [FORK.Process(target=_follow, args=(store.path.parent, one, go, tells, over)) for one in machines]
    for follower in followers:
        follower.start()
    go.set()
    try:
        assert sorted(tells.get(timeout=60) for _ in followers) == ["held", "refused", "refused", "refused"]
    finally:
        over.set()
        for follower in followers:
            follower.join()


def test_the_wait_for_a_sign_of_life_can_be_broken_off(store):
    with holder(store, ELSEWHERE) as (process, _):
        process.kill()
        process.join()
    leases.STALE_SECONDS = 3600

    def stop(what, done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), acquire(store, ["r-1"], on_progress=stop):
        pass
    assert lease_status(store)["r-1"].holder.process == process.pid


def test_a_dead_holder_elsewhere_looks_stale_once_its_last_beat_is_old_by_any_clock(store, monkeypatch):
    with holder(store, ELSEWHERE) as (process, _):
        process.kill()
        process.join()
    real = time.time
    for jump in (3600, -3600):
        monkeypatch.setattr(leases.time, "time", lambda jump=jump: real() + jump)
        assert lease_status(store)["r-1"].stale
    assert not lease_status(store, check_liveness=False)["r-1"].stale


def test_a_suspended_process_that_was_followed_learns_it_and_writes_nothing_more(store):
    with holder(store, ELSEWHERE) as (process, hears):
        os.kill(process.pid, signal.SIGSTOP)
        with acquire(store, ["r-1"]):
            store.update_unit("r-1", 0, label="new")
            os.kill(process.pid, signal.SIGCONT)
            assert hears.poll(60)
            assert hears.recv() == "taken over"
            assert hears.recv() == "done"
            assert lease_status(store)["r-1"].holder.process == os.getpid()


def test_every_write_to_a_run_that_was_taken_over_is_refused_and_says_who_has_it(store):
    other = RunStore(store.path.parent)
    add(store, "r-2")
    step = Step("r-1", 0, 0, 0, "initial", "scored", "fox", 1.0)
    leases.STALE_SECONDS = 0
    with at(ELSEWHERE), acquire(store, ["r-1"]), at(HERE), acquire(other, ["r-1"]):
        for write in (
            lambda: store.update_run("r-1", status="failed"),
            lambda: store.update_unit("r-1", 0, label="old"),
            lambda: store.put_step(step),
            lambda: store.drop_steps("r-1", "initial"),
            lambda: store.add_event("r-1", "work"),
            lambda: lease_unit(store, "r-1", 0).__enter__(),
        ):
            with pytest.raises(TakenOverError, match=f"taken over by process {os.getpid()} on here"):
                write()
        with pytest.raises(TakenOverError), store.atomic():
            store.update_run("r-2", status="failed")
            store.update_run("r-1", status="failed")
        assert [run.status for run in other.runs()] == ["running", "running"]
        other.put_step(step)
    assert len(store.steps("r-1", 0)) == 1


def test_a_write_after_the_follower_has_finished_is_refused_too(store):
    other = RunStore(store.path.parent)
    leases.STALE_SECONDS = 0
    with at(ELSEWHERE), acquire(store, ["r-1"]):
        with at(HERE), acquire(other, ["r-1"]):
            pass
        with pytest.raises(TakenOverError, match="has finished"):
            store.update_run("r-1", status="failed")
    store.update_run("r-1", status="failed")


def test_a_holder_is_asked_to_stop_once_it_has_the_run_and_not_afterwards(store):
    with holder(store) as (_, hears):
        one = lease_status(store)["r-1"].holder
        assert request_stop(store, one)
        assert hears.recv() == f"asked to stop by process {os.getpid()} on {leases.this_machine().host}"
        assert hears.recv() == "done"
    assert not request_stop(store, one)


def test_a_clock_that_jumps_neither_stops_the_beats_nor_loses_the_run(store, monkeypatch):
    real = time.time
    with acquire(store, ["r-1"]):
        for jump in (1e9, -1e9):
            monkeypatch.setattr(leases.time, "time", lambda jump=jump: real() + jump)
            before = lease_status(store, check_liveness=False)["r-1"].holder.beats
            while lease_status(store, check_liveness=False)["r-1"].holder.beats < before + 2:
                time.sleep(0.01)
            store.update_run("r-1", status="running")


def test_beats_go_on_after_the_store_could_not_be_written_for_a_while(store, monkeypatch):
    real, failing = store.atomic, threading.Event()

    @contextmanager
    def atomic(*runs):
        if failing.is_set():
            failed.set()
            raise StoreError("the disk is full")
        with real(*runs) as db:
            yield db

    failed = threading.Event()
    monkeypatch.setattr(store, "atomic", atomic)
    with acquire(store, ["r-1"]):
        failing.set()
        assert failed.wait(60)
        failing.clear()
        before = lease_status(store)["r-1"].holder.beats
        while lease_status(store)["r-1"].holder.beats < before + 2:
            time.sleep(0.01)


def test_a_run_of_a_folder_that_cannot_be_written_cannot_be_held(store):
    (store.path.parent / "locks").write_text("")
    with pytest.raises(StoreError, match="cannot be used"), acquire(store, ["r-1"]):
        pass


def test_a_machine_s_name_is_no_path(tmp_path):
    assert run_lock_path(tmp_path, "r-1", MachineId("../a b", "")).parent == tmp_path / "locks"


MOVES = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(["take", "write", "release", "die"])), min_size=1, max_size=25
)


@settings(max_examples=25)
@given(MOVES)
def test_there_are_never_two_that_can_write(tmp_path_factory, moves):
    """Three machines that take every other for dead at once: whoever took the run last can write to it, alone."""
    root = tmp_path_factory.mktemp("store")
    add(RunStore(root))
    stores, holding, last = [RunStore(root) for _ in range(3)], {}, None
    leases.STALE_SECONDS, leases.BEAT_SECONDS = 0, 3600
    with ExitStack() as everything:
        for who, move in moves:
            if move == "take" and who not in holding:
                stack = everything.enter_context(ExitStack())
                with at(MachineId(f"host {who}", "boot")):
                    stack.enter_context(acquire(stores[who], ["r-1"]))
                holding[who], last = stack, who
            elif move == "release" and who in holding:
                holding.pop(who).close()
                last = None if last == who else last
            elif move == "die" and who in holding:
                # What it held stays behind; its machine never comes back.
                last = None if last == who else last
                stores[who].close()
                stores[who] = RunStore(root)
                holding.pop(who).pop_all()
            elif move == "write":
                for one, opened in enumerate(stores):
                    if one not in holding:
                        continue
                    try:
                        opened.update_run("r-1", status=f"by {one}")
                        written = True
                    except TakenOverError:
                        written = False
                    assert written == (one == last)
