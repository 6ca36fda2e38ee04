"""The screen of a run's units, each action of it, on a store that runs wrote."""

import json
import time
from contextlib import closing

import pytest
from textual.widgets import Input

from line_neurons.tools.store.activity import Activity
from line_neurons.tools.store.leases import lease_status
from line_neurons.tools.store.runs import RunStore
from line_neurons.tui.app import external
from line_neurons.tui.app.unit.screen import UnitScreen
from line_neurons.tui.app.units.table import UnitsTable
from support import busy_run
from support.app_pilot import drawn, opened, sees, shown, until
from support.store_factory import FAILED, FINISHED, INTERRUPTED, REASON, at_work

pytestmark = pytest.mark.anyio


def table(pilot):
    return pilot.app.screen.query_one(UnitsTable)


def order(pilot):
    return [line.unit for line in table(pilot).lines]


async def told(pilot, text):
    """Wait for a notification."""
    await until(pilot, lambda: any(text in one.message for one in pilot.app._notifications))


async def ready(pilot):
    """Wait for the units and for the trends of those in sight."""
    return await until(pilot, lambda: table(pilot).lines and not pilot.app.screen._missing_trends())


async def test_the_header_beside_the_distribution_is_not_wrapped(store):
    async with opened(store, FAILED, size=(120, 40)) as pilot:
        await sees(pilot, "7/8 units · ! 1 failed", "discovered")


async def test_how_it_looks(store, view, snapshot_svg):
    async with opened(store, FAILED, **view) as pilot:
        await ready(pilot)
        await sees(pilot, " ± ")
        assert await drawn(pilot) == snapshot_svg


async def test_how_a_run_looks_that_is_worked_on(store, view, snapshot_svg):
    doing = [
        Activity(2, "synthesize", "iteration", 3, 5, 0, "woven basket", "birch trunks", 6.25, time.time()),
        Activity(3, "init", "initial", 0, 5, 0, "", "", None, time.time() + 1),
    ]
    at_work(store, INTERRUPTED, *doing, drawn=0)
    async with opened(store, INTERRUPTED, **view) as pilot:
        await ready(pilot)
        await pilot.press("down", "down")
        await sees(pilot, "generating 3/5", "initializing 0/5", "running in process 4242 on lab-gpu")
        assert await drawn(pilot) == snapshot_svg


async def test_the_table_shows_of_each_unit_what_the_store_holds(store):
    async with opened(store, FAILED, size=(160, 48)) as pilot:
        await ready(pilot)
        with closing(RunStore(store, read_only=True)) as runs:
            for unit in runs.units(FAILED):
                (row,) = [row for row in shown(pilot).splitlines() if row[2:8].strip() == str(unit.unit)]
                assert unit.name in row
                assert unit.status in row
                assert (unit.label or "") in row


async def test_a_failed_unit_says_why_and_what_to_press(store):
    async with opened(store, FAILED) as pilot:
        await ready(pilot)
        await pilot.press(*["down"] * 5)
        await sees(pilot, REASON, "t retries, enter shows its history")


@pytest.mark.parametrize(
    ("query", "units"),
    [
        ("state:failed", [5]),
        ("-state:failed tiger", [1]),
        ("unit>=6", [6, 7]),
        ("5", [5]),
        ("score>0 unit<2", [0, 1]),
        ('"steam loco"', [5]),
        ("no such thing", []),
    ],
)
async def test_a_filter_leaves_what_matches(store, query, units):
    async with opened(store, FAILED) as pilot:
        await ready(pilot)
        await pilot.press("slash")
        pilot.app.screen.query_one(Input).value = query
        await until(pilot, lambda: order(pilot) == units)
        await sees(pilot, f"{len(units)} of 8 units")


async def test_a_filter_that_makes_no_sense_says_so_and_changes_nothing(store):
    async with opened(store, FAILED) as pilot:
        await ready(pilot)
        await pilot.press("slash", *"score")
        before = order(pilot)
        await pilot.press(*">x")
        await sees(pilot, "'x' after score is not a number")
        assert order(pilot) == before


