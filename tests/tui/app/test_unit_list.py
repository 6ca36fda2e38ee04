"""The list of units of a layer in the form for a new run."""

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.widgets import Input

from line_neurons.tools.targets.unit_selectors import parse_units
from line_neurons.tui.app import external
from line_neurons.tui.app.runs import form, unit_list
from line_neurons.tui.app.runs.new_run import NewRunScreen
from line_neurons.tui.app.runs.unit_list import UnitListScreen, UnitTable, as_selector
from support.app_pilot import drawn, opened, sees, until

LAYERS = '[{"path": "conv~sae", "kind": "Conv2d", "units": 40}, {"path": "fc~sae", "kind": "Linear", "units": 40}]'
CLASSES = ("tiger", "castle", "violin", "sports car")
UNITS = [
    {
        "unit": unit, "density": unit / 100, "mean": unit / 7, "max": float(unit),
        "strongest class": CLASSES[unit % 4] if unit else "", "state": "alive" if unit else "dead",
    }
    for unit in range(40)
]  # fmt: skip


@pytest.fixture
def canned(monkeypatch, tmp_path):
    """`line layers` and `line units` answer at once, and note what they were asked."""

    def answers(units=UNITS):
        said = (
            "import sys; open('asked', 'a').write(' '.join(sys.argv[1:]) + chr(10));"
            f"print({json.dumps(units)!r} if sys.argv[1] == 'units' else {LAYERS!r})"
        )
        if units is None:
            failing = "sys.exit('error: no such control set')"
            said = f"import sys; {failing} if sys.argv[1] == 'units' else print({LAYERS!r})"
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(external, "COMMAND", [sys.executable, "-S", "-c", said])
        return tmp_path / "asked"

    return answers


async def open_list(pilot, **more):
    await pilot.press("n")
    await until(pilot, lambda: isinstance(pilot.app.screen, NewRunScreen))
    if more:
        await pilot.press("f2")
    for name, value in {"model": "torchvision:tiny", "layer": "conv", **more}.items():
        await until(pilot, lambda name=name: pilot.app.screen.query(f"#{name}"))
        pilot.app.screen.query_one(f"#{name}", Input).value = value
    await until(pilot, lambda: pilot.app.screen._layers)
    await pilot.press("f3")
    await until(pilot, lambda: isinstance(pilot.app.screen, UnitListScreen))


@pytest.mark.anyio
async def test_how_the_list_looks(store, view, snapshot_svg, canned):
    canned()
    async with opened(store, **view) as pilot:
        await open_list(pilot)
        await sees(pilot, "40 units")
        await pilot.press("s", "down", "down", "down", "enter")
        await pilot.press("space", "space")
        await sees(pilot, "2 marked")
        assert await drawn(pilot) == snapshot_svg


@pytest.mark.anyio
async def test_units_are_sorted_filtered_marked_and_put_into_the_form(store, canned):
    asked = canned()
    async with opened(store, size=(160, 48)) as pilot:
        await open_list(pilot, sae="sae.pt", seed="3")
        await sees(pilot, "40 units")
        assert "units torchvision:tiny conv --seed 3 --sae sae.pt" in asked.read_text()
        await pilot.press("slash", *"castle density>.2")
        await sees(pilot, "5 of 40 units")
        await pilot.press("enter", "o")
        assert [unit.unit for unit in pilot.app.screen.query_one(UnitTable).records] == [37, 33, 29, 25, 21]
        await pilot.press("a", "space")
        await sees(pilot, "4 marked")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, NewRunScreen))
        assert pilot.app.screen.query_one("#units", Input).value == "21,25,29,33"
        await sees(pilot, "4 units; ctrl+r starts", "--units 21,25,29,33")


@pytest.mark.anyio
async def test_without_a_mark_it_is_the_unit_under_the_cursor(store, canned):
    canned()
    async with opened(store) as pilot:
        await open_list(pilot)
        await sees(pilot, "40 units")
        await pilot.press("down", "down", "enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, NewRunScreen))
        assert pilot.app.screen.query_one("#units", Input).value == "2"


@pytest.mark.anyio
async def test_of_very_many_units_the_first_in_the_order_are_shown_and_all_can_be_marked(
    store, canned, monkeypatch
):
    monkeypatch.setattr(unit_list, "MOST_ROWS", 10)
    canned()
    async with opened(store) as pilot:
        await open_list(pilot)
        await sees(pilot, "40 units, the first 10 are shown")
        await pilot.press("a")
        await sees(pilot, "40 marked")
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, NewRunScreen))
        assert pilot.app.screen.query_one("#units", Input).value == ""


@pytest.mark.anyio
async def test_what_the_command_says_is_shown(store, canned):
    canned(None)
    async with opened(store) as pilot:
        await open_list(pilot)
        await sees(pilot, "! no such control set")


@pytest.mark.anyio
async def test_a_form_without_a_layer_has_no_units_to_list(store, canned):
    canned()
    async with opened(store) as pilot:
        await pilot.press("n")
        await until(pilot, lambda: isinstance(pilot.app.screen, NewRunScreen))
        await pilot.press("f3")
        await sees(pilot, "! model: name a model")


@given(st.sets(st.integers(0, 60), min_size=1))
def test_a_choice_is_written_as_what_selects_it(units):
    assert parse_units([as_selector(units)], 61, seed=0, layer="l") == sorted(units)


def test_units_of_latents_are_counted_by_the_autoencoder():
    layers = form.layers_of(json.loads(LAYERS))
    assert [(layer.path, layer.units) for layer in layers] == [("conv", 40), ("fc", 40)]
    values = {"model": "torchvision:tiny", "layer": "conv", "units": "39", "sae": "sae.pt"}
    assert form.field_errors(values, layers) == {}
    assert "units are 0-39" in form.field_errors({**values, "units": "40"}, layers)["units"]
