"""A whole evaluation with scripted parts: what is missing is done, once, and goes on after an interruption."""

from collections.abc import Mapping

import pytest

from line_neurons.agent.errors import MissingPartError
from line_neurons.agent.settings import Settings, load_settings
from line_neurons.eval.suite import INTERRUPTED, Suite, variants
from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.graphs.runs.unit_selection import select_units
from line_neurons.tui.cli.eval.suite import as_options, search_flags, selector_of, suiting
from support.fakes import LAYER, ScriptedModel, scripted_components

MODEL = "scripted:model"
SETTINGS = {"iterations": 5, "control": "bank", "llm": "embedded"}


def prepared(tmp_path):
    store, folder = tmp_path / "store", tmp_path / "out"
    folder.mkdir(exist_ok=True)
    excluded = folder / "kept-out.json"
    excluded.write_text('{"0": ["class a"]}')

    def settings_of(changes: Mapping) -> Settings:
        return Settings(**{**SETTINGS, **changes, "store": store})

    def components_of(changes):
        model = ScriptedModel(lambda *asked: f"concept {asked[1] % 50}")
        return scripted_components(store, model, **{**SETTINGS, **changes})

    whole = Suite(
        model=MODEL, layer=LAYER, units=[0, 2], selector="2,0",
        searches=variants(settings_of({}), ["random"], excluded, {"0": ["class a"]}), settings_of=settings_of,
        options_of=as_options, location_options=["--store", str(store)],
        baselines=["random", "initial", "clip-dissect"], cosy_options=[], folder=folder,
        runs=components_of({}).runs, has_classes=True,
    )  # fmt: skip
    done = []

    def execute(task):
        done.append(task)
        if task.arguments[0] == "batch":
            changes = next(one.changes for one in whole.searches if one.name == task.name)
            components = components_of(changes)
            work(components, start(components, LAYER, ["0", "2"]))
        elif task.arguments[:3] == ("eval", "baseline", "clip-dissect"):
            raise MissingPartError("there is no CLIP here", "install one")
        elif task.arguments[:2] == ("eval", "baseline"):
            path = task.arguments[task.arguments.index("-o") + 1]
            whole.folder.joinpath(path).parent.mkdir(parents=True, exist_ok=True)
            whole.folder.joinpath(path).write_text("layer,unit,description,similarity\nhead,0,fox,1\n")
        return 0

    return whole, execute, done


