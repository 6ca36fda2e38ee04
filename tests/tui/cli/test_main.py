"""The command as a user types it, on real parts: the embedded target, the bundled bank, real databases."""

import hashlib
import json
import shlex
import sqlite3
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.main import get_command, get_group

from line_neurons.agent.diffusion_settings import DiffusionSettings
from line_neurons.agent.settings import Settings
from line_neurons.agent.settings_sources import NO_FLAG, flag_of
from line_neurons.agent.text import format_spread
from line_neurons.tui.cli import jobs as labelling
from line_neurons.tui.cli import options, run
from line_neurons.tui.cli import output as terminal
from line_neurons.tui.cli.commands import ASSETS, COMMANDS, DIRECTION, EVAL
from support.command_checks import refused

MODEL = "torchvision:mobilenet_v2"
# Small but whole: two classes and two others on the first board, two images each, one step and the summary; one
# control image of each concept.
SMALL = [
    *("--llm", "random", "--generator", "bank"),
    *("--top", "2", "--random", "2", "--images", "2", "--iterations", "1", "--control-images", "1"),
]


def snapshot(folder: Path) -> dict[str, str]:
    if not folder.exists():
        return {}
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_help_lists_the_commands(line):
    status, out, _ = line("--help")
    assert status == 0
    commands = "explain batch demo resume retry revisit results runs show layers pull models doctor assets"
    for command in commands.split():
        assert f" {command} " in out


@pytest.mark.parametrize("command", ["explain", "batch", "resume", "retry"])
def test_the_options_that_commands_share_stand_in_panels(line, command):
    status, out, _ = line(command, "--help")
    assert status == 0
    for word in (
        "Language model",
        "--llm",
        "Images",
        "--image-batch",
        "--device",
        "Files and output",
        "--store",
    ):
        assert word in out
    assert ("--max-concurrent-units" in out) == (command != "explain")
    assert ("--patience" in out) == (command in {"explain", "batch"})


@pytest.mark.parametrize(("command", "most"), [("batch", 290), ("explain", 275), ("resume", 140), ("demo", 36)])
def test_the_help_of_a_command_can_be_read_at_80_columns(line, monkeypatch, command, most):
    monkeypatch.setenv("COLUMNS", "80")
    status, out, _ = line(command, "--help")
    lines = out.splitlines()
    assert (status, len(lines) < most, max(map(len, lines))) == (0, True, 80)
    # Descriptions have more than half of the width, and no line has a word or two only.
    shown = " ".join(out.replace("│", " ").split())
    assert "separated by commas; not set: OLLAMA_HOST, or this machine." in shown
    assert "[default: not set]" not in shown
    assert "list[" not in shown


def test_the_help_names_the_folders_in_use(line, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert options.default_text("store") == "~/data/line-neurons"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert options.default_text("store") == str(tmp_path / "data/line-neurons")


@pytest.mark.parametrize("name", ["--image-batch", "--draw-batch"])
def test_shared_options_arrive_as_settings_and_those_of_diffusion_in_their_table(name):
    got: list[object] = []
    app = typer.Typer()

    @options.command(app, "command", ("seed", "diffusion__steps", "diffusion__batch"))
    def command(model: str, *, json: bool = False, **flags: object) -> None:
        got.append((model, json, flags))

    app(["x", "--seed", "0", name, "3"], standalone_mode=False)
    assert got == [("x", False, {"seed": 0, "diffusion": {"batch": 3}})]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("in-flight", "max-concurrent-units"),
        ("give-up", "max-consecutive-failures"),
        ("batch-wait", "batch-timeout"),
    ],
)
def test_flags_of_earlier_versions_work_and_stand_in_no_help(line, old, new):
    got: list[object] = []
    app = typer.Typer()

    @options.command(app, "command", options.BATCH)
    def command(**flags: object) -> None:
        got.append(flags)

    app([f"--{old}", "3"], standalone_mode=False)
    app([f"--{old}", "3", f"--{new}", "4"], standalone_mode=False)
    assert got == [{new.replace("-", "_"): 3}, {new.replace("-", "_"): 4}]
    assert f"--{old}" not in line("batch", "--help")[1]


def every_setting():
    names = [name for name in Settings.model_fields if name != "diffusion"]
    return [*names, *(f"diffusion__{name}" for name in DiffusionSettings.model_fields)]


