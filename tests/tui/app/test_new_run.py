"""The form that begins a run."""

import sys

import pytest
from textual.widgets import Input
from typer.main import get_command

from line_neurons.tui.app import external
from line_neurons.tui.app.runs import fields, form, new_run
from line_neurons.tui.app.runs.form import Layer, field_errors
from line_neurons.tui.app.runs.new_run import NewRunScreen
from line_neurons.tui.app.runs.screen import RunsScreen
from line_neurons.tui.app.units.screen import UnitsScreen
from line_neurons.tui.cli import invocation, jobs, run
from line_neurons.tui.cli import options as opt
from support.app_pilot import SIZES, drawn, opened, sees, until
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


async def open_form(pilot):
    await pilot.press("n")
    await until(pilot, lambda: isinstance(pilot.app.screen, NewRunScreen))
    await sees(pilot, "language model", "ollama:llama3.1:8b")


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
        ({"llm": "embed"}, "llm", "there is no language model 'embed'"),
        ({"generator": "sdxx"}, "generator", "sdxx"),
        ({"generator": "bank:nowhere"}, "generator", "no folder 'nowhere'"),
    ],
)
def test_what_does_not_fit_is_told_for_its_field(values, field, said):
    assert said in field_errors({**FITTING, **values}, LAYERS)[field]


@pytest.mark.parametrize("units", ["0-9", "all", "random:5", "cosy", "tabby cat", "3, tabby cat"])
def test_units_that_fit_or_may_be_names_of_classes_are_let_through(units):
    assert field_errors({**FITTING, "units": units}, LAYERS) == {}


@pytest.mark.parametrize(
    ("values", "field", "said"),
    [
        ({"weights": "nowhere.pth"}, "weights", "no weights file nowhere.pth"),
        ({"vocabulary": "nowhere.txt"}, "vocabulary", "no file 'nowhere.txt'"),
        ({"control": "nowhere"}, "control", "no file or folder 'nowhere'"),
        ({"layout": "rows"}, "layout", "'rows' is none of channels-first"),
        ({"layout": "fcc=tokens"}, "layout", "no layer 'fcc'; near: fc"),
        ({"init": "words"}, "init", "'control', 'images', 'vocabulary'"),
        ({"label_dead": "perhaps"}, "label_dead", "neither on nor off"),
        ({"download": "off"}, "download", "no option turns it off"),
        ({"diffusion__steps": "0"}, "diffusion__steps", "greater than or equal to 1"),
        ({"max_iterations": "20"}, "patience", "max_iterations needs patience"),
        ({"preset": "paper"}, "control", "no control set is named"),
        ({"store": "/dev/null"}, "store", "is no folder"),
    ],
)
def test_every_setting_is_checked_before_anything_starts(values, field, said):
    assert said in field_errors({**FITTING, **values}, LAYERS)[field]


def test_the_form_has_every_option_of_the_command():
    assert set(fields.SETTINGS) == {*opt.BATCH, *opt.RUN, "preset"}
    assert all(fields.field(name).about for name in fields.SETTINGS)


def test_what_the_form_starts_is_what_the_command_line_would_start(monkeypatch, tmp_path):
    file, started = tmp_path / "file", []
    file.touch()
    own = {"control": "bank", "layout": "tokens, fc=channels-first", "image_range": "0,255", "preset": "paper",
           "exclude": "cat, dog", "vocabulary": str(file), "class_names": str(file), "weights": str(file),
           "store": str(tmp_path), "assets": str(tmp_path), "llm": "random", "generator": "bank",
           "diffusion__lora": "a/b,c/d=0.5", "max_iterations": "50", "patience": "3",
           "context": "4096", "reply_tokens": "64", "diffusion__size": "64",
           "ray": "local", "worker_files": "/images", "until": "0.5", "text_encoder": "minilm",
           "captioner": "captions"}  # fmt: skip
    values = {**FITTING, "layer": "fc,layer4"}
    for name in fields.SETTINGS:
        each = fields.field(name)
        values[name] = own.get(name) or (each.choices[0][0] if each.choices else "1")
    # Ray excludes these; latents would give the layer another name.
    values |= dict.fromkeys(("devices", "generator_device", "target_device", "sae", "directions", "tokens"), "")
    assert field_errors(values, LAYERS) == {}
    monkeypatch.setattr(jobs, "batch_settings", lambda settings: settings)
    monkeypatch.setattr(jobs, "explain", lambda *given, as_json: started.append(given))
    arguments = [*form.command(values), "--store", values["store"]]
    with invocation.invoked(invocation.Invocation(arguments)):
        get_command(run.app)(arguments, standalone_mode=False)
    ((*named, settings, announced, _),) = started
    assert named == ["torchvision:resnet50", ["fc", "layer4"], ["0-9"]]
    assert announced == ["resnet50-fc-1", "resnet50-layer4-1"]
    # Settings with a preset are of a class of their own.
    assert settings.model_dump() == fields.settings_of(values).model_dump()


def test_a_setting_that_no_field_names_is_left_to_the_command():
    assert form.command(FITTING) == ["batch", "torchvision:resnet50", "fc", "--units", "0-9"]
    assert form.command({**FITTING, "label_dead": "off"})[-1] == "--no-label-dead"


