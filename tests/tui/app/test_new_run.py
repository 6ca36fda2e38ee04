"""The form that begins a run."""

import sys

import pytest
from textual.widgets import Input

from line_neurons.tui.app import external
from line_neurons.tui.app.runs import form as run_form
from line_neurons.tui.app.runs.form import Layer, field_errors
from line_neurons.tui.app.runs.new_run import NewRunScreen
from line_neurons.tui.app.runs.screen import RunsScreen
from line_neurons.tui.app.units.screen import UnitsScreen
from support.app_pilot import drawn, opened, sees, until
from support.fake_ollama import DIGEST, ScriptedOllama, serving

LAYERS = [Layer("layer4", "Sequential", 2048), Layer("fc", "Linear", 1000)]
FITTING = {"model": "torchvision:resnet50", "layer": "fc", "units": "0-9"}


@pytest.fixture
def canned_line(monkeypatch, tmp_path):
    """`line layers` answers from a list and notes the models that it was asked for; a model `broken:x` fails."""

    def answers(layers="[]"):
        said = (
            "import sys; model = sys.argv[2]; open('asked', 'a').write(model + chr(10));"
            f"print({layers!r}) if model != 'hf:broken' else sys.exit('error: there is no model hf:broken')"
        )
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(external, "COMMAND", [sys.executable, "-S", "-c", said])
        return tmp_path / "asked"

    return answers


async def fill(pilot, **values):
    for name, value in values.items():
        pilot.app.screen.query_one(f"#{name}", Input).value = value
        await pilot.pause()


async def form(pilot):
    await pilot.press("n")
    await until(pilot, lambda: isinstance(pilot.app.screen, NewRunScreen))
    await sees(pilot, "language model ollama:llama3.1:8b")


FC = '[{"path": "layer4", "kind": "Sequential", "units": 2048}, {"path": "fc", "kind": "Linear", "units": 1000}]'


@pytest.mark.parametrize(
    ("values", "field", "said"),
    [
        ({"model": ""}, "model", "name a model"),
        ({"model": "resnet50"}, "model", "torchvision:"),
        ({"model": "-x:y"}, "model", "begins with"),
        ({"layer": "fcc"}, "layer", "no layer 'fcc'; near: fc"),
        ({"layer": "fc,layer5"}, "layer", "no layer 'layer5'"),
        ({"units": "1000"}, "units", "units are 0-999"),
        ({"units": "random:5000"}, "units", "has 1 to 1000"),
        ({"units": "@nowhere.txt"}, "units", "nowhere.txt"),
        ({"iterations": "ten"}, "iterations", "valid integer"),
        ({"images": "0"}, "images", "greater than or equal to 1"),
        ({"max_concurrent_units": "2000"}, "max_concurrent_units", "less than or equal to 1024"),
        ({"control": "none"}, "control", "needs a control set"),
        ({"llm": "embed"}, "llm", "is none of: ollama:NAME"),
        ({"generator": "sdxx"}, "generator", "sdxx"),
        ({"generator": "bank:nowhere"}, "generator", "no folder 'nowhere'"),
    ],
)
def test_what_does_not_fit_is_told_for_its_field(values, field, said):
    assert said in field_errors({**FITTING, **values}, LAYERS)[field]


@pytest.mark.parametrize("units", ["0-9", "all", "random:5", "cosy", "tabby cat", "3, tabby cat"])
def test_units_that_fit_or_may_be_names_of_classes_are_let_through(units):
    assert field_errors({**FITTING, "units": units}, LAYERS) == {}


def test_the_models_of_torchvision_are_those_that_it_lists():
    models = pytest.importorskip("torchvision").models
    assert run_form.torchvision_specs() == sorted(f"torchvision:{name}" for name in models.list_models(models))