def test_every_setting_has_a_flag_whose_help_has_its_default_or_is_listed_as_one_without():
    assert {*options.RUN, *options.BATCH} | NO_FLAG == {*every_setting()}
    assert not {*options.RUN, *options.BATCH} & NO_FLAG
    app = typer.Typer()
    options.command(app, "command", (*options.BATCH, *options.RUN))(lambda **flags: None)
    help_of = {option.name: option for option in get_command(app).params if not option.hidden}
    for name in (*options.BATCH, *options.RUN):
        field = options.field_of(name)
        option = help_of[name]
        assert flag_of(name) in option.opts
        assert field.description.rstrip(".") in option.help
        on = {True: "on", False: "off"}.get(field.default) if isinstance(field.default, bool) else None
        default = on or str(field.default)
        if field.default not in (None, "", ()):
            assert option.help.replace("\\[", "[").endswith(f"[default: {default}]")
        elif name not in options.FILES:
            assert "default:" not in option.help
        if "Literal" in str(field.annotation):
            assert "|" in option.metavar
        bounds = [getattr(bound, sign, None) for bound in field.metadata for sign in ("ge", "gt", "le", "lt")]
        assert all(str(bound) in option.help for bound in bounds if bound is not None)


def test_batch_shows_its_own_defaults_and_a_resume_those_of_the_run():
    commands = get_group(run.app).commands
    batch, resume = (
        {option.name: option.help for option in commands[name].params} for name in ("batch", "resume")
    )
    assert batch["max_concurrent_units"].endswith("\\[default: 16]")
    assert batch["max_consecutive_failures"].endswith("\\[default: 10]")
    assert resume["temperature"].endswith("\\[default: as recorded]")


def commands():
    tables = ((), COMMANDS), (("eval",), EVAL), (("assets",), ASSETS), (("direction",), DIRECTION)
    return [
        ((*group, name), module, summary)
        for group, table in tables
        for panel in table.values()
        for name, (module, summary) in panel.items()
    ]


@pytest.mark.parametrize(("path", "module", "summary"), commands(), ids=[" ".join(row[0]) for row in commands()])
def test_every_command_is_the_one_of_its_module_and_its_examples_can_be_typed(path, module, summary):
    command = get_group(import_module(f"line_neurons.tui.cli.{module}").app).commands[path[-1]]
    assert " ".join(command.help.split("\n\n")[0].split()) == summary
    heading, *examples = command.epilog.replace("\\[", "[").split("\n\n")
    assert (heading, 2 <= len(examples) <= 3) == ("Examples:", True)
    for example in examples:
        program, *arguments = shlex.split(example)
        assert (program, tuple(arguments[: len(path)])) == ("line", path)
        command.make_context(path[-1], arguments[len(path) :])


def test_the_help_imports_no_command():
    code = (
        "import contextlib, io, sys; sys.argv = ['line', '--help']; from line_neurons.tui.cli.main import main\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): main()\n"
        "print(*(name for name in sys.modules if name.startswith('line_neurons.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    light = {"agent", "agent.concepts", "agent.errors", "agent.nouns", "agent.text", "tui", "tui.cli",
             "tui.cli.shell", "tui.cli.shell.bash_words",
             "tui.cli.shell.fish_and_zsh", "tui.cli.commands", "tui.cli.exit_codes", "tui.cli.main",
             "tui.cli.process", "tui.cli.process.standard_streams"}  # fmt: skip
    assert {name.removeprefix("line_neurons.") for name in done.stdout.split()} <= light


def test_an_unknown_format_is_refused_before_the_place_of_the_file_is_asked_for(line):
    refused(line("export", "x", "--format", "xls"), "'xls' is not a format", "choose from csv, jsonl, parquet")


def test_there_is_nothing_in_a_new_store_and_looking_makes_none(line, tmp_path):
    assert line("runs", "--json")[:2] == (0, "[]\n")
    assert "no runs" in line("runs")[1]
    refused(line("show", "x"), "no runs", "line demo")
    refused(line("resume"), "no runs")
    assert not (tmp_path / "store").exists()


def test_an_unknown_command_or_flag_is_an_error_of_usage(line):
    assert line("explan")[0] == 2
    assert line("runs", "--nope")[0] == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [("seed = [\n", ["line.toml", "not valid TOML"]), ("sed = 1\n", ["'sed'"]), ("images = 'x'\n", ["images"])],
)
def test_a_malformed_settings_file_is_refused(line, tmp_path, text, words):
    (tmp_path / "line.toml").write_text(text)
    refused(line("explain", MODEL, "classifier.1", "0"), *words)