def test_the_models_of_torchvision_are_those_that_it_lists():
    models = pytest.importorskip("torchvision").models
    spatial = (models.detection, models.segmentation)
    backbones = [f"{name}.backbone" for part in spatial for name in models.list_models(part)]
    names = [*models.list_models(models), *backbones]
    assert fields.torchvision_specs() == sorted(f"torchvision:{name}" for name in names)


@pytest.mark.anyio
async def test_how_the_form_looks(store, view, snapshot_svg, canned_line):
    canned_line(FC)
    async with opened(store, **view) as pilot:
        await open_form(pilot)
        await fill(pilot, model="torchvision:resnet50", units="0-2000", iterations="ten")
        await until(pilot, lambda: pilot.app.screen._layers)
        await fill(pilot, layer="fc")
        pilot.app.screen.query_one("#units").focus()
        # The other field is below the fold of the small screen.
        await sees(pilot, "! unit 0-2000", *(["! input should"] if view["size"] == SIZES[1] else []))
        assert await drawn(pilot) == snapshot_svg


@pytest.mark.anyio
async def test_layers_are_listed_with_their_units_and_one_is_taken(store, canned_line):
    canned_line(FC)
    async with opened(store) as pilot:
        await open_form(pilot)
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
        await open_form(pilot)
        await fill(pilot, model="hf:broken")
        await sees(pilot, "! there is no model")


@pytest.mark.anyio
async def test_code_of_ones_own_is_run_only_when_its_name_is_written_out(store, canned_line):
    asked = canned_line(FC)
    async with opened(store) as pilot:
        await open_form(pilot)
        await pilot.press(*"mine.py:net")
        await sees(pilot, "enter runs this code")
        await pilot.pause(3 * new_run._DEBOUNCE)
        assert not asked.exists()
        await pilot.press("enter")
        await sees(pilot, "fc  1000 Linear")
        assert asked.read_text() == "mine.py:net\n"


@pytest.mark.anyio
async def test_models_of_a_server_that_is_down_are_said_to_be_so(store):
    async with opened(store, size=(160, 48)) as pilot:
        await open_form(pilot)
        pilot.app.screen.query_one("#llm").focus()
        await sees(pilot, "127.0.0.1:9", "embedded:")


@pytest.mark.anyio
async def test_the_models_of_ollama_are_offered(store, monkeypatch):
    with serving(ScriptedOllama(models={"qwen3:4b": DIGEST})) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        async with opened(store) as pilot:
            await open_form(pilot)
            pilot.app.screen.query_one("#llm").focus()
            await sees(pilot, "ollama:qwen3:4b")


@pytest.mark.anyio
async def test_a_form_that_is_not_filled_begins_nothing_and_says_what_is_missing(store):
    async with opened(store) as pilot:
        await open_form(pilot)
        await pilot.press("ctrl+r")
        await sees(pilot, "! model: name a model", "! name a layer")
    assert not (store / "logs").exists()


@pytest.mark.anyio
async def test_a_run_is_begun_and_opened(tmp_path, scripted_line):
    async with opened(tmp_path / "store") as pilot:
        await open_form(pilot)
        await fill(pilot, model="torchvision:tiny", layer="head", units="0-2", iterations="1", images="2")
        await pilot.press("ctrl+r")
        await sees(pilot, "starting")
        await until(pilot, lambda: isinstance(pilot.app.screen, UnitsScreen))


@pytest.mark.anyio
async def test_what_the_command_says_when_it_cannot_begin_is_shown_in_the_form(store, scripted_line):
    async with opened(store) as pilot:
        await open_form(pilot)
        await fill(pilot, model="torchvision:tiny", layer="head", units="no such class")
        pilot.app.screen._layers = None
        await pilot.press("ctrl+r")
        await sees(pilot, "! unit 'no such class' is not")
        assert isinstance(pilot.app.screen, NewRunScreen)


@pytest.mark.anyio
async def test_all_settings_are_in_the_form_on_demand(store, canned_line):
    canned_line()
    async with opened(store) as pilot:
        await open_form(pilot)
        await pilot.press("f2")
        await until(pilot, lambda: len(pilot.app.screen.query(Input)) == len(fields.SETTINGS) + 3)
        await fill(pilot, patience="few", diffusion__steps="4", revisit="off")
        line = pilot.app.screen._line()
        assert "--steps 4" in line and "--no-revisit" in line
        await until(pilot, lambda: "valid integer" in str(pilot.app.screen.query_one("#patience-error").render()))


@pytest.mark.anyio
async def test_defaults_follow_what_is_typed(store, canned_line):
    canned_line()
    async with opened(store) as pilot:
        await open_form(pilot)
        control = pilot.app.screen.query_one("#control", Input)
        assert control.placeholder == "bank"
        await fill(pilot, init="vocabulary")
        await until(pilot, lambda: control.placeholder == "none")


@pytest.mark.anyio
async def test_a_run_is_begun_in_another_store_and_opened_there(store, tmp_path, scripted_line):
    async with opened(store) as pilot:
        await open_form(pilot)
        values = {"model": "torchvision:tiny", "layer": "head", "units": "0-2", "iterations": "1", "images": "2"}
        await fill(pilot, **values, store=str(tmp_path / "other"))
        await pilot.press("ctrl+r")
        await until(pilot, lambda: isinstance(pilot.app.screen, UnitsScreen))
        assert pilot.app.screen._store == tmp_path / "other"
