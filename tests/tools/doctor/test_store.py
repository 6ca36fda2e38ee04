"""Each thing that can be wrong with a store: found, mended, and gone; and a run goes on as if nothing had been."""

import json
import multiprocessing
import os
import socket
import sqlite3
from contextlib import closing

import numpy as np
import pytest

from crash.campaign import evidence
from line_neurons.agent.errors import UsageError
from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.tools.cache.checksums import vector_checksum
from line_neurons.tools.cache.embeddings import write_embeddings
from line_neurons.tools.cache.file_hashes import FileHashes
from line_neurons.tools.doctor import repair as store_mend
from line_neurons.tools.doctor.faults import FAULTS, Fault
from line_neurons.tools.doctor.repair import repair
from line_neurons.tools.doctor.store import check
from line_neurons.tools.language_models.engine import Completion
from line_neurons.tools.language_models.proposer import Proposer
from line_neurons.tools.language_models.reply_cache import ReplyCache
from line_neurons.tools.store.atomic_files import abandoned_files, atomic_write, remove_abandoned
from line_neurons.tools.store.locks import exclusive_lock, file_lock
from support.fakes import LAYER, scripted_components
from support.full_checkpoints import all_checkpoints_kept

RUN = "model-head-1"


class Engine:
    def complete(self, prompt, *, seed, temperature):
        return Completion(json.dumps({"reasoning": "so", "concept": f"thing {seed % 30}"}), truncated=False)


