"""Edits of a unit's images in the app."""

import pytest
from textual.widgets import Static

from line_neurons.tui.app.unit.edits import EditsScreen, EditTable
from line_neurons.tui.app.unit.images import ImageGrid
from line_neurons.tui.app.unit.screen import UnitScreen
from support.app_pilot import opened, sees, until
from support.edited_store import add_edits
from support.store_factory import FAILED

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_the_edits_are_a_key_away_with_verdicts_and_images(store, size):
    add_edits(store, FAILED, 0)
    add_edits(store, FAILED, 0, how="insert")
    async with opened(store, size=size) as pilot:
        screen = UnitScreen(store, FAILED, 0)
        pilot.app.push_screen(screen)
        await until(pilot, lambda: screen.sub_title)
        await pilot.press("5")
        await until(pilot, lambda: isinstance(pilot.app.screen, EditsScreen))
        edits = pilot.app.screen
        await sees(pilot, "still there", "grass <b> 0", "ok (original, edit, control edit)")
        summary = str(edits.query_one("#summary", Static).render())
        assert summary == "effect 7, p = 0.031, rank 2 of 40 units; 1 of 2 edits verified"
        await until(pilot, lambda: len(edits.query_one(ImageGrid).loaded) == 3)
        await pilot.press("down")
        await until(pilot, lambda: "registered" in str(edits.query_one("#detail", Static).render()))
        assert edits.query_one(EditTable).selected().verdict == "still there"
        first = str(edits.query_one("#title", Static).render())
        await pilot.press("n")
        assert {first.split()[4], str(edits.query_one("#title", Static).render()).split()[4]} == {
            "remove",
            "insert",
        }


async def test_without_edits_the_command_is_told(store):
    async with opened(store, size=(80, 24)) as pilot:
        screen = UnitScreen(store, FAILED, 0)
        pilot.app.push_screen(screen)
        await until(pilot, lambda: screen.sub_title)
        await pilot.press("5")
        await until(pilot, lambda: any("line eval edits" in one.message for one in pilot.app._notifications))