@pytest.mark.parametrize("concept", ["<script>", "../../etc", "x" * 10_000, "\x1b[31m", "", "a, b"])
def test_a_concept_that_is_none_is_refused(line, tmp_path, concept):
    err = refused(line("explain", MODEL, "classifier.1", "0", "--exclude", concept), "exclude")
    assert "\x1b" not in err
    assert len(err) < 500
    assert not (tmp_path / "store").exists()


def test_a_store_of_a_newer_version_is_refused_and_left_alone(line, tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    with sqlite3.connect(store / "runs.db") as db:
        db.execute("create table _sqlite_migrations (id integer primary key, migration_set, name, applied_at)")
        db.execute("insert into _sqlite_migrations values (1, 'line-runs', 'm999_future', '2040-01-01')")
    before = snapshot(store)
    refused(line("runs"), "newer version", "upgrade")
    refused(line("show", "x"), "newer version")
    assert snapshot(store) == before


def test_a_store_that_is_no_database_is_refused(line, tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    (store / "runs.db").write_text("not a database at all " * 100)
    refused(line("runs"), "runs.db", "line doctor --store", "a backup of the file")


def test_missing_weights_name_the_remedy(line, tmp_path):
    refused(line("explain", MODEL, "classifier.1", "0", "--assets", tmp_path / "none"), "line assets install")


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["torchvision:mobilnet_v2", "classifier.1", "0"], ["mobilnet_v2", "mobilenet_v2"]),
        (["mobilenet_v2", "classifier.1", "0"], ["torchvision:"]),
        ([MODEL, "classifer.1", "0"], ["classifer.1", "classifier.1"]),
        ([MODEL, "classifier.1", "1000"], ["1000", "0-999"]),
        ([MODEL, "classifier.1", "tigr"], ["tigr", "tiger"]),
        ([MODEL, "features.18", "tiger"], ["tiger"]),
        ([MODEL, "classifier.1", "0", "--control", "nowhere"], ["nowhere"]),
        ([MODEL, "classifier.1", "0", "--control", "empty"], ["empty"]),
        ([MODEL, "classifier.1", "0", "--generator", "bank:nowhere"], ["nowhere"]),
        ([MODEL, "classifier.1", "0", "--generator", "sdxxl"], ["sdxxl"]),
        ([MODEL, "classifier.1", "0", "--llm", "embeded"], ["embeded", "random"]),
        ([MODEL, "classifier.1", "0", "--weights", "none.pth"], ["none.pth"]),
        ([MODEL, "classifier.1", "0", "--iterations", "-1"], ["iterations", "-1"]),
        ([MODEL, "classifier.1", "0", "--scorer", "median"], ["median"]),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(line, assets, tmp_path, arguments, words):
    (tmp_path / "empty").mkdir()
    # Parts that are here, so that nothing but the bad input can be refused.
    parts = ["--llm", "random", "--generator", "bank"]
    refused(line("explain", *parts, *arguments), *words)
    assert not (tmp_path / "store").exists()


@pytest.mark.e2e
def test_a_store_that_cannot_be_written_is_one_line(line, assets, tmp_path):
    (tmp_path / "file").write_text("")
    refused(line("explain", MODEL, "classifier.1", "0", *SMALL, "--store", tmp_path / "file" / "s"), "cannot be")


@pytest.mark.e2e
@pytest.mark.usefixtures("few_control_images")
def test_a_run_from_start_to_evidence(line, assets, tmp_path):
    status, out, _ = line("explain", MODEL, "classifier.1", "magpie", *SMALL, "--json")
    assert status == 0
    explained = json.loads(out)
    unit = explained["units"][0]
    assert (unit["unit"], unit["name"], unit["status"]) == (18, "magpie", "finished")
    assert unit["margin"] == pytest.approx(unit["score"] - unit["initial_score"])
    assert explained["fingerprints"]["target"].startswith(MODEL)
    assert explained["settings"]["hints"] == 12

    listed = json.loads(line("runs", "--json")[1])
    assert [(run["id"], run["status"], run["units_finished"]) for run in listed] == [
        (explained["id"], "finished", 1)
    ]
    assert unit["label"] in line("show", explained["id"])[1]

    shown = json.loads(line("show", explained["id"][:8], "magpie", "--json")[1])
    assert [step["step"] for step in shown["history"]] == [0, 0, 0, 0, 1, 2]
    assert len(shown["board"]) == len(shown["board_spreads"]) == 4
    assert all(spread > 0 for spread in (shown["unit"]["spread"], *shown["board_spreads"]))
    assert [step["spread"] is None for step in shown["history"]] == [
        step["score"] is None for step in shown["history"]
    ]
    assert format_spread(shown["unit"]["spread"]) in line("show", explained["id"])[1]
    sheet = Image.open(shown["contact_sheet"])
    assert sheet.format == "PNG"
    one = json.loads(
        line("show", explained["id"], "18", "--step", "S", "--sheet", tmp_path / "s.png", "--json")[1]
    )
    assert Path(one["contact_sheet"]) == tmp_path / "s.png"
    assert Image.open(tmp_path / "s.png").height < sheet.height
    best = json.loads(line("show", explained["id"], "18", "--best", "4", "--json")[1])
    values = [one["activation"] for one in best["images"]]
    assert len(values) == 4 and values == sorted(values, reverse=True)
    assert any(one["of_label"] for one in best["images"])
    assert Image.open(best["contact_sheet"]).format == "PNG"
    _, out, _ = line("show", explained["id"], "18", "--maps", tmp_path / "m.png")
    assert "class activation map" in out
    # The control images are more than the label's.
    assert Image.open(tmp_path / "m.png").width > sheet.width
    assert line("report", explained["id"], "-o", tmp_path / "r.html", "--maps")[0] == 0
    assert (tmp_path / "r.html").read_text().count('class="photo mapped"') == len(unit["images"])
    status, out, _ = line("show", explained["id"], "18", "--maps", f"{tmp_path / 'each'}/", "--json")
    rows = json.loads(out)
    assert status == 0 and {row["images"] for row in rows} == {"label", "control"}
    assert all(Path(row["file"]).read_bytes().startswith(b"\x89PNG") for row in rows)
    refused(line("show", explained["id"], "18", "--maps", tmp_path / "m.png", "--json"), "files of a folder")
    refused(line("show", explained["id"], "18", "--maps", tmp_path / "m.png", "--prompt"), "leave them out")
    refused(line("show", explained["id"], "--maps", tmp_path / "m.png"), "need a unit")
    refused(line("show", explained["id"], "18", "--step", "7"), "7", "S")
    refused(line("show", explained["id"], "19"), "19", "18 (magpie)")
    refused(line("show", "nothing"), "nothing", explained["id"])
    refused(line("resume"), "nothing to resume")
    assert line("resume", explained["id"], "--json")[0] == 0


@pytest.mark.e2e
@pytest.mark.usefixtures("few_control_images")
def test_people_see_a_table_and_what_to_do_next(line, assets):
    status, out, err = line("explain", MODEL, "features.18", "7", "12", *SMALL)
    assert status == 0
    assert "label" in out
    assert "margin" in out
    assert "line show mobilenet_v2-features.18-1 UNIT" in out
    assert "unit 12" in err
    history = line("show", "mobilenet_v2-features.18-1", "7")[1]
    assert "Drawn at random from the vocabulary." in history
    assert "Scoreboard" in history


@pytest.mark.e2e
def test_images_that_are_corrupt_or_not_ordinary_are_counted_and_told(line, assets, tmp_path):
    for name in ("red_fox", "green_apple"):
        folder = tmp_path / "control" / name
        folder.mkdir(parents=True)
        for index in range(2):
            Image.effect_noise((64, 64), 50 + index).convert("RGB").save(folder / f"{index}.png")
    (tmp_path / "control" / "red_fox" / "broken.png").write_bytes(b"\x89PNG nothing more")
    deep = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "control" / "red_fox" / "deep.png")
    status, out, err = line("explain", MODEL, "features.18", "7", *SMALL, "--control", tmp_path / "control",
                            "--control-images", "50")  # fmt: skip
    assert status == 0
    assert "could not be read: 1 image" in err
    assert "broken.png" in err
    assert "in the control set, 1 of 5 images: 16-bit, values read by the range 0 to 65535" in err
    assert "7" in out