@pytest.mark.anyio
async def test_how_the_form_looks(store, view, snapshot_svg, canned_line):
    canned_line(FC)
    async with opened(store, **view) as pilot:
        await form(pilot)
        await fill(pilot, model="torchvision:resnet50", units="0-2000", iterations="ten")
        await until(pilot, lambda: pilot.app.screen._layers)
        await fill(pilot, layer="fc")
        pilot.app.screen.query_one("#units").focus()
        await sees(pilot, "! unit 0-2000", "! input should")
        assert await drawn(pilot) == snapshot_svg


@pytest.mark.anyio
async def test_layers_are_listed_with_their_units_and_one_is_taken(store, canned_line):
    canned_line(FC)
    async with opened(store) as pilot:
        await form(pilot)
        await pilot.press(*"hf:a/b", "enter")
        await sees(pilot, "fc  1000 Linear")
        await pilot.press("down", "down", "enter")
        assert pilot.app.screen.query_one("#layer", Input).value == "fc"
        await pilot.press("tab", *"0-9")
        await sees(pilot, "10 units; ctrl+r starts", "line batch hf:a/b fc --units 0-9")
        await pilot.press("ctrl+y")
        assert pilot.app.clipboard.startswith("line batch hf:a/b fc --units 0-9 --store")
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunsScreen))


@pytest.mark.anyio
async def test_what_line_layers_says_stands_under_the_model(store, canned_line):
    canned_line()
    async with opened(store) as pilot:
        await form(pilot)
        await fill(pilot, model="hf:broken")
        await sees(pilot, "! there is no model")


@pytest.mark.anyio
async def test_code_of_ones_own_is_run_only_when_its_name_is_written_out(store, canned_line):
    asked = canned_line(FC)
    async with opened(store) as pilot:
        await form(pilot)
        await pilot.press(*"mine.py:net")
        await sees(pilot, "enter runs this code")
        await pilot.pause(1)
        assert not asked.exists()
        await pilot.press("enter")
        await sees(pilot, "fc  1000 Linear")
        assert asked.read_text() == "mine.py:net\n"


@pytest.mark.anyio
async def test_models_of_a_server_that_is_down_are_said_to_be_so(store):
    async with opened(store, size=(160, 48)) as pilot:
        await form(pilot)
        pilot.app.screen.query_one("#llm").focus()
        await sees(pilot, "127.0.0.1:9", "embedded:")


@pytest.mark.anyio
async def test_the_models_of_ollama_are_offered(store, monkeypatch):
    with serving(ScriptedOllama(models={"qwen3:4b": DIGEST})) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        async with opened(store) as pilot:
            await form(pilot)
            pilot.app.screen.query_one("#llm").focus()
            await sees(pilot, "ollama:qwen3:4b")


@pytest.mark.anyio
async def test_a_form_that_is_not_filled_begins_nothing_and_says_what_is_missing(store):
    async with opened(store) as pilot:
        await form(pilot)
        await pilot.press("ctrl+r")
        await sees(pilot, "! model: name a model", "! name a layer")
    assert not (store / "logs").exists()


@pytest.mark.anyio
async def test_a_run_is_begun_and_opened(tmp_path, scripted_line):
    async with opened(tmp_path / "store") as pilot:
        await form(pilot)
        await fill(pilot, model="torchvision:tiny", layer="head", units="0-2", iterations="1", images="2")
        await pilot.press("ctrl+r")
        await sees(pilot, "starting")
        await until(pilot, lambda: isinstance(pilot.app.screen, UnitsScreen))


@pytest.mark.anyio
async def test_what_the_command_says_when_it_cannot_begin_is_shown_in_the_form(store, scripted_line):
    async with opened(store) as pilot:
        await form(pilot)
        await fill(pilot, model="torchvision:tiny", layer="head", units="no such class")
        pilot.app.screen._layers = None
        await pilot.press("ctrl+r")
        await sees(pilot, "! unit 'no such class' is not")
        assert isinstance(pilot.app.screen, NewRunScreen)
