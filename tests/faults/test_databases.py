"""Full and read-only disks, locked and damaged databases, clocks that go back: what is said and what is kept, and
that the run, once the cause is mended, ends as one that nothing disturbed."""

import multiprocessing
import os
import resource
import shutil
import sqlite3
import subprocess
import time
from contextlib import closing, contextmanager, suppress
from itertools import count

import pytest

from line_neurons.agent.errors import StoreError
from line_neurons.graphs.runs.lifecycle import retry, start, work
from line_neurons.tools.cache.activation_cache import Cache
from line_neurons.tools.cache.database import CacheDatabase
from line_neurons.tools.cache.file_hashes import FileHashes
from line_neurons.tools.language_models.reply_cache import ReplyCache
from line_neurons.tools.store import sqlite as databases
from line_neurons.tools.store.checkpoints import Checkpoints, LeaseCheckedSaver
from line_neurons.tools.store.leases import acquire
from line_neurons.tools.store.runs import RunStore
from support.command_checks import refused
from support.fakes import LAYER
from support.whole_runs import NEEDED, begun, closed, components_for, copy_of, outcome, stopped_after


def one_line(error, *words):
    """An error as the command prints it: one line with a remedy and these words."""
    assert isinstance(error, StoreError)
    assert error.remedy
    assert "\n" not in str(error)
    for word in words:
        assert word in str(error)


def mount(*arguments):
    """Mount for a test, which is skipped where that is not permitted."""
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")


@contextmanager
def mounted(folder, *arguments):
    mount(*arguments, folder)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of its own, of eight megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    with mounted(disk, "-t", "tmpfs", "-o", "size=8m", "none"):
        yield disk


def fill(disk):
    """Leave no room on a disk; gives the file that takes it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    return filler


@pytest.mark.parametrize(
    ("owner", "name", "visit"),
    [
        (Cache, "put_control", 1),
        (CacheDatabase, "write", 4),
        (CacheDatabase, "transaction", 5),
        (RunStore, "put_steps", 2),
        (LeaseCheckedSaver, "put", 6),
        (ReplyCache, "put", 2),
        (RunStore, "update_unit", 4),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_a_disk_that_fills_up_at_any_write_stops_the_run_and_loses_nothing(
    small_disk, undisturbed, monkeypatch, owner, name, visit
):
    components, run = begun(small_disk / "store")
    visits, fillers, real = count(1), [], getattr(owner, name)

    def write(*arguments, **options):
        if next(visits) == visit:
            fillers.append(fill(small_disk))
        return real(*arguments, **options)

    monkeypatch.setattr(owner, name, write)
    with pytest.raises(StoreError) as caught:
        work(components, run)
    assert fillers, caught.value
    one_line(caught.value, "make space on its disk")
    closed(components)
    fillers[0].unlink()
    assert not list((small_disk / "store").rglob(".*")), "a half-written file was left"
    again = components_for(small_disk / "store")
    assert work(again, run).status == "finished"
    assert outcome(again, run) == undisturbed


def within(size, store, run):
    """Work on a run in a process none of whose files may grow larger."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    try:
        work(components_for(store), run)
    except StoreError as error:
        os._exit(10 if "disk" in str(error) or "space" in str(error) else 11)
    os._exit(12)


@pytest.mark.parametrize("size", [24_000, 48_000])
def test_files_that_may_not_grow_stop_the_run_and_lose_nothing(tmp_path, undisturbed, size):
    components, run = begun(tmp_path)
    closed(components)
    child = multiprocessing.get_context("fork").Process(target=within, args=(size, tmp_path, run))
    child.start()
    child.join(60)
    assert child.exitcode == 10
    again = components_for(tmp_path)
    work(again, run)
    assert outcome(again, run) == undisturbed