@pytest.mark.e2e
@pytest.mark.usefixtures("few_control_images")
def test_the_demo_labels_final_and_hidden_units_and_takes_up_what_was_left(line, assets, monkeypatch):
    for name, value in {"TOP": 2, "RANDOM": 2, "IMAGES": 2, "ITERATIONS": 1, "CONTROL_IMAGES": 1}.items():
        monkeypatch.setenv(f"LINE_{name}", str(value))
    real = labelling.work

    def interrupted(parts, run, watch, drain):
        def watch_once(progress):
            watch(progress)
            if progress.node == "init":
                drain.request_drain("test")

        return real(parts, run, watch_once, drain)

    monkeypatch.setattr(labelling, "work", interrupted)
    status, _, err = line("demo", "--llm", "random")
    assert status == 130
    # Both runs are unfinished, and one command goes on with both.
    assert "Interrupted with 0/6 units done" in err
    assert "Continue with: line demo --llm random" in err
    left = json.loads(line("runs", "--json")[1])
    assert {(run["status"], run["units_finished"]) for run in left} == {("interrupted", 0), ("pending", 0)}

    monkeypatch.setattr(labelling, "work", real)
    status, out, _ = line("demo", "--llm", "random", "--json")
    assert status == 0
    done = json.loads(out)
    assert [run["id"] for run in done] == [run["id"] for run in reversed(left)]
    units = [unit for run in done for unit in run["units"]]
    assert len(units) >= 6
    assert all(unit["status"] == "finished" and unit["label"] for unit in units)
    assert any(unit["name"] for unit in units)
    assert any(unit["name"] is None for unit in units)