async def test_escape_takes_the_filter_away_and_then_goes_back(store):
    async with opened(store, FAILED) as pilot:
        await ready(pilot)
        await pilot.press("slash", *"zebra", "enter")
        await until(pilot, lambda: order(pilot) == [2] and table(pilot).has_focus)
        await pilot.press("escape")
        await until(pilot, lambda: len(order(pilot)) == 8)
        await pilot.press("escape")
        await until(pilot, lambda: not pilot.app.screen.query(UnitsTable))


async def test_the_menu_sorts_with_the_best_first_and_o_flips(store):
    async with opened(store, FAILED) as pilot:
        await ready(pilot)
        await pilot.press("s", *["down"] * 3, "enter")
        await until(pilot, lambda: order(pilot)[-1] == 5)
        scores = [line.score for line in table(pilot).lines[:-1]]
        assert scores == sorted(scores, reverse=True)
        await sees(pilot, "by score ▼", "score▼")
        await pilot.press("o")
        # What has no score comes last either way.
        await until(pilot, lambda: [line.score for line in table(pilot).lines] == [*sorted(scores), None])


async def test_a_click_on_a_heading_sorts_and_another_flips(store):
    async with opened(store, FAILED, size=(160, 48)) as pilot:
        await ready(pilot)
        heading = next(row for row in shown(pilot).splitlines() if "AUC" in row)
        for descending in (False, True):
            await pilot.click(UnitsTable, offset=(heading.index("AUC"), 0))
            await until(pilot, lambda: (table(pilot).column.key, table(pilot).descending) == ("auc", descending))  # noqa: B023


async def test_the_cursor_stays_on_its_unit_when_order_and_filter_change(store):
    async with opened(store, FAILED) as pilot:
        await ready(pilot)
        await pilot.press("down", "down")
        for key in ("o", "o"):
            await pilot.press(key)
            await until(pilot, lambda: table(pilot).current_line.unit == 2)
        await pilot.press("slash")
        pilot.app.screen.query_one(Input).value = "unit>1"
        await until(pilot, lambda: order(pilot)[0] == 2 and table(pilot).current_line.unit == 2)


