"""Facets of a unit in the app."""

from contextlib import closing

import pytest
from textual.widgets import Static

from line_neurons.tools.store.runs import RunStore
from line_neurons.tui.app.unit.facets import FacetsScreen, FacetTable
from line_neurons.tui.app.unit.images import ImageGrid
from line_neurons.tui.app.unit.screen import UnitScreen
from line_neurons.tui.app.units.columns import SORTABLE
from line_neurons.tui.app.units.table import UnitsTable
from support.app_pilot import opened, sees, until
from support.facet_store import add_facets
from support.store_factory import FAILED, FINISHED

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_the_facets_are_a_key_away_with_labels_and_images(store, size):
    add_facets(store, FAILED, 0)
    async with opened(store, size=size) as pilot:
        screen = UnitScreen(store, FAILED, 0)
        pilot.app.push_screen(screen)
        await until(pilot, lambda: screen.sub_title)
        await pilot.press("6")
        await until(pilot, lambda: isinstance(pilot.app.screen, FacetsScreen))
        facets = pilot.app.screen
        await sees(pilot, "grass <b>", "no label yet", "Strongest images: barn owl, eagle; label: proposed")
        summary = str(facets.query_one("#summary", Static).render())
        assert summary.startswith(
            "3 groups of its strongest images, 2 with a label; polysemanticity 0.94 [0.81, 1.02]"
        )
        await until(pilot, lambda: len(facets.query_one(ImageGrid).loaded) == 2)
        await pilot.press("down")
        assert facets.query_one(FacetTable).selected().label == "grass <b>"
        await sees(pilot, "meadow, lawn, moss and 1 more")
        await pilot.press("down", "p")
        assert pilot.app.screen is facets


async def test_without_facets_the_command_is_told(store):
    async with opened(store, size=(80, 24)) as pilot:
        screen = UnitScreen(store, FAILED, 0)
        pilot.app.push_screen(screen)
        await until(pilot, lambda: screen.sub_title)
        await pilot.press("6")
        await until(pilot, lambda: any("line facets" in one.message for one in pilot.app._notifications))


async def test_units_are_sorted_by_their_polysemanticity(store):
    with closing(RunStore(store, read_only=True)) as runs:
        units = [unit.unit for unit in runs.units(FINISHED)]
    add_facets(store, FINISHED, units[0], numbers={"facets": 1, "polysemanticity": 0.2})
    add_facets(store, FINISHED, units[2], numbers={"facets": 2, "polysemanticity": 0.9})
    async with opened(store, FINISHED, size=(120, 40)) as pilot:
        await sees(pilot, "polysem.", "0.90", "0.20")
        table = pilot.app.screen.query_one(UnitsTable)
        column = next(column for column in SORTABLE if column.key == "polysemanticity")
        table.sort(column, descending=True)
        assert [line.unit for line in table.lines][:2] == [units[2], units[0]]
        assert [line.polysemanticity for line in table.lines][2:] == [None] * (len(table.lines) - 2)