def test_a_read_only_store_can_be_looked_at_and_is_one_line_to_who_would_write(tmp_path, undisturbed):
    store = tmp_path / "store"
    components, run = begun(store)
    closed(components)
    with mounted(store, "--bind", store):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(store)], check=True)
        looking = RunStore(store, read_only=True)
        assert looking.runs() == [run]
        looking.close()
        for use in (lambda: RunStore(store), lambda: Cache(store), lambda: Checkpoints(store / "c.db")):
            with pytest.raises(StoreError) as caught:
                use()
            one_line(caught.value, str(store), "make the folder writable")
    again = components_for(store)
    work(again, run)
    assert outcome(again, run) == undisturbed


@pytest.mark.parametrize("name", [*NEEDED, "replies.db"])
def test_a_database_that_another_process_keeps_to_itself_is_waited_for_and_then_told(
    tmp_path, undisturbed, monkeypatch, name
):
    monkeypatch.setattr(databases, "BUSY_TIMEOUT", 0.1)
    components, run = begun(tmp_path)
    with closing(sqlite3.connect(tmp_path / name, isolation_level=None, check_same_thread=False)) as other:
        locked = []

        def lock(progress):
            if progress.node == "update" and not locked:
                locked.append(other.execute("BEGIN EXCLUSIVE"))

        with pytest.raises(StoreError) as caught:
            work(components, run, lock)
        one_line(caught.value, name, "was in use by another process for more than 0.1 s", "wait for that process")
        other.execute("ROLLBACK")
    closed(components)
    again = components_for(tmp_path)
    work(again, run)
    assert outcome(again, run) == undisturbed


def header(file):
    file.write_bytes(b"\xff" * 100 + file.read_bytes()[100:])


def middle(file):
    content = file.read_bytes()
    file.write_bytes(content[:4096] + b"\xa5" * (len(content) - 4096))


def truncated(file):
    os.truncate(file, 4096 + 100)


def folder(file):
    file.unlink()
    file.mkdir()


DAMAGES = [header, middle, truncated, folder]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", NEEDED)
def test_a_damaged_database_is_named_and_a_backup_in_its_place_lets_the_run_end(
    half_done, undisturbed, tmp_path, name, damage
):
    store, run = copy_of(half_done, tmp_path)
    damage(store / name)
    with pytest.raises(StoreError) as caught:
        components = components_for(store)
        components.runs.names()
        if work(components, run).status == "failed":
            # The unit whose entries are damaged fails; nothing else does.
            (unit,) = [unit for unit in components.runs.units(run.id) if unit.status == "failed"]
            raise StoreError(f"{name}: {unit.error}", "line doctor")
    one_line(caught.value, name, "line doctor")
    shutil.rmtree(store / name) if (store / name).is_dir() else (store / name).unlink()
    for left in store.glob(f"{name}-*"):
        left.unlink()
    shutil.copy(half_done[0] / name, store)
    again = components_for(store)
    work(again, run)
    assert outcome(again, run) == undisturbed


@pytest.mark.parametrize("damage", DAMAGES[:3], ids=lambda damage: damage.__name__)
def test_the_command_says_in_one_line_that_a_run_store_is_damaged(half_done, tmp_path, line, damage):
    store, run = copy_of(half_done, tmp_path)
    damage(store / "runs.db")
    before = (store / "runs.db").read_bytes()
    for command in (["runs"], ["show", run.id], ["results", run.id], ["resume", run.id]):
        refused(line(*command), "runs.db", "is damaged", f"line doctor --store {store} --fix")
    assert (store / "runs.db").read_bytes() == before


@pytest.mark.parametrize("name", ["checkpoints.db", "bank.db"])
@pytest.mark.parametrize("instead", [lambda file: None, lambda file: file.touch()], ids=["gone", "empty"])
def test_without_checkpoints_or_bank_the_run_ends_as_it_would_have(
    half_done, undisturbed, tmp_path, name, instead
):
    store, run = copy_of(half_done, tmp_path)
    (store / name).unlink()
    instead(store / name)
    components = components_for(store)
    work(components, run)
    assert outcome(components, run) == undisturbed