def components_for(store):
    model = Proposer(Engine, "scripted engine", ReplyCache(store / "replies.db"))
    return scripted_components(store, model, iterations=2, images=2, top=2, random=2)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A store with a finished run that has all its checkpoints, closed."""
    store = tmp_path_factory.mktemp("finished") / "store"
    components = components_for(store)
    with all_checkpoints_kept():
        work(components, start(components, LAYER, ["all"]))
    components.runs.close()
    components.cache.close()
    return store


@pytest.fixture
def store(finished, tmp_path):
    """A copy that may be spoilt."""
    import shutil

    return shutil.copytree(finished, tmp_path / "store")


def execute(store, database, statement, *values):
    with closing(sqlite3.connect(store / database)) as db, db:
        return db.execute(statement, values).fetchall()


def image(store, number=0):
    return sorted((store / "images").glob("??/*.png"))[number]


def unfinished(store, unit=1):
    execute(store, "runs.db", "UPDATE units SET status = 'interrupted' WHERE unit = ?", unit)
    execute(store, "runs.db", "UPDATE runs SET status = 'interrupted', finished = NULL")


def lost_image(store):
    image(store).unlink()


def cut_image(store):
    path = image(store)
    path.write_bytes(path.read_bytes()[:-4])


def other_image_of_that_size(store):
    path = image(store)
    path.write_bytes(bytes(len(path.read_bytes())))


def png_without_its_end(store):
    path = image(store)
    content = b"\x89PNG\r\n\x1a\n" + bytes(40)
    path.write_bytes(content)
    execute(store, "bank.db", "UPDATE draws SET size = ? WHERE image = ?", len(content), path.stem)


def image_nobody_knows(store):
    path = store / "images" / "ab" / f"{'ab' * 32}.png"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"a picture")


def lost_row(store):
    execute(store, "bank.db", "DELETE FROM draws WHERE image = ?", image(store).stem)
    execute(store, "bank.db", "DELETE FROM activations WHERE image = ?", image(store).stem)


def lost_row_and_image(store):
    lost_row(store)
    image(store).unlink()


def vectors_of_nothing(store):
    execute(
        store,
        "bank.db",
        "INSERT INTO activations SELECT 'none', target, layer, vector, checksum, units FROM activations LIMIT 1",
    )


def short_vector(store):
    execute(store, "bank.db", "UPDATE activations SET vector = substr(vector, 1, 4) WHERE rowid = 3")


def vector_with_nan(store):
    execute(
        store, "bank.db", "UPDATE activations SET vector = ? WHERE rowid = 3",
        np.full(3, np.nan, "<f4").tobytes(),
    )  # fmt: skip


def lost_control(store):
    next((store / "controls").iterdir()).unlink()


def cut_control(store):
    path = next((store / "controls").iterdir())
    path.write_bytes(path.read_bytes()[:100])


def narrow_control(store):
    path = next((store / "controls").iterdir())
    np.savez(path, labels=np.zeros(4, np.int64), activations=np.zeros((4, 1), np.float32))
    # As an earlier version kept it, or took it out of a bundle.
    execute(store, "bank.db", "UPDATE controls SET checksum = NULL")


def other_control(store):
    path = next((store / "controls").iterdir())
    with np.load(path) as arrays:
        np.savez(path, labels=arrays["labels"], activations=np.roll(arrays["activations"], 1, axis=0))


def other_classes(store):
    execute(store, "bank.db", "UPDATE controls SET classes = replace(classes, 'a', 'o')")


def changed_vector(store):
    execute(store, "bank.db", "UPDATE activations SET vector = x'0000803f0000803f0000803f' WHERE rowid = 1")


def forged_sparse_vector(store):
    """Of three units, the value of the tenth; its checksum is right."""
    ((image, target, layer, width),) = execute(
        store, "bank.db", "SELECT image, target, layer, length(vector) / 4 FROM activations WHERE rowid = 3"
    )
    vector = np.uint32([9]).tobytes() + np.float32([1]).tobytes()
    execute(
        store, "bank.db", "UPDATE activations SET vector = ?, checksum = ?, units = ? WHERE rowid = 3",
        vector, vector_checksum(image, target, layer, vector, width), width,
    )  # fmt: skip


def vector_of_another_image(store):
    other = "SELECT vector FROM activations WHERE rowid = 1"
    checksum = "SELECT checksum FROM activations WHERE rowid = 1"
    execute(
        store, "bank.db", f"UPDATE activations SET vector = ({other}), checksum = ({checksum}) WHERE rowid = 2"
    )


def rolled_embeddings(store):
    path = store / "embeddings" / f"names-{'0' * 32}.npz"
    write_embeddings(path, np.eye(9, dtype=np.float32))
    with np.load(path) as arrays:
        np.savez(path, embeddings=np.roll(arrays["embeddings"], 7, axis=0), checksum=arrays["checksum"])


def changed_digest(store):
    file = store.parent / "file"
    file.write_bytes(b"content")
    os.utime(file, (0, 0))
    digests = FileHashes(store / "digests.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.time_ns", lambda: 2**62)
        digests.of([file])
    execute(store, "digests.db", "UPDATE digests SET sha256 = ?", "0" * 64)


def control_nobody_knows(store):
    (store / "controls" / f"{'0' * 64}.npz").write_bytes(b"numbers")


def garbled_reply(store):
    execute(store, "replies.db", "UPDATE full_llm_cache SET response = '{' WHERE rowid = 1")


def steps_of_no_unit(store):
    execute(store, "runs.db", "UPDATE steps SET unit = 77 WHERE unit = 1")
    unfinished(store)


def unit_and_event_of_no_run(store):
    execute(store, "runs.db", "INSERT INTO units (run, unit, position, status) VALUES ('gone', 0, 0, 'pending')")
    execute(store, "runs.db", "INSERT INTO events (run, kind, created) VALUES ('gone', 'work', 0)")


def wish_for_no_unit(store):
    execute(
        store, "runs.db", "INSERT INTO wishes (run, unit, kind, concept, by, created)"
        " VALUES ('gone', 0, 'ban', 'fox', 'somebody', 0)",
    )  # fmt: skip


def killed(store):
    execute(store, "runs.db", "UPDATE units SET status = 'running' WHERE unit = 1")
    execute(store, "runs.db", "UPDATE runs SET status = 'running', finished = NULL")


def checkpoints_of_no_unit(store):
    for table in ("checkpoints", "writes"):
        execute(
            store,
            "checkpoints.db",
            f"UPDATE OR IGNORE {table} SET thread_id = 'gone/1' WHERE thread_id LIKE '%/1'",
        )
    unfinished(store)


def garbled_checkpoint(store):
    unfinished(store)
    execute(store, "checkpoints.db", "UPDATE checkpoints SET checkpoint = ? WHERE thread_id LIKE '%/1'", b"\xc1")


def history_with_a_hole(store):
    unfinished(store)
    execute(store, "runs.db", "DELETE FROM steps WHERE unit = 1 AND step = 2")


def history_beyond(store):
    unfinished(store)
    for table in ("checkpoints", "writes"):
        keep = (
            "SELECT checkpoint_id FROM checkpoints c WHERE c.thread_id LIKE '%/1' ORDER BY checkpoint_id LIMIT 6"
        )
        execute(
            store,
            "checkpoints.db",
            f"DELETE FROM {table} WHERE thread_id LIKE '%/1' AND checkpoint_id NOT IN ({keep})",
        )


def no_last_checkpoint(store):
    for table in ("checkpoints", "writes"):
        execute(store, "checkpoints.db", f"DELETE FROM {table} WHERE thread_id LIKE '%/1'")


def half_a_image(store):
    (image(store).parent / f".{'ab' * 32}.png.1234-5678").write_bytes(b"half")


def lock_of_no_run(store):
    (store / "locks" / "gone-1.lock").write_text("")


def lease(store, host):
    execute(
        store, "runs.db", "CREATE TABLE IF NOT EXISTS leases (thread TEXT PRIMARY KEY, run TEXT, token TEXT,"
        " process INTEGER, host TEXT, boot TEXT, began REAL, beats INTEGER, beat REAL)",
    )  # fmt: skip
    execute(store, "runs.db", "INSERT INTO leases (thread, run, token, process, host, boot, began, beats, beat)"
            " VALUES (?1, ?1, 'token', 1, ?2, 'boot', 0, 0, 0)", RUN, host)  # fmt: skip


def lease_of_the_dead(store):
    lease(store, socket.gethostname())


def garbled_page(store):
    with (store / "bank.db").open("r+b") as file:
        file.seek(-3000, 2)
        file.write(b"\xff" * 1500)


# What is done to the store, what is found, and whether mending leaves a note of it.
CASES = [
    (lost_image, ["row without an image"], False),
    (cut_image, ["image damaged"], False),
    (other_image_of_that_size, ["image damaged"], False),
    (png_without_its_end, ["image damaged"], False),
    (image_nobody_knows, ["image without a row"], False),
    (lost_row, ["image kept"], True),
    (lost_row_and_image, ["step without its image"], True),
    (vectors_of_nothing, ["vector without an image"], False),
    (short_vector, ["vector unusable"], False),
    (vector_with_nan, ["vector unusable"], False),
    (lost_control, ["control without a file"], False),
    (cut_control, ["control without a file"], False),
    (narrow_control, ["control of another layer"], False),
    (other_control, ["control without a file"], False),
    (other_classes, ["control without a file"], False),
    (changed_vector, ["vector unusable"], False),
    (forged_sparse_vector, ["vector unusable"], False),
    (vector_of_another_image, ["vector unusable"], False),
    (rolled_embeddings, ["embeddings damaged"], False),
    (changed_digest, ["digest damaged"], False),
    (control_nobody_knows, ["control without a row"], False),
    (garbled_reply, ["reply unreadable"], False),
    (steps_of_no_unit, ["step without its unit", "history behind"], False),
    (unit_and_event_of_no_run, ["unit without its run", "event without its run"], False),
    (wish_for_no_unit, ["wish without its unit"], False),
    (killed, ["run interrupted", "unit interrupted"], False),
    (checkpoints_of_no_unit, ["checkpoint without its unit"], False),
    (garbled_checkpoint, ["checkpoint unreadable"], False),
    (history_with_a_hole, ["history behind"], False),
    (history_beyond, ["history ahead"], False),
    (no_last_checkpoint, ["not at its end"], True),
    (half_a_image, ["leftover"], False),
    (lock_of_no_run, ["lock without its run"], False),
    (lease_of_the_dead, ["lease left behind"], False),
]


def kinds(problems):
    return [problem.kind for problem in problems]


def contents(store):
    """Files but for SQLite's own, which come with reading."""
    files = (path for path in store.rglob("*") if path.is_file() and not path.name.endswith(("-shm", "-wal")))
    return {path.relative_to(store): path.read_bytes() for path in files}


