"""The demo's runs: named first, counted together, and shown instead of labelled again."""

import time
from dataclasses import replace

import pytest
import typer

from line_neurons.agent.settings import Settings
from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.tools.store.runs import RunStore
from line_neurons.tui.cli import jobs
from line_neurons.tui.cli.progress import ProgressReporter
from line_neurons.tui.cli.runs import demo_runs
from line_neurons.tui.cli.runs.announce import announce, report_names
from support.fakes import LAYER, ScriptedModel, scripted_components


def components_for(store, **settings):
    model = ScriptedModel(lambda prompt, number, temperature: f"thing {number}")
    return scripted_components(store, model, iterations=2, llm="embedded", **settings)


@pytest.fixture
def one_layer(monkeypatch):
    """A demo of one layer, of which a scripted run can be."""
    for module in ("demo", "runs.demo_runs", "runs.announce"):
        monkeypatch.setattr(f"line_neurons.tui.cli.{module}.DEMO_UNITS", ((LAYER, ("0", "1")),))


def test_a_demo_begins_with_a_third_of_the_captions_so_that_it_finds_something(line, monkeypatch):
    monkeypatch.setenv("LINE_VOCABULARY_SHARE", "1")
    begun = []
    monkeypatch.setattr("line_neurons.tui.cli.demo.demo", lambda settings, *_, **__: begun.append(settings))
    assert line("demo")[0] == 0
    assert begun[0].vocabulary_share == 1 / 3


@pytest.mark.usefixtures("one_layer")
def test_a_finished_demo_shows_what_it_has_instead_of_labelling_again(line, tmp_path):
    store = tmp_path / "store"
    components = components_for(store)
    run = start(components, LAYER, ["0-1"], command=demo_runs.DEMO_COMMAND)
    work(components, run)
    status, out, err = line("demo", "--store", str(store))
    assert (status, err) == (0, "")
    assert "scripted:model head" in out
    assert "nothing was labelled again" in out
    assert f"line rm {run.id} --store {store}" in out
    assert RunStore(store).names() == [run.id]


def test_the_runs_of_an_earlier_demo_are_those_of_this_language_model_and_seed(tmp_path):
    components = components_for(tmp_path, seed=1)
    run = start(components, LAYER, ["0"], command=demo_runs.DEMO_COMMAND)
    start(components, LAYER, ["0"], command="line batch")
    runs = components.runs
    for settings, found in ((Settings(llm="embedded", seed=1), [run.id]), (Settings(llm="embedded", seed=2), [])):
        layers = {known.layer: known.id for known in runs.runs() if known.command == demo_runs.DEMO_COMMAND}
        assert layers == {LAYER: run.id}
        # The fake layer is none of the demo's.
        assert demo_runs.earlier_runs(runs, settings) == []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(demo_runs, "DEMO_UNITS", ((LAYER, ("0",)),))
            assert [known.id for known in demo_runs.earlier_runs(runs, settings)] == found


def test_an_interruption_counts_the_units_of_all_runs(monkeypatch, tmp_path, capsys):
    components = components_for(tmp_path)
    first = work(components, start(components, LAYER, ["0-2"]))
    second = start(components, LAYER, ["0-1"])
    monkeypatch.setattr(jobs, "work", lambda components, run, *_: replace(run, status="interrupted"))
    with pytest.raises(typer.Exit):
        jobs.work_on([(components, second)], ProgressReporter(), done_before=[first], command="line demo")
    told = capsys.readouterr().err
    assert "with 3/5 units done" in told
    assert "Continue with: line demo" in told


def test_the_names_come_before_anything_is_loaded_and_are_those_of_the_runs(tmp_path, capsys):
    settings = Settings(store=tmp_path / "store")
    began = time.process_time()
    announced = announce("scripted:model", [LAYER, "other"], settings)
    assert time.process_time() - began < 1
    told = capsys.readouterr().err
    assert announced == ["model-head-1", "model-other-1"]
    assert f"run model-head-1; watch it with: line tui model-head-1 --store {tmp_path}" in told
    assert "loading scripted:model" in told
    assert not (tmp_path / "store").exists()
    components = components_for(tmp_path / "store")
    assert start(components, LAYER, ["0"]).id == announced[0]
    report_names(announced[:1], ["model-head-2"])
    assert "run model-head-2: its name, since another process" in capsys.readouterr().err
