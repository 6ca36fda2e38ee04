"""`line batch`, `resume`, `retry`, `revisit` and `results` as a user types them, on instant parts."""

import json
from dataclasses import replace

import pytest

from line_neurons.agent.errors import BackendError
from line_neurons.agent.seeds import derive_seed
from line_neurons.graphs.runs.code_trust import record_trust
from line_neurons.graphs.runs.components import Components
from line_neurons.tools.store.records import Unit
from line_neurons.tools.store.runs import RunStore
from line_neurons.tui.cli import jobs as labelling
from support.command_checks import refused
from support.fakes import ScriptedControl, ScriptedGenerator, ScriptedModel, ScriptedTarget

RUN = "model-head-1"
SHORT = ["--top", "2", "--random", "2", "--images", "2", "--iterations", "2"]
BATCH = ["batch", "scripted:model", "head", *SHORT]


class Mended(ScriptedModel):
    """A language model that fails the units in ``failing``."""

    failing: frozenset[int] = frozenset()

    def propose(self, prompt, *, seed, temperature):
        for unit in self.failing:
            if seed == derive_seed("ask", 0, unit, 1, 0):
                raise BackendError(f"the model will not speak of unit {unit}")
        return super().propose(prompt, seed=seed, temperature=temperature)


@pytest.fixture
def model(monkeypatch):
    """The language model of instant parts that stand in for every model."""
    proposer = Mended(lambda prompt, seed, temperature: f"thing {seed % 50}")
    classes = tuple(f"class {letter}" for letter in "abcdefghijkl")
    components = {
        "language_model": proposer,
        "generator": ScriptedGenerator(),
        "target": ScriptedTarget(n=2),
        "control_set": ScriptedControl(classes),
    }
    for name, part in components.items():
        monkeypatch.setattr(Components, name, part)
    return proposer


@pytest.fixture
def interrupt(monkeypatch):
    """Ask for a drain when the first unit has its first board, as Ctrl-C does; only once."""
    real, left = labelling.work, [True]

    def work(components, run, watch, drain):
        def watching(progress):
            watch(progress)
            if progress.node == "init" and left:
                left.clear()
                drain.request_drain("test")

        return real(components, run, watching, drain)

    monkeypatch.setattr(labelling, "work", work)


def labelled(result, status=0):
    assert result[0] == status, result[2]
    return json.loads(result[1])


def test_a_batch_takes_what_suits_many_units_and_records_it(line, model):
    run = labelled(line(*BATCH, "--units", "all", "--json"))
    assert [unit["status"] for unit in run["units"]] == ["finished"] * 3
    settings = run["settings"]
    assert (settings["max_concurrent_units"], settings["max_consecutive_failures"], settings["revisit"]) == (
        16,
        10,
        True,
    )
    # The default of the language model that the settings name.
    assert settings["llm_parallel"] == 4
    assert run["command"].startswith("line batch")


def test_explain_works_on_one_unit_at_a_time(line, model):
    settings = labelled(line("explain", "scripted:model", "head", "all", *SHORT, "--json"))["settings"]
    assert (settings["max_concurrent_units"], settings["llm_parallel"], settings["max_consecutive_failures"]) == (
        1,
        1,
        1,
    )
    assert settings["revisit"] is False


def test_what_the_user_says_of_a_batch_wins_over_its_defaults(line, model, monkeypatch, tmp_path):
    monkeypatch.setenv("LINE_IN_FLIGHT", "3")
    (tmp_path / "line.toml").write_text("give_up = 1\n")
    asked = ["--units", "0", "--no-revisit", "--llm-parallel", "2", "--batch-timeout", "0", "--json"]
    settings = labelled(line(*BATCH, *asked))["settings"]
    assert (settings["max_concurrent_units"], settings["max_consecutive_failures"], settings["revisit"]) == (
        3,
        1,
        False,
    )
    assert (settings["llm_parallel"], settings["batch_timeout"]) == (2, 0)


def test_the_methods_own_options_arrive(line, model):
    options = ["--patience", "1", "--max-iterations", "4", "--restarts", "1", "--random-pool", "3"]
    run = labelled(line(*BATCH, "--units", "0", *options, "--json"))
    kept = [run["settings"][name] for name in ("patience", "max_iterations", "restarts", "random_pool")]
    assert kept == [1, 4, 1, 3]
    shown = line("show", run["id"])[1]
    assert "random pool 3, patience 1, max iterations 4, restarts 1" in shown


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--units", "random:9"], ["random:9", "1 to 3"]),
        (["--units", "@none.csv"], ["none.csv", "No such file"]),
        (["--units", "0", "--max-concurrent-units", "0"], ["--max-concurrent-units"]),
        (["--units", "0", "--max-iterations", "20"], ["patience"]),
    ],
)
def test_a_batch_that_cannot_be_is_refused_and_writes_nothing(line, model, tmp_path, options, words):
    refused(line(*BATCH, *options), *words)
    assert not (tmp_path / "store" / "runs.db").exists()