def test_a_store_of_a_whole_run_has_nothing_wrong(store):
    assert check(store) == check(store, deep=True) == []


@pytest.mark.parametrize(("spoil", "found", "stays"), CASES, ids=lambda case: getattr(case, "__name__", ""))
def test_what_is_wrong_is_found_and_mended_and_the_run_ends_as_before(finished, store, spoil, found, stays):
    spoil(store)
    before = contents(store)
    assert kinds(check(store, deep=True)) == found
    assert contents(store) == before
    told = []
    left = repair(store, deep=True, on_repair=told.append)
    assert kinds(left) == (found if stays else [])
    assert bool(told) != stays
    again = []
    assert repair(store, deep=True, on_repair=again.append) == left
    assert again == []
    components = components_for(store)
    run = work(components, components.runs.run(RUN))
    assert run.status == "finished"
    components.runs.close()
    for table in ("runs.db runs", "runs.db units", "runs.db steps"):
        assert evidence(store)[table] == evidence(finished)[table]


def test_a_row_that_names_another_image_than_was_drawn_is_removed(store):
    execute(store, "bank.db", "UPDATE draws SET seed = seed + 1 WHERE rowid = 1")
    assert kinds(check(store, deep=True)) == ["draw damaged"]
    # A history still names the image.
    assert kinds(repair(store, deep=True)) == ["image kept"]
    assert execute(store, "bank.db", "SELECT count(*) FROM draws WHERE rowid = 1") == [(0,)]


