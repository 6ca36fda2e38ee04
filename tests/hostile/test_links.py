"""A store with symbolic links in it, or in a folder of somebody's own files: these are left alone."""

import os
import shutil
import socket
import sqlite3
from contextlib import closing

import pytest

from line_neurons.agent.errors import StoreError
from line_neurons.tools.store.atomic_files import remove_abandoned
from line_neurons.tools.store.paths import DATABASES, FOLDERS
from line_neurons.tui.app.external import launch
from support.released_stores import FINISHED, old_store


@pytest.fixture
def store(tmp_path):
    return old_store(tmp_path / "store", "m003")


@pytest.fixture
def home(tmp_path):
    """A folder of somebody's own files, all of them old and named as ill as can be."""
    folder = tmp_path / "home"
    (folder / "ab").mkdir(parents=True)
    for name in (
        "thesis.tex", ".notes.2024-11", f"{'a' * 64}.npz", f"ab/{'b' * 64}.png", "run@host.lock", "old.log",
        "20200101-000000-000000001-batch.log", "tmp12345678.tmp", ".runs.db.1-2",
    ):  # fmt: skip
        (folder / name).write_text("mine")
        os.utime(folder / name, (0, 0))
    return folder


def contents(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_that_leads_out_of_the_store_is_told_and_left_alone(store, home, line, name):
    shutil.rmtree(store / name, ignore_errors=True)
    (store / name).symlink_to(home)
    mine = contents(home)
    status, out, _ = line("doctor", "--store", store)
    assert (status, "symbolic link in the place of a file" in out) == (1, True)
    for command in (["doctor", "--fix"], ["revisit", FINISHED], ["resume"], ["retry", FINISHED]):
        status, _, err = line(*command, "--store", store)
        assert status == 2
        assert f"{name} in the store" in err and "is a symbolic link" in err
    with pytest.raises(StoreError, match="is a symbolic link"):
        launch(store, ["runs"])
    remove_abandoned(store)
    assert contents(home) == mine


@pytest.mark.parametrize("name", DATABASES)
def test_a_database_that_leads_out_of_the_store_is_told_and_left_alone(store, tmp_path, line, name):
    (store / name).unlink(missing_ok=True)
    mine = tmp_path / "mine.db"
    mine.write_text("mine")
    (store / name).symlink_to(mine)
    assert line("doctor", "--fix", "--store", store)[0] == 2
    assert line("resume", "--store", store)[0] == 2
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("name", ["store", f"{FINISHED}@{socket.gethostname()}.lock", "runs.db.lock"])
def test_a_lock_file_that_leads_out_of_the_store_is_not_emptied(store, tmp_path, line, name):
    (store / "locks").mkdir(exist_ok=True)
    mine = tmp_path / "mine"
    mine.write_text("mine")
    (store / "locks" / name).symlink_to(mine)
    for command in (["doctor", "--fix"], ["revisit", FINISHED], ["resume"], ["retry", FINISHED]):
        line(*command, "--store", store)
    assert mine.read_text() == "mine"


def test_files_of_somebody_elses_in_a_store_are_left_alone(store, home, line):
    for name in ("controls", "locks", "logs", "sheets", "images", "embeddings"):
        shutil.copytree(home, store / name, dirs_exist_ok=True)
    # What has LINE's own names is LINE's; everything else is not.
    own = {"thesis.tex", ".notes.2024-11", "run@host.lock", "old.log"}
    for name in own:
        (store / name).write_text("mine")
    assert line("doctor", "--fix", "--store", store)[0] == 0
    remove_abandoned(store)
    for folder in (store, *(store / name for name in ("controls", "locks", "logs", "sheets", "images"))):
        for name in own:
            assert (folder / name).read_text() == "mine"


@pytest.mark.parametrize("command", [["runs"], ["doctor"], ["resume"], ["show", FINISHED]], ids=str)
def test_a_view_without_an_end_holds_nobody_up(store, line, command):
    with closing(sqlite3.connect(store / "runs.db")) as db:
        db.execute("ALTER TABLE units RENAME TO kept")
        db.execute(
            "CREATE VIEW units AS WITH RECURSIVE n(run, unit) AS"
            " (SELECT 'x', 1 UNION ALL SELECT run, unit + 1 FROM n) SELECT * FROM n"
        )
    status, out, err = line(*command, "--store", store)
    assert status == 2
    assert "has a view, 'units'" in out + err
