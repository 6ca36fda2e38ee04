"""`line doctor` on a store: what it says, what it does with --fix, and its exit status."""

import json
import sqlite3

import pytest

from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.tools.doctor.store import check
from line_neurons.tools.store.locks import file_lock
from support.fakes import LAYER, ScriptedModel, scripted_components

HALF = f"images/ab/.{'ab' * 32}.png.12-34"


@pytest.fixture
def store(tmp_path):
    """A store with a finished run and the rest of an image that was being written."""
    components = scripted_components(
        tmp_path / "store", ScriptedModel(lambda prompt, seed, temperature: f"thing {seed}"), iterations=1
    )
    work(components, start(components, LAYER, ["0"]))
    components.runs.close()
    components.cache.close()
    (tmp_path / "store" / "images" / "ab").mkdir(exist_ok=True)
    (tmp_path / "store" / HALF).write_bytes(b"half")
    return tmp_path / "store"


def test_it_says_what_is_wrong_and_how_it_is_mended(line, store):
    status, out, _ = line("doctor", "--store", store)
    assert status == 1
    assert f"broken  partial file of a process that is gone: 1 ({HALF})" in out
    assert f"line doctor --store {store} --fix" in out
    assert len(check(store)) == 1


def test_it_mends_the_default_store_and_says_each_thing_that_it_did(line, store):
    status, out, _ = line("doctor", "--fix")
    assert status == 0
    assert f"repaired partial file of a process that is gone: 1 ({HALF}): removed" in out
    again = line("doctor", "--fix")
    assert (again[0], "no faults" in again[1], "repaired" in again[1]) == (0, True, False)


def test_machines_read_it_too(line, store):
    status, out, _ = line("doctor", "--store", store, "--json")
    (problem,) = json.loads(out)["problems"]
    assert (status, problem["kind"], problem["status"]) == (1, "leftover", "broken")
    assert problem["items"] == [[HALF]]
    status, out, _ = line("doctor", "--fix", "--json")
    assert (status, len(json.loads(out)["mended"]), json.loads(out)["problems"]) == (0, 1, [])


def test_a_store_that_is_worked_on_is_not_mended(line, store):
    with file_lock(store / "locks" / "model-head-1.lock", refusal=AssertionError):
        status, _, err = line("doctor", "--fix")
        assert (status, "is in use: run model-head-1" in err) == (2, True)
        status, out, _ = line("doctor", "--store", store)
        assert (status, "active and not checked" in out) == (0, True)


def test_space_is_given_back_with_a_line_for_each_database(line, store):
    with sqlite3.connect(store / "bank.db") as db:
        db.execute("CREATE TABLE much AS SELECT zeroblob(500000) AS text")
        db.execute("DROP TABLE much")
    db.close()
    status, out, _ = line("gc", "--store", store)
    lines = out.splitlines()
    assert (status, [one.split(":")[0] for one in lines[:-1]]) == (0, ["runs.db", "bank.db", "checkpoints.db"])
    assert lines[1] == "bank.db: 0.6 MB before, 0.1 MB now"
    assert lines[-1].startswith("freed 0.5 MB of")
    (_, bank, _) = json.loads(line("gc", "--json")[1])["databases"]
    assert (bank["database"], bank["before"], bank["pruned"]) == ("bank.db", bank["after"], 0)


def test_nothing_is_given_back_while_a_process_works_on_the_store(line, store):
    with file_lock(store / "locks" / "model-head-1.lock", refusal=AssertionError):
        status, _, err = line("gc")
    assert (status, err.count("\n"), "is in use: run model-head-1" in err) == (2, 1, True)


def test_a_folder_that_is_not_there_is_no_store(line, tmp_path):
    status, _, err = line("doctor", "--store", tmp_path / "elsewhere")
    assert (status, err.count("\n")) == (2, 1)
    assert "there is no store at" in err
    assert not (tmp_path / "elsewhere").exists()
