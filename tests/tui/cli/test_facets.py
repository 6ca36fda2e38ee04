"""`line facets` on a run that scripted components wrote: tables, searches, and what is refused."""

import csv
from pathlib import Path

import pytest

from line_neurons.graphs.runs import reopening
from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.tools.facets.control_vectors import ControlVectors
from line_neurons.tools.store.steering_queue import commands
from line_neurons.tui.cli.runs import reopening as reopening_of_commands
from support.command_checks import refused
from support.fakes import LAYER, ScriptedModel, scripted_components
from support.two_kinds import CLASSES, TwoKinds

RUN = "model-head-1"


def components_for(store, script):
    return scripted_components(
        store,
        ScriptedModel(script),
        target=TwoKinds(),
        classes=CLASSES,
        summary=False,
        top=1,
        random=0,
        iterations=2,
        exclude=("class m",),
    )


@pytest.fixture
def components(tmp_path, monkeypatch):
    """A finished run, of which the recorded components are opened as scripted ones."""
    monkeypatch.setattr(ControlVectors, "single_class_limit", 0.5)
    made = components_for(tmp_path / "store", ["owl", "one"])
    for module in (reopening, reopening_of_commands):
        monkeypatch.setattr(
            module, "reopen", lambda *given: components_for(tmp_path / "store", ["vixen", "eagle"])
        )
    work(made, start(made, LAYER, ["0"]))
    return made


def labels_in(file):
    return [row["label"] for row in csv.DictReader(Path(file).read_text("utf-8").splitlines())]


def test_a_facet_without_a_label_has_one_after_a_search(line, components):
    before = line("facets", RUN, "-o", "out")
    assert before[0] == 0 and "1 of 1 units split" in before[1]
    assert labels_in("out/facets.csv") == ["owl", ""]
    assert not commands(components.runs, RUN, 0)
    status, _, err = line("facets", RUN, "0", "--search", "-o", "after")
    assert status == 0, err
    assert labels_in("after/facets.csv") == ["owl", "vixen"]
    assert [command.concept for command in commands(components.runs, RUN, 0)] == ["class m"]
    # Every facet has a good label now, so that nothing is searched for.
    steps = len(components.runs.steps(RUN, 0))
    assert line("facets", RUN, "--search")[0] == 0
    assert len(components.runs.steps(RUN, 0)) == steps


def test_line_results_has_the_further_labels(line, components):
    assert "further labels" not in line("results", RUN)[1]
    line("facets", RUN, "--search")
    shown = line("results", RUN)[1]
    assert "further labels" in shown and "vixen" in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--llm", "random"], ["--llm", "--search"]),
        (["--search", "--by", "text"], ["'text'", "--by"]),
        (["--by", "nothing-like-this"], ["nothing-like-this"]),
        (["7"], ["no unit", "7"]),
    ],
)
def test_what_does_not_fit_is_refused(line, components, arguments, words):
    refused(line("facets", RUN, *arguments), *words)


def test_an_unfinished_run_is_not_searched_for_facets(line, components):
    components.runs.update_unit(RUN, 0, status="finished")
    start(components, LAYER, ["0-1"])
    refused(line("facets", "model-head-2"), "has a label yet", "line resume model-head-2")
    components.runs.update_unit("model-head-2", 0, status="finished", label="owl")
    refused(line("facets", "model-head-2", "--search"), "is unfinished", "line resume model-head-2")