def test_units_are_a_must(line):
    status, _, err = line(*BATCH)
    assert status == 2
    assert "--units" in err


def test_a_failed_unit_keeps_no_other_from_its_label_and_is_taken_again_when_asked(line, model):
    model.failing = frozenset({1})
    status, out, err = line(*BATCH, "--units", "all", "--json")
    units = labelled((status, out, err), status=1)["units"]
    assert [unit["status"] for unit in units] == ["finished", "failed", "finished"]
    assert "unit 1 failed: the model will not speak of unit 1" in err
    assert f"1 unit of {RUN} failed; retry them with: line retry {RUN}" in err
    assert "2/3 (1 failed)" in line("runs")[1]
    shown = line("show", RUN)[1]
    assert "failed: the model will not speak of unit 1" in shown
    assert f"line retry {RUN}" in shown
    assert "line resume" not in shown

    # A resume leaves it alone, whether it is named or not.
    refused(line("resume"), "nothing to resume", f"line retry {RUN}")
    asked = len(model.asked)
    status, _, err = line("resume", RUN)
    assert (status, len(model.asked)) == (1, asked)
    assert f"line retry {RUN}" in err

    model.failing = frozenset()
    units = labelled(line("retry", RUN, "--json"))["units"]
    assert all(unit["status"] == "finished" and unit["label"] for unit in units)
    refused(line("retry", RUN), "no unit of run", "has failed")


def test_an_interrupted_batch_says_how_it_goes_on_and_does(line, model, interrupt):
    status, out, err = line(*BATCH, "--units", "all", "--max-concurrent-units", "2")
    assert (status, out) == (130, "")
    assert "0/3 units done" in err
    assert f"Continue with: line resume {RUN} --store" in err
    refused(line("retry", RUN), "no unit of run", f"line resume {RUN}")
    run = labelled(line("resume", RUN, "--max-concurrent-units", "1", "--json"))
    assert (run["status"], run["settings"]["max_concurrent_units"]) == ("finished", 1)
    whole = labelled(line(*BATCH, "--units", "all", "--json"))
    labels = [[(unit["label"], unit["score"]) for unit in one["units"]] for one in (run, whole)]
    assert labels[0] == labels[1]


def test_a_run_that_cannot_go_on_keeps_no_other_from_its_turn(line, model, interrupt, tmp_path):
    assert line(*BATCH, "--units", "0")[0] == 130
    store = RunStore(tmp_path / "store")
    (first,) = store.runs()
    other = replace(first, id="other", created=first.created + 1)
    store.add_run(other, [Unit("other", 1, 0)])
    record_trust(store, other)
    store.update_run(first.id, fingerprints={**first.fingerprints, "generator": "another"})
    status, out, err = line("resume", "--json")
    assert (status, json.loads(out)["id"]) == (2, "other")
    assert f"the generator of run {first.id} has changed" in err.splitlines()[-1]
    refused(line("resume"), "the generator of run")


def test_a_revisit_names_the_units_that_others_found_better_labels_for(line, model):
    Components.target.scores["bright thing"] = 9.0
    dull = labelled(line(*BATCH, "--units", "0", "--no-revisit", "--json"))
    model.script = lambda prompt, seed, temperature: "bright thing"
    bright = labelled(line(*BATCH, "--units", "1", "--no-revisit", "--json"))
    runs = [dull["id"], bright["id"]]
    found = labelled(line("revisit", *runs, "--json"))
    assert [(one["run"], one["unit"], one["label"]) for one in found] == [
        (dull["id"], 0, "bright thing"),
        (bright["id"], 1, "bright thing"),
    ]
    said = line("revisit", *runs)[1]
    assert "1 of 2 units" in said
    origin = f"found by unit 1 of {bright['id']}"
    assert dull["units"][0]["label"] in said
    assert origin in said
    assert origin in line("show", dull["id"])[1]
    assert f"unit 1 of {bright['id']}" not in line("show", bright["id"])[1]
    refused(line("revisit", dull["id"], "nothing"), "nothing")


def test_results_are_rows(line, model, tmp_path):
    run = labelled(line(*BATCH, "--units", "all", "--json"))
    rows = [json.loads(text) for text in line("results", run["id"], "--format", "jsonl")[1].splitlines()]
    assert [row["label"] for row in rows] == [unit["label"] for unit in run["units"]]
    assert line("results", run["id"], "--format", "csv", "-o", tmp_path / "r.csv")[0] == 0
    assert len((tmp_path / "r.csv").read_text().splitlines()) == 4


def test_several_layers_have_a_run_each(line, model):
    assert (
        "model-head-1"
        in labelled(line("batch", "scripted:model", "head,head", "--units", "0", *SHORT, "--json"))["id"]
    )
    refused(line("batch", "scripted:model", "head,tail", "--units", "0"), "tail")