def test_damaged_control_activations_are_computed_anew(half_done, undisturbed, tmp_path):
    store, run = copy_of(half_done, tmp_path)
    with closing(sqlite3.connect(store / "bank.db")) as database, database:
        assert database.execute("UPDATE controls SET classes = '[\"class a'").rowcount
    components = components_for(store)
    work(components, run)
    assert outcome(components, run) == undisturbed


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_reply_cache_is_set_aside_and_the_run_goes_on(half_done, undisturbed, tmp_path, damage, caplog):
    store, run = copy_of(half_done, tmp_path)
    damage(store / "replies.db")
    components = components_for(store)
    work(components, run)
    assert outcome(components, run) == undisturbed
    assert (store / "replies.db.damaged-1").exists()
    assert "replies.db is damaged; it was renamed to replies.db.damaged-1" in caplog.text


@pytest.mark.parametrize("damage", [header, folder], ids=lambda damage: damage.__name__)
def test_damaged_hashes_of_files_are_set_aside_and_made_anew(tmp_path, damage):
    (tmp_path / "one").write_bytes(b"1")
    os.utime(tmp_path / "one", (1, 1))
    path = tmp_path / "digests.db"
    first = FileHashes(path).of([tmp_path / "one"])
    damage(path)
    assert FileHashes(path).of([tmp_path / "one"]) == first
    assert (tmp_path / "digests.db.damaged-1").exists()
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA quick_check").fetchone() == ("ok",)


def dying(store, run):
    stopped_after(components_for(store), run, "update", then=lambda: os._exit(9))


def garbage(file):
    file.write_bytes(os.urandom(file.stat().st_size))


@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.parametrize("damage", [lambda file: file.unlink(), garbage], ids=["gone", "garbage"])
def test_what_a_lost_log_held_is_done_again(tmp_path, undisturbed, name, damage):
    components, run = begun(tmp_path)
    closed(components)
    child = multiprocessing.get_context("fork").Process(target=dying, args=(tmp_path, run))
    child.start()
    child.join(60)
    assert child.exitcode == 9
    damage(tmp_path / f"{name}-wal")
    again = components_for(tmp_path)
    if run.id not in again.runs.names():
        pytest.fail("the run itself was only in the log")
    work(again, run)
    assert outcome(again, run) == undisturbed


def test_a_damaged_checkpoint_fails_its_unit_alone_and_retry_begins_that_unit_again(
    half_done, undisturbed, tmp_path
):
    store, run = copy_of(half_done, tmp_path)
    with closing(sqlite3.connect(store / "checkpoints.db")) as database, database:
        changed = database.execute("UPDATE checkpoints SET checkpoint = substr(checkpoint, 1, 40)").rowcount
    assert changed
    components = components_for(store, max_consecutive_failures=2)
    assert work(components, run).status == "failed"
    failed, other = components.runs.units(run.id)
    assert (failed.status, other.status) == ("failed", "finished")
    assert failed.error.startswith(f"the checkpoint of unit 0 of run {run.id} cannot be resumed from")
    assert f"line retry {run.id}" in failed.error
    assert retry(components.runs, run) == 1
    assert work(components, run).status == "finished"
    assert outcome(components, run) == undisturbed


def test_an_error_of_what_is_done_with_a_run_is_not_taken_for_one_of_its_lock(tmp_path):
    components, run = begun(tmp_path)
    with pytest.raises(FileNotFoundError, match="mine"), acquire(components.runs, [run.id]):
        raise FileNotFoundError("mine")


def test_a_clock_that_goes_back_leaves_histories_events_and_runs_in_order(tmp_path, undisturbed, monkeypatch):
    clock = count(2_000_000_000, -3600)
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))
    components, first = begun(tmp_path)
    work(components, first)
    assert outcome(components, first) == undisturbed
    second = start(components, LAYER, ["2"])
    assert [run.id for run in components.runs.runs()] == [second.id, first.id]
    kinds = [event["kind"] for event in components.runs.events(first.id)]
    assert [kind for kind in kinds if kind in {"work", "finished"}] == ["work", "finished"]
    assert all(unit.seconds >= 0 for unit in components.runs.units(first.id))
    assert all((step.seconds or 0) >= 0 for step in components.runs.steps(first.id, 0))
