"""The screen of all runs."""

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from textual.widgets import DataTable

from line_neurons.graphs.runs.loading import PlannedRun, loading, planned_again
from line_neurons.tools.store import leases
from line_neurons.tools.store.activity import Activity, Phase, report_phase
from line_neurons.tools.store.leases import MachineId, lease_status
from line_neurons.tools.store.records import Unit
from line_neurons.tools.store.runs import RunStore
from line_neurons.tui.app.runs.new_run import NewRunScreen
from line_neurons.tui.app.runs.screen import RunsScreen
from line_neurons.tui.app.units.screen import UnitsScreen
from support.app_pilot import drawn, opened, sees, shown, told, until
from support.store_factory import FAILED, FINISHED, INTERRUPTED, REASON, at_work

pytestmark = pytest.mark.anyio

DOING = Activity(2, "synthesize", "iteration", 2, 5, 0, "foaming waves", "tiger", 3.2, 1.0)


def listed(pilot):
    table = pilot.app.screen.query_one(DataTable)
    return [row.key.value for row in table.ordered_rows]


def current(pilot):
    table = pilot.app.screen.query_one(DataTable)
    return table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value


async def go_to(pilot, run):
    await until(pilot, lambda: run in listed(pilot))
    pilot.app.screen.query_one(DataTable).move_cursor(row=listed(pilot).index(run))
    await pilot.pause()


async def test_how_the_runs_look(store, view, snapshot_svg):
    async with opened(store, **view) as pilot:
        await sees(pilot, FAILED)
        await go_to(pilot, FAILED)
        assert await drawn(pilot) == snapshot_svg


async def test_each_run_says_its_state_how_far_it_is_and_its_best_labels(store):
    async with opened(store, size=(160, 48)) as pilot:
        await sees(pilot, "✓ finished", "3/3", "‖ interrupted", "2/6", "! failed", "7/8 1!", "tiger +7.51")
        await go_to(pilot, FAILED)
        await sees(pilot, "unit 5: " + REASON, "t retries the failed units", "iterations 4", "$ line batch")


async def test_a_run_that_is_worked_on_says_by_whom_how_fast_and_how_long_yet(store):
    at_work(store, INTERRUPTED, DOING, drawn=600, reused=200, began=0, measured=5)
    with closing(RunStore(store)) as runs, runs.atomic() as db:
        db.execute("UPDATE leases SET beat = began + 100")
    async with opened(store, size=(160, 48)) as pilot:
        await go_to(pilot, INTERRUPTED)
        await sees(pilot, "● running", "8.0", "process 4242 on lab-gpu", "600 images generated", "1 running")


async def test_work_for_no_unit_says_what_it_is_how_far_and_how_long(store):
    at_work(store, INTERRUPTED)
    with closing(RunStore(store)) as runs:
        beat = lease_status(runs, check_liveness=False)[INTERRUPTED].holder.beat
        report_phase(runs, INTERRUPTED, Phase("control set", 30, 120, beat - 20))
    async with opened(store, size=(160, 48)) as pilot:
        await go_to(pilot, INTERRUPTED)
        await sees(pilot, "control set 30/120, for 20 s, about 60 s left")
        await pilot.press("enter")
        await sees(pilot, "current control set 30/120")


async def test_runs_whose_components_load_are_starting_with_what_is_loaded(store):
    with closing(RunStore(store)) as runs:
        again = planned_again([runs.run(INTERRUPTED)])
    planned = [PlannedRun("net-fc-1", "module:net", "fc", 0, "random"), *again]
    async with opened(store, size=(160, 48)) as pilot:
        with loading(store, planned, "loading libraries") as record:
            record.report("loading generator sdxl, MB downloaded:", 812)
            await until(pilot, lambda: "net-fc-1" in listed(pilot))
            await go_to(pilot, "net-fc-1")
            await sees(pilot, "◌ starting, process", "loading generator sdxl, MB downloaded: 812, for")
            await pilot.press("enter")
            await until(pilot, lambda: "net-fc-1 opens once its components are loaded" in told(pilot))
            await go_to(pilot, INTERRUPTED)
            await sees(pilot, "◌ starting, process")
            await pilot.press("r")
            await until(pilot, lambda: f"{INTERRUPTED} is starting" in told(pilot))
        await until(pilot, lambda: "net-fc-1" not in listed(pilot))
        await sees(pilot, "‖ interrupted")


async def test_the_first_runs_of_a_store_are_shown_while_they_load_and_open_once_they_are_there(tmp_path, store):
    planned = [PlannedRun(FAILED, "module:net", "fc", 0, "random")]
    with loading(tmp_path / "new", planned, "loading libraries"):
        async with opened(tmp_path / "new", FAILED) as pilot:
            await sees(pilot, FAILED, "loading libraries, for")
            shutil.copytree(store, tmp_path / "new", dirs_exist_ok=True)
            await until(pilot, lambda: isinstance(pilot.app.screen, UnitsScreen))


async def test_d_deletes_a_run_after_a_confirmation(store):
    async with opened(store) as pilot:
        await go_to(pilot, FAILED)
        await pilot.press("D")
        await sees(pilot, "Delete this run?", FAILED, "8 units")
        await pilot.press("n")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunsScreen))
        assert FAILED in listed(pilot)
        await pilot.press("D")
        await sees(pilot, "Delete this run?")
        await pilot.press("y")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunsScreen) and FAILED not in listed(pilot))
    with closing(RunStore(store, read_only=True)) as runs:
        assert FAILED not in runs.names()