def test_a_run_computes_control_activations_of_another_layer_anew_and_tells_it(store, caplog):
    narrow_control(store)
    components = components_for(store)
    run = work(components, start(components, LAYER, ["all"]))
    assert "are of 1 units, and the layer has 3; they are computed again" in caplog.text
    labels = [[unit.label for unit in components.runs.units(name)] for name in (run.id, RUN)]
    assert labels[0] == labels[1]
    components.runs.close()
    assert check(store, deep=True) == []


def test_every_kind_of_trouble_is_made_here():
    assert {kind for _, found, _ in CASES for kind in found} | {
        "database damaged",
        "link",
        "draw damaged",
    } == FAULTS.keys()


@pytest.mark.parametrize("spoil", [lost_image, cut_image, other_image_of_that_size])
def test_a_image_that_is_gone_is_drawn_anew_when_it_is_asked_for(finished, store, spoil):
    path = image(store)
    whole = path.read_bytes()
    spoil(store)
    repair(store, deep=True)
    components = components_for(store)
    work(components, start(components, LAYER, ["all"]))
    assert path.read_bytes() == whole
    assert len(components.generator.drawn) == 1
    assert check(store, deep=True) == []


def test_a_database_is_kept_as_it_was_before_it_is_changed(store):
    garbled_reply(store)
    before = execute(store, "replies.db", "SELECT * FROM full_llm_cache")
    told = []
    repair(store, on_repair=told.append)
    (kept,) = store.glob("replies.db.before-fix-*.bak")
    assert execute(store, kept.name, "SELECT * FROM full_llm_cache") == before
    assert any(kept.name in line for line in told)
    assert not list(store.glob("[!r]*.bak"))