async def test_enter_and_a_second_click_open_a_unit(store):
    async with opened(store, FAILED) as pilot:
        await ready(pilot)
        await pilot.press("down", "enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, UnitScreen))
        pilot.app.pop_screen()
        await until(pilot, lambda: pilot.app.screen.query(UnitsTable))
        await pilot.click(UnitsTable, offset=(12, 3))
        assert table(pilot).current_line.unit == 2
        await pilot.click(UnitsTable, offset=(12, 3))
        await until(pilot, lambda: isinstance(pilot.app.screen, UnitScreen))


async def test_two_marks_open_the_comparison(store):
    compare = pytest.importorskip("line_neurons.tui.app.unit.compare")
    async with opened(store, FAILED) as pilot:
        await ready(pilot)
        await pilot.press("m", "m", "m", "end")
        assert table(pilot).marked == (0,)
        await sees(pilot, "◆")
        await pilot.press("m")
        await until(pilot, lambda: isinstance(pilot.app.screen, compare.CompareUnitsScreen))


async def test_c_copies_the_label(store):
    async with opened(store, FAILED) as pilot:
        await ready(pilot)
        await pilot.press("c")
        await until(pilot, lambda: pilot.app.clipboard == table(pilot).current_line.label)
        await pilot.press(*["down"] * 5, "c")
        await told(pilot, "has no label yet")


@pytest.fixture
def started(monkeypatch):
    """What was started, instead of a process; each ends with the status and the last words that are set."""

    class Started(list):
        status, words, arguments = None, "", ("resume",)

        def poll(self):
            return self.status

        def last_message(self):
            return self.words

        def launch(self, store, arguments):
            self.append((store, *arguments))
            return self

    fake = Started()
    monkeypatch.setattr(external, "launch", fake.launch)
    return fake


@pytest.mark.parametrize(
    ("run", "key", "command", "hidden"),
    [(INTERRUPTED, "r", "resume", "tx"), (FAILED, "t", "retry", "rx"), (FINISHED, "", "", "rtx")],
)
async def test_a_run_is_resumed_or_retried_where_there_is_work_left(store, started, run, key, command, hidden):
    async with opened(store, run) as pilot:
        await ready(pilot)
        await pilot.press(*hidden)
        assert not started
        offered = {binding.binding.key for binding in pilot.app.screen.active_bindings.values()}
        assert offered & set("rtx") == set(key)
        if key:
            await pilot.press(key, key)
            await until(pilot, lambda: started == [(store, command, run)])


async def test_a_process_that_ends_with_an_error_says_it(store, started):
    started.status, started.words = 2, "run x has gone; see `line runs`"
    async with opened(store, INTERRUPTED) as pilot:
        await ready(pilot)
        await pilot.press("r")
        await told(pilot, started.words)


async def test_x_asks_the_process_that_works_on_the_run_to_stop(store):
    at_work(store, INTERRUPTED)
    async with opened(store, INTERRUPTED) as pilot:
        await sees(pilot, "running in process 4242", "x Stop")
        await pilot.press("x")
        await sees(pilot, "stopping in process 4242")
        with closing(RunStore(store, read_only=True)) as runs:
            assert lease_status(runs, check_liveness=False)[INTERRUPTED].holder.stop


async def test_a_run_whose_process_died_is_stale_and_its_units_interrupted(store):
    from line_neurons.tools.store.leases import this_machine

    machine = this_machine()
    at_work(store, INTERRUPTED, Activity(3, "score", "iteration", 1, 5, 0, "x", "", None, 1.0), host=machine.host)
    with closing(RunStore(store)) as runs, runs.atomic() as db:
        db.execute("UPDATE leases SET boot = ?", [machine.boot])
    async with opened(store, INTERRUPTED) as pilot:
        await sees(pilot, f"process 4242 on {machine.host} is gone"[:60], "r Resume")
        assert table(pilot).lines[3].state == "interrupted"


async def test_a_damaged_row_is_shown_as_damaged_and_the_others_as_they_are(store):
    with closing(RunStore(store)) as runs, runs.atomic() as db:
        db.execute("UPDATE units SET score = 'lots', label = x'ff00' WHERE run = ? AND unit = 3", [FAILED])
        db.execute("UPDATE units SET label = '[red]' || char(27) || '[31m' WHERE run = ? AND unit = 4", [FAILED])
    async with opened(store, FAILED) as pilot:
        await ready(pilot)
        await sees(pilot, "? damaged", "[red] [31m")
        await pilot.press(*["down"] * 3)
        await sees(pilot, "its row in runs.db is damaged (label:")


async def test_without_colour_the_cursor_and_the_states_are_told_by_signs(store, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    async with opened(store, FAILED) as pilot:
        await ready(pilot)
        await pilot.press("down")
        row = next(row for row in shown(pilot).splitlines() if row.startswith("▸"))
        assert row.split()[:2] == ["▸", "1"]
        await sees(pilot, "! failed", "✓ finished")


async def test_columns_go_and_come_with_the_width(store):
    async with opened(store, FAILED, size=(160, 48)) as pilot:
        await ready(pilot)
        await sees(pilot, "MAD", "origin", "discovered")
        await pilot.resize_terminal(80, 24)
        heading = await until(pilot, lambda: next(row for row in shown(pilot).splitlines() if "unit▲" in row))
        assert heading.split() == ["unit▲", "name", "label", "score", "margin", "state"]


async def test_what_another_process_wrote_is_shown_exactly_once_it_has_ended(tmp_path):
    busy_run.build(tmp_path, 300)
    async with opened(tmp_path, busy_run.RUN, size=(160, 48)) as pilot:
        await ready(pilot)
        await pilot.press("s", *["down"] * 2, "enter")
        process = busy_run.worker(tmp_path, 4000, 3)
        await sees(pilot, "running in process")
        while process.poll() is None:
            await pilot.press("down")
            await pilot.pause(0.05)
        _, ended = json.loads(process.communicate()[0])
        assert ended
        with closing(RunStore(tmp_path, read_only=True)) as runs:
            held = {
                unit.unit: (unit.label, unit.score, unit.margin, unit.auc) for unit in runs.units(busy_run.RUN)
            }
            states = runs.states(busy_run.RUN)
        await until(
            pilot,
            lambda: (
                {line.unit: (line.label or None, *line[3:6]) for line in table(pilot).lines} == held
                and table(pilot).lines == sorted(table(pilot).lines, key=lambda line: (not line.label, line.label))
            ),
        )
        await sees(pilot, f"{states['finished']}/300 units", "interrupted")