async def test_x_asks_the_process_to_stop(store):
    at_work(store, INTERRUPTED, DOING)
    async with opened(store) as pilot:
        await go_to(pilot, INTERRUPTED)
        await sees(pilot, "● running")
        await pilot.press("x")
        await sees(pilot, "◐ stopping", "requested by process")
        with closing(RunStore(store, read_only=True)) as runs:
            assert "process" in lease_status(runs, check_liveness=False)[INTERRUPTED].holder.stop
        await pilot.press("r")
        await until(pilot, lambda: "process 4242 on lab-gpu is working on" in told(pilot))


async def test_a_run_whose_process_died_says_so_and_what_to_press(store, monkeypatch):
    monkeypatch.setattr(leases, "this_machine", lambda: MachineId("lab-gpu", "boot"))
    at_work(store, INTERRUPTED, DOING)
    async with opened(store) as pilot:
        await go_to(pilot, INTERRUPTED)
        await sees(pilot, "✗ process gone", "finished steps are saved; r resumes")


async def test_what_cannot_be_done_is_refused_with_the_reason(store):
    async with opened(store) as pilot:
        await go_to(pilot, FINISHED)
        await pilot.press("r", "t", "x")
        await until(pilot, lambda: "has no unfinished units" in told(pilot))
        assert "has no failed units" in told(pilot)
        assert "is not active" in told(pilot)
        await go_to(pilot, FAILED)
        await pilot.press("r")
        await until(pilot, lambda: "t retries the failed units" in told(pilot))


async def test_what_a_command_said_when_it_failed_stays_readable(store, scripted_line):
    async with opened(store) as pilot:
        await go_to(pilot, INTERRUPTED)
        await pilot.press("r")
        await sees(pilot, "◌ starting")
        await until(pilot, lambda: "has changed since it began" in told(pilot))
        await sees(pilot, "has changed since it began", "! failed", "a resume would fail as before")
        assert "resume" in next((store / "logs").iterdir()).name


async def test_runs_are_filtered_by_words_and_all_come_back(store):
    async with opened(store) as pilot:
        await until(pilot, lambda: len(listed(pilot)) == 3)
        await pilot.press("slash", *"ollama fc")
        await until(pilot, lambda: listed(pilot) == [FAILED])
        await sees(pilot, "1 of 3 runs")
        await pilot.press("enter", "escape")
        await until(pilot, lambda: len(listed(pilot)) == 3)


async def test_runs_are_sorted_and_turned_round_with_the_cursor_on_its_run(store):
    async with opened(store) as pilot:
        await go_to(pilot, INTERRUPTED)
        assert listed(pilot) == [FINISHED, INTERRUPTED, FAILED]
        await pilot.press("s")
        assert listed(pilot) == [FAILED, INTERRUPTED, FINISHED]
        await pilot.press("o")
        assert listed(pilot) == [FINISHED, INTERRUPTED, FAILED]
        await pilot.press("s", "s")
        await sees(pilot, "sorted by progress")
        assert listed(pilot)[-1] == INTERRUPTED
        assert current(pilot) == INTERRUPTED


async def test_a_run_that_is_begun_elsewhere_appears_and_the_cursor_stays(store):
    async with opened(store) as pilot:
        await go_to(pilot, INTERRUPTED)
        with closing(RunStore(store)) as runs:
            run = replace(runs.run(FAILED), id="new-1", created=2e9, status="pending", model="[red]net:x\x1b[31m")
            runs.add_run(run, [Unit("new-1", 0, 0)])
        await until(pilot, lambda: listed(pilot)[0] == "new-1")
        assert current(pilot) == INTERRUPTED
        await go_to(pilot, "new-1")
        await sees(pilot, "○ not started", "[red]net:x")


async def test_a_run_is_opened_by_key_and_by_mouse(store):
    async with opened(store) as pilot:
        await go_to(pilot, INTERRUPTED)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, UnitsScreen))
        pilot.app.pop_screen()
        await until(pilot, lambda: isinstance(pilot.app.screen, RunsScreen))
        row = pilot.app.screen.query_one(DataTable).cursor_row
        # A click on another row moves there, one on the row that one is at opens it.
        await pilot.click(DataTable, offset=(4, 1 + row))
        await until(pilot, lambda: isinstance(pilot.app.screen, UnitsScreen))


async def test_names_and_the_folder_are_copied(store):
    async with opened(store) as pilot:
        await go_to(pilot, FAILED)
        await pilot.press("c")
        assert pilot.app.clipboard == FAILED
        await pilot.press("g")
        assert pilot.app.clipboard == str(store.absolute())


async def test_a_folder_without_runs_says_how_to_begin(tmp_path):
    async with opened(tmp_path / "none") as pilot:
        await sees(pilot, "No runs here yet.", "line demo")
        await pilot.press("n")
        await until(pilot, lambda: isinstance(pilot.app.screen, NewRunScreen))
    assert not (tmp_path / "none").exists()


async def test_a_damaged_store_is_told_with_the_remedy_until_it_is_mended(store):
    whole = (store / "runs.db").read_bytes()
    for log in store.glob("runs.db-*"):
        log.unlink()
    (store / "runs.db").write_bytes(b"no database" * 1000)
    async with opened(store, size=(160, 48)) as pilot:
        await sees(pilot, "is damaged", "line doctor", "Trying again")
        aside = Path("whole.db")
        aside.write_bytes(whole)
        aside.replace(store / "runs.db")
        await sees(pilot, FAILED)
        await until(pilot, lambda: "is damaged" not in shown(pilot))


async def test_an_older_store_is_shown_and_left_as_it_is(store):
    with closing(sqlite3.connect(store / "runs.db")) as db, db:
        db.execute("DROP TABLE leases")
        before = list(db.iterdump())
    async with opened(store) as pilot:
        await sees(pilot, FAILED, "2/6")
    with closing(sqlite3.connect(store / "runs.db")) as db:
        assert list(db.iterdump()) == before
