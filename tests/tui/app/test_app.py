"""The frame of the app: what it imports, its looks, help, palette and screenshots."""

import subprocess
import sys

import pytest
from textual.widgets import DataTable, Input

from line_neurons.tui.app import themes
from line_neurons.tui.app.app import LineApp
from line_neurons.tui.app.help import HelpScreen
from line_neurons.tui.app.runs.new_run import NewRunScreen
from line_neurons.tui.app.runs.screen import RunsScreen
from line_neurons.tui.app.unit.board import BoardTable
from line_neurons.tui.app.unit.compare import CompareUnitsScreen
from line_neurons.tui.app.unit.screen import UnitScreen
from line_neurons.tui.app.units.screen import UnitsScreen
from support.app_pilot import opened, rested, sees, shown, told, until
from support.command_checks import refused
from support.store_factory import FAILED

HEAVY = {"torch", "torchvision", "langgraph", "diffusers", "transformers", "pandas", "matplotlib", "scipy"}


def test_neither_engines_nor_pandas_are_imported(real_store):
    looks = (
        "import sys; from pathlib import Path; import line_neurons.tui.app.app;"
        "from line_neurons.tui.app.run_rows import *;"
        "from line_neurons.tui.app.runs.new_run import *; store = RunStore(Path(sys.argv[1]), read_only=True);"
        "assert len(RunRowReader()(store)) == 3; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", looks, real_store], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())


def test_without_a_terminal_there_is_one_line(line, store):
    refused(line("tui"), "needs a terminal", "line runs")


@pytest.mark.anyio
async def test_a_named_run_is_opened_over_the_runs(store):
    async with opened(store, FAILED) as pilot:
        await until(pilot, lambda: isinstance(pilot.app.screen, UnitsScreen))
        pilot.app.pop_screen()
        await sees(pilot, "3 runs")


@pytest.mark.anyio
async def test_the_other_theme_is_taken_and_remembered(store):
    async with opened(store) as pilot:
        await sees(pilot, "3 runs")
        await pilot.press("d")
        assert pilot.app.theme == themes.LIGHT.name
    assert LineApp(store).theme == themes.LIGHT.name
    async with opened(store, theme=themes.LIGHT.name) as pilot:
        await pilot.press("d")
    assert LineApp(store).theme == themes.DARK.name


@pytest.mark.anyio
async def test_help_tells_the_keys_of_the_screen_that_it_is_asked_on(store):
    async with opened(store, size=(160, 48)) as pilot:
        await sees(pilot, "3 runs")
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(pilot.app.screen, HelpScreen))
        await sees(pilot, "This screen", "Resume. Continue the unfinished units", "Everywhere", "Dark or light")
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(pilot.app.screen, HelpScreen))


@pytest.mark.anyio
async def test_what_keys_do_is_found_in_the_palette(store):
    async with opened(store, size=(160, 48)) as pilot:
        await sees(pilot, "3 runs")
        await pilot.press("ctrl+p", *"filter")
        await sees(pilot, "Filter", "key /")
        await until(pilot, lambda: "By name, model" in shown(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: pilot.app.screen.query_one("#filter", Input).has_focus)


@pytest.mark.anyio
async def test_a_screenshot_is_saved_and_said_where(store, tmp_path):
    async with opened(store) as pilot:
        await sees(pilot, "3 runs")
        await pilot.press("ctrl+s")
        (image,) = tmp_path.glob("line-*.svg")
        assert f"Screenshot saved {image}" in told(pilot)
    assert FAILED in image.read_text()


@pytest.mark.anyio
async def test_without_colours_states_are_words_and_signs(store, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    async with opened(store) as pilot:
        assert pilot.app.no_color
        await sees(pilot, "! failed", "‖ interrupted", "✓ finished")


@pytest.mark.anyio
@pytest.mark.parametrize("width", [80, 120])
async def test_no_key_of_a_footer_is_cut_and_the_help_is_always_there(store, width):
    async with opened(store, size=(width, 36)) as pilot:
        await sees(pilot, FAILED)
        for screen in (
            RunsScreen(store), NewRunScreen(store), UnitsScreen(store, FAILED), UnitScreen(store, FAILED, 2),
            CompareUnitsScreen(store, (FAILED, 1), (FAILED, 2)),
        ):  # fmt: skip
            pilot.app.push_screen(screen)
            await until(pilot, lambda screen=screen: screen.query("FooterKey"))
            await rested(pilot)
            footer = shown(pilot).splitlines()[-1]
            keys = list(screen.query("FooterKey"))
            assert len(footer) <= width
            assert all(f"{key.key_display} {key.description}" in footer for key in keys)
            assert "Help" in footer


@pytest.mark.anyio
async def test_home_and_end_go_to_the_first_and_last_row_of_every_table(store):
    async with opened(store) as pilot:
        await sees(pilot, FAILED)
        table = pilot.app.screen.query_one(DataTable)
        await pilot.press("end")
        await until(pilot, lambda: table.cursor_row == table.row_count - 1 > 0)
        await pilot.press("home")
        await until(pilot, lambda: table.cursor_row == 0)
        for screen in (UnitScreen(store, FAILED, 2), CompareUnitsScreen(store, (FAILED, 1), (FAILED, 2))):
            pilot.app.push_screen(screen)
            board = await until(pilot, lambda screen=screen: screen.query(BoardTable).first())
            await until(pilot, lambda board=board: board.row_count > 1)
            board.focus()
            await pilot.press("end")
            await until(pilot, lambda board=board: board.cursor_row == board.row_count - 1)
            await pilot.press("home")
            await until(pilot, lambda board=board: board.cursor_row == 0)