def states(whole):
    return {task.name: task.state for task in whole.search_tasks()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("suite")
    whole, execute, done = prepared(folder)
    assert set(states(whole).values()) == {"missing"}
    assert whole.work(execute, lambda text: None) == 1
    return folder, whole, done


def test_a_suite_does_what_is_missing_and_a_second_start_finds_it(finished):
    folder, whole, done = finished
    searched = [task.name for task in done if task.arguments[0] == "batch"]
    assert searched == [
        "line", "N = 20", "N = 10", "N = 0", "no summary", "per-concept modifiers", "proposer random",
        "class kept out",
    ]  # fmt: skip
    assert set(states(whole).values()) == {"there"}
    assert "--units 2,0 " in whole.report()
    again, execute, done = prepared(folder)
    again.work(execute, lambda text: None)
    assert not [task for task in done if task.arguments[0] in {"batch", "resume"}]
    assert {task.name.partition(",")[0] for task in done if "baseline" in task.arguments} == {"clip-dissect"}


def test_what_cannot_be_done_here_is_told_and_keeps_nothing_else_from_its_turn(finished):
    _, whole, done = finished
    assert [name for name in whole.failures if name.startswith("clip-dissect")]
    told = (whole.folder / "report.md").read_text()
    assert "there is no CLIP here (install one)" in told
    assert 'LINE_EXCLUDE_FOR="$(cat ' in told
    assert [task.arguments[1] for task in done if task.name == "methods"] == ["table1"]
    compared = next(task for task in done if task.name == "iterations")
    assert compared.arguments[1] == "compare"
    assert len([one for one in compared.arguments if one.startswith("model-head-")]) == 4
    proposed = next(task for task in done if task.name == "proposals")
    assert len([one for one in proposed.arguments if one.startswith("model-head-")]) == 2


def test_baselines_are_given_the_class_and_kept_from_it_and_the_searchs_own_words_too(finished):
    _, _, done = finished
    options = {
        task.name: task.arguments[3 : task.arguments.index("--run")]
        for task in done
        if task.arguments[:3] == ("eval", "baseline", "random")
    }
    assert options == {
        "random, units of line": (),
        "random, initial vocabulary, units of line": ("--share", str(1 / 3)),
        "random, class kept out, units of class kept out": (),
        "random, class allowed, units of class kept out": ("--allow-excluded",),
    }
    assert len([task for task in done if task.arguments[:3] == ("eval", "baseline", "initial")]) == 2
    judged = [task.name for task in done if task.name.startswith("CoSy of random")]
    assert judged == [
        "CoSy of random", "CoSy of random, initial vocabulary", "CoSy of random, class kept out",
        "CoSy of random, class allowed",
    ]  # fmt: skip
    (methods,) = (task.arguments for task in done if task.name == "methods-class-kept-out")
    assert methods[1] == "table1"
    assert len([one for one in methods if one.endswith(".csv")]) == 3
    (quality,) = (task.arguments for task in done if task.name == "quality-class-kept-out")
    labelled = [one.partition("=") for one in quality if "=" in one]
    assert [name for name, _, _ in labelled] == [
        "random, class kept out", "random, class allowed", "initial, class kept out",
    ]  # fmt: skip
    assert len({path for _, _, path in labelled}) == 3


def test_an_interrupted_suite_stops_and_goes_on(tmp_path):
    whole, execute, _ = prepared(tmp_path)
    begun = []

    def interrupted(task):
        begun.append(task.name)
        return execute(task) if len(begun) < 3 else INTERRUPTED

    assert whole.work(interrupted, lambda text: None) == INTERRUPTED
    assert [name for name, state in states(whole).items() if state == "there"] == ["line", "N = 20"]
    assert not (whole.folder / "report.md").exists()


def test_a_run_that_stopped_is_resumed_and_one_with_other_units_does_not_count(tmp_path):
    whole, execute, _ = prepared(tmp_path)
    execute(whole.search_tasks()[0])
    run = whole.find_run(whole.searches[0])
    whole.runs.update_unit(run.id, 2, status="interrupted")
    assert whole.search_tasks()[0].arguments[:2] == ("resume", run.id)
    whole.units = [0]
    assert whole.search_tasks()[0].state == "missing"


def test_a_plan_names_every_command_before_anything_is_there(tmp_path):
    whole, _, _ = prepared(tmp_path)
    names = [task.name for task in whole.plan()]
    assert {"line", "N = 0", "random, units of line", "CoSy of line", "methods", "winners", "steps"} <= set(names)
    assert not whole.runs.runs()


def test_edits_are_part_of_a_suite_that_asks_for_them(finished):
    folder, whole, _ = finished
    assert "edits" not in {task.name for task in whole.report_tasks()}
    asked, _, _ = prepared(folder)
    asked.edits_options = ["--editor", "cut"]
    (task,) = (task for task in asked.report_tasks() if task.name == "edits")
    run = asked.find_run(asked.searches[0]).id
    assert task.arguments[:3] == ("eval", "edits", run)
    assert [one.partition("=")[0] for one in task.arguments if one.endswith(".csv")] == [
        "random", "random, initial vocabulary", "initial",
    ]  # fmt: skip
    assert task.arguments[-6:] == (
        "--editor", "cut", "-o", str(asked.folder / "edits"), "--store", str(folder / "store"),
    )  # fmt: skip


def test_searches_of_a_suite_begin_with_a_third_of_a_bank_unless_a_share_is_set(monkeypatch):
    monkeypatch.delenv("LINE_VOCABULARY_SHARE")
    bank = Settings(**SETTINGS)
    assert as_options(search_flags({"seed": 1}, bank)) == ["--seed", "1", "--vocabulary-share", str(1 / 3)]
    assert search_flags({}, Settings(**SETTINGS, vocabulary_share=1)) == {}
    assert search_flags({}, Settings(control="none", init="vocabulary")) == {}


def test_a_preset_is_named_in_the_commands_of_a_suite_beside_what_a_search_changes():
    assert as_options({"preset": "paper", "iterations": 20}) == ["--preset", "paper", "--iterations", "20"]


def test_settings_become_the_options_that_give_them():
    given = {"iterations": 5, "summary": False, "revisit": False, "llm": "random", "diffusion": {"steps": 4},
             "exclude": ["fox", "owl"], "init": "bank"}  # fmt: skip
    assert as_options(given) == [
        "--iterations", "5", "--no-summary", "--no-revisit", "--llm", "random", "--steps", "4", "--exclude", "fox",
        "--exclude", "owl", "--init", "bank",
    ]  # fmt: skip


def test_units_are_told_by_one_option_as_they_were_typed_where_that_names_the_same_ones(tmp_path, monkeypatch):
    components = scripted_components(tmp_path / "store", ScriptedModel([]))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some.txt").write_text("0\n2\n")

    def told(*typed):
        return selector_of(components, LAYER, typed, select_units(components, LAYER, typed)[0])

    assert [told("2", "0"), told("0-1", "2"), told("random:2"), told("cosy")] == [
        "2,0",
        "0-1,2",
        "random:2",
        "cosy",
    ]
    assert told("@some.txt") == f"@{tmp_path / 'some.txt'}"
    # Read together it would be the name of one file.
    (tmp_path / "some.txt,1").write_text("1\n")
    assert told("@some.txt", "1") == "0,2,1"


def test_a_search_that_ran_over_other_units_than_the_suites_is_told(tmp_path):
    whole, execute, _ = prepared(tmp_path)
    whole.units, whole.searches = [0, 1], whole.searches[:1]
    assert whole.work(execute, lambda text: None) == 1
    assert "other units" in whole.failures["line"]


@pytest.mark.parametrize(("generator", "there"), [("bank", "clip-dissect-captions"), ("sdxl", "clip-dissect")])
def test_captions_stand_in_for_clip_only_where_there_are_captions(generator, there):
    chosen = suiting(load_settings(generator=generator, control="bank"))
    assert [name for name in chosen if name.startswith("clip-dissect")] == [there]


@pytest.mark.parametrize(("llm", "asked"), [("random", False), ("embedded", True)])
def test_describe_and_dissect_is_run_only_where_there_is_a_language_model_to_ask(llm, asked):
    chosen = suiting(load_settings(generator="bank", control="bank", llm=llm))
    assert ("describe-and-dissect-captions" in chosen) is asked
    assert "invert" in chosen
