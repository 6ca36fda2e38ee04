import csv
import json
import shutil
from dataclasses import replace

import pytest

from line_neurons.agent.errors import DrainedError
from line_neurons.eval.labels.vocabulary import vocabulary_of_file
from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.tools.image_bank.bank import bundled_bank
from line_neurons.tui.cli.eval import baseline as baseline_commands
from support.fakes import LAYER, ScriptedModel, ScriptedTarget, scripted_components

CLASSES = ("tiger", "airliner", "broccoli", "tennis ball")
SHOWN = (*CLASSES, "teapot", "elephant")


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """A run of scripted parts in the store, whose parts the command opens; gives its name."""

    def components(model=None, settings=None, *_):
        made = scripted_components(tmp_path / "store", ScriptedModel(["owl"] * 99), target=target, control="set")
        if settings is not None:
            return replace(made, settings=settings).with_(**made.opened())
        return made

    target = ScriptedTarget({"class c": 9.0, "class d": 8.0})
    monkeypatch.setattr(baseline_commands, "Components", components)
    first = components()
    excluded = first.settings.model_copy(update={"exclude_for": {1: ("class c",)}, "iterations": 1})
    made = components(None, excluded)
    return work(made, start(made, LAYER, ["2", "0-1"])).id


def labels(file):
    return {int(row["unit"]): row["description"] for row in csv.DictReader(file.open())}


def test_the_units_of_a_run_are_labelled_and_the_labels_kept_in_the_store(line, recorded, tmp_path):
    status, out, _ = line("eval", "baseline", "best-word", "--run", recorded)
    assert status == 0
    file = tmp_path / "store" / "explanations" / "best-word" / recorded / "model-head.csv"
    assert str(file) in out.replace("\n", "")
    assert labels(file) == {2: "class c", 0: "class c", 1: "class d"}
    assert list(labels(file)) == [2, 0, 1]
    choice = vocabulary_of_file(file)
    assert [choice.has(unit, ("class c",)) for unit in (0, 1)] == ["in", "kept out"]


def test_what_a_run_kept_off_its_first_boards_may_be_allowed(line, recorded, tmp_path):
    file = tmp_path / "mine.csv"
    flags = ("--run", recorded, "--units", "1", "--allow-excluded", "-o", file)
    status, out, _ = line("eval", "baseline", "best-word", *flags, "--json")
    assert (status, labels(file)) == (0, {1: "class c"})
    assert vocabulary_of_file(file).has(1, ("class c",)) == "in"
    said = json.loads(out)
    assert (said["method"], said["source"], said["file"]) == ("best-word", recorded, str(file))
    assert said["labels"] == [{"unit": 1, "concept": "class c", "score": 10.0}]


def test_a_first_board_is_as_the_run_recorded_it_whatever_is_allowed(line, recorded, tmp_path):
    file = tmp_path / "mine.csv"
    assert line("eval", "baseline", "initial", "--run", recorded, "--allow-excluded", "-o", file)[0] == 0
    assert [vocabulary_of_file(file).has(unit, ("class c",)) for unit in (0, 1)] == ["in", "kept out"]


@pytest.mark.parametrize(
    ("flags", "environment", "asked_at_once"),
    [
        (("--llm", "langchain:a.B"), None, 4),
        (("--llm", "random"), None, 1),
        (("--llm", "langchain:a.B"), "3", 3),
        (("--llm", "langchain:a.B", "--llm-parallel", "2"), "3", 2),
    ],
)
@pytest.mark.parametrize("of_run", [True, False])
def test_a_language_model_is_asked_as_a_batch_asks_it(
    line, recorded, monkeypatch, flags, environment, asked_at_once, of_run
):
    if environment:
        monkeypatch.setenv("LINE_LLM_PARALLEL", environment)
    asked = []

    def label_units(method, task, **_):
        asked.append(task.components.settings.llm_parallel)
        raise DrainedError

    monkeypatch.setattr(baseline_commands, "label_units", label_units)
    of = ("--run", recorded) if of_run else ("own:scripted", LAYER, "--units", "0")
    assert line("eval", "baseline", "random", *of, *flags)[0] == 130
    assert asked == [asked_at_once]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("magic", "--run", "x"), "no baseline 'magic'"),
        (("random", "--run", "x", "--length", "3"), "random has no option --length"),
        (("invert", "--run", "nothing"), "nothing"),
        (("invert", "torchvision:mobilenet_v2"), "no units are named"),
        (("invert", "torchvision:mobilenet_v2", "classifier.1", "--run", "r"), "both the run r"),
    ],
)
def test_what_does_not_fit_is_one_line(line, arguments, said, recorded):
    status, out, err = line("eval", "baseline", *arguments)
    assert (status, out) == (2, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1


def test_units_that_the_run_lacks_are_named(line, recorded, monkeypatch):
    monkeypatch.setattr(baseline_commands, "select_units", lambda *_: ([7], None))
    status, _, err = line("eval", "baseline", "random", "--run", recorded, "--units", "7")
    assert (status, "has none of these units" in err) == (2, True)


@pytest.mark.e2e
def test_baselines_name_classes_of_a_real_model(line, assets, tmp_path):
    """A small bank of eight things: each method that can run without a server finds the classes among them."""
    folder = tmp_path / "bank"
    for entry in bundled_bank(assets).select("search"):
        if entry.caption in SHOWN:
            (folder / entry.caption).mkdir(parents=True, exist_ok=True)
            shutil.copy(entry.path, folder / entry.caption)
    units = [flag for name in ("tiger", "airliner", "broccoli", "tennis ball") for flag in ("--units", name)]
    components = ("--generator", f"bank:{folder}", "--control", "bank", "--assets", str(assets))
    own = {"invert": (), "clip-dissect": ("--encoder", "captions"), "best-word": ()}
    for method, options in own.items():
        status, out, err = line(
            "eval",
            "baseline",
            method,
            "torchvision:mobilenet_v2",
            "classifier.1",
            *units,
            *components,
            *options,
            "--json",
        )
        assert status == 0, err
        said = json.loads(out)
        assert [one["concept"] for one in said["labels"]] == list(CLASSES), method
    assert said["method"] == "best-word"