def test_what_can_be_read_of_a_damaged_database_is_saved_and_the_file_kept(finished, store):
    garbled_page(store)
    assert "database damaged" in kinds(check(store))
    told = []
    # Files whose rows are lost stay where a history names them.
    assert kinds(repair(store, deep=True, on_repair=told.append)) in ([], ["image kept"])
    assert (store / "bank.db.damaged-1").exists()
    assert "rows were recovered" in told[0]
    components = components_for(store)
    for unit in range(3):
        unfinished(store, unit)
    execute(store, "checkpoints.db", "DELETE FROM checkpoints")
    assert work(components, components.runs.run(RUN)).status == "finished"
    components.runs.close()
    assert evidence(store)["runs.db steps"] == evidence(finished)["runs.db steps"]
    assert check(store, deep=True) == []


def test_runs_of_which_nothing_can_be_read_are_left_for_a_backup(store):
    (store / "runs.db").write_bytes(b"not a database at all" * 500)
    assert "database damaged" in kinds(check(store))
    told = []
    assert kinds(repair(store, on_repair=told.append)) == ["database damaged"]
    assert "put a backup in its place" in told[0]
    assert (store / "runs.db").read_bytes() == b"not a database at all" * 500
    # Without the runs it is not known which images a history names.
    assert sorted((store / "images").rglob("*.png"))


def hold_run(store, ready, over):
    with file_lock(store / "locks" / f"{RUN}.lock", refusal=lambda _: UsageError("taken")):
        ready.set()
        over.wait(30)


def test_a_store_that_is_worked_on_is_not_mended_and_what_is_in_hand_not_reported(store):
    half_a_image(store)
    image_nobody_knows(store)
    killed(store)
    fork = multiprocessing.get_context("fork")
    ready, over = fork.Event(), fork.Event()
    worker = fork.Process(target=hold_run, args=(store, ready, over))
    worker.start()
    try:
        assert ready.wait(30)
        before = contents(store)
        assert check(store, deep=True) == []
        with pytest.raises(UsageError, match=f"is in use: run {RUN}"):
            repair(store)
        assert contents(store) == before
    finally:
        over.set()
        worker.join()
    assert len(check(store, deep=True)) == 4


def test_a_store_that_another_machine_holds_a_run_of_is_not_mended(store):
    lease(store, "elsewhere")
    assert check(store, deep=True) == []
    with pytest.raises(UsageError, match=f"is in use: run {RUN}"):
        repair(store)


def test_no_run_is_worked_on_while_the_store_is_mended(store):
    components = components_for(store)
    run = start(components, LAYER, ["0"])
    with exclusive_lock(store), pytest.raises(UsageError, match="is being repaired by another process"):
        work(components, run)
    assert work(components, run).status == "finished"


def test_a_file_that_is_being_written_is_no_leftover_until_its_writer_is_gone(store):
    path = store / "images" / "ab" / f"{'a' * 64}.png"
    with atomic_write(path) as file:
        file.write(b"half")
        file.flush()
        assert abandoned_files(store) == []
        (path.parent / ".DS_Store").write_bytes(b"not ours")
        (path.parent / f".{'b' * 64}.png.1-2").write_bytes(b"dead")
        remove_abandoned(store)
        assert len(list(path.parent.glob(".aaa*"))) == 1
    assert path.read_bytes() == b"half"
    assert [one.name for one in path.parent.glob(".*")] == [".DS_Store"]


@pytest.mark.parametrize("name", ["../../victim", "/victim", "..", "a/../../b"])
def test_names_in_a_tampered_store_never_lead_out_of_it(store, tmp_path, name):
    victim = tmp_path / "victim.png"
    victim.write_bytes(b"mine")
    execute(store, "bank.db", "UPDATE draws SET image = ? WHERE rowid = 1", name)
    execute(store, "bank.db", "INSERT INTO controls VALUES (?, '[]', '[]', NULL)", name)
    repair(store, deep=True)
    assert victim.read_bytes() == b"mine"


def test_whatever_is_said_to_be_mended_has_something_that_mends_it():
    mended = {fault for fault in Fault if FAULTS[fault].repair} - {Fault.DATABASE_DAMAGED}
    assert set(FAULTS) == set(Fault)
    assert mended == set(store_mend._STATEMENTS) | set(store_mend._FILES)