@pytest.mark.e2e
def test_layers_are_listed_with_their_units(line, assets):
    found = {layer["path"]: layer for layer in json.loads(line("layers", MODEL, "--json")[1])}
    assert found["classifier.1"]["units"] == 1000
    assert found["features.18"]["shape"] == [1280, 7, 7]
    assert "features.18" in line("layers", MODEL)[1]


@pytest.mark.e2e
def test_the_doctor_finds_everything_in_order(line, assets, monkeypatch):
    for name, value in {"LLM": "embedded:smollm2-135m", "GENERATOR": "bank", "CONTROL": "bank"}.items():
        monkeypatch.setenv(f"LINE_{name}", value)
    status, out, _ = line("doctor", "--deep", "--json")
    findings = json.loads(out)
    assert status == 0, findings
    by_part = {finding["part"]: finding for finding in findings}
    working = ("torch", "device", "xllamacpp", "target works", "text encoder works", "language model works")
    assert {part: by_part[part]["status"] for part in working} == dict.fromkeys(working, "ok")
    assert "koala" in by_part["target works"]["detail"]


@pytest.mark.e2e
def test_the_packs_are_listed_and_verified(line, assets):
    packs = {pack["name"]: pack for pack in json.loads(line("assets", "list", "--json")[1])}
    assert packs["mobilenet_v2"]["state"] == "installed"
    status, out, _ = line("assets", "verify", "mobilenet_v2", "--json")
    assert (status, json.loads(out)) == (0, {"mobilenet_v2": []})
    refused(line("assets", "install", "nothing"), "nothing", "demo")


def test_json_leaves_nothing_in_place_that_a_terminal_obeys(capsys):
    hostile = "a\u202eb\x9bc\ud800\x1b[31m"
    terminal.dump({"concept": hostile})
    printed = capsys.readouterr().out
    assert json.loads(printed) == {"concept": hostile}
    assert printed.isascii()


@pytest.mark.parametrize("hostile", ["[bold]x[/bold]", "\x1b[31mred", "a\x00b\u202ec", "{0.__class__}"])
def test_text_is_printed_as_data(capsys, hostile):
    terminal.table(["a"], [[hostile]])
    terminal.line(hostile)
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "\x00" not in printed
    assert "\u202e" not in printed
    if hostile.startswith(("[", "{")):
        assert hostile in printed


@pytest.mark.parametrize("words", [("-q", "show", "x"), ("show", "-q", "x"), ("show", "x", "--quiet", "--debug")])
def test_how_much_is_printed_is_said_before_or_after_the_command(line, words):
    status, out, err = line(*words)
    assert (status, out) == (2, "")
    assert "error: there are no runs" in err


def test_quiet_prints_results_without_notes(line, monkeypatch):
    monkeypatch.setenv("LINE_CHANNEL_SECRET", "x")
    assert "LINE_CHANNEL_SECRET in the environment is no setting" in line("runs")[2]
    status, out, err = line("runs", "-q")
    assert (status, err) == (0, "")
    assert "There are no runs" in out


def test_quiet_and_verbose_contradict_each_other(line):
    assert line("runs", "-q", "-v")[0] == 2
