"""`line rm`, and what a bare `line resume` leaves alone."""

import json

import pytest

from line_neurons.agent.errors import UsageError
from line_neurons.graphs.runs.lifecycle import refuse_resume, start, work
from line_neurons.tools.store.leases import acquire
from line_neurons.tools.store.queries import lasting_failure
from line_neurons.tools.store.runs import RunStore
from line_neurons.tui.cli import jobs
from support.command_checks import refused
from support.fakes import LAYER, ScriptedModel, scripted_components

RUN = "model-head-1"


@pytest.fixture
def store(tmp_path):
    """A finished run, and one that was interrupted in its first unit."""
    store = tmp_path / "store"
    for seed in (0, 1):
        model = ScriptedModel(lambda prompt, number, temperature: f"thing {number}")
        components = scripted_components(store, model, iterations=2, seed=seed)
        run = start(components, LAYER, ["0-1"])
        if seed:
            with pytest.raises(KeyboardInterrupt):
                work(components, run, interrupt)
        else:
            work(components, run)
        components.cache.close()
        components.runs.close()
    return store


def interrupt(progress):
    if progress.node == "update" and progress.step == 2:
        raise KeyboardInterrupt


def test_rm_says_what_it_deletes_and_what_gc_frees(line, store):
    status, out, _ = line("rm", RUN, "--yes", "--store", str(store))
    assert status == 0
    assert f"deleted {RUN}: 2 units, 6 steps, 2 checkpoints" in out
    assert f"line gc --store {store} removes them" in out
    assert RUN not in line("runs", "--store", str(store))[1]
    status, out, _ = line("gc", "--dry-run", "--json", "--store", str(store))
    unused = json.loads(out)["unused"]
    assert (status, unused["images"] > 0, unused["activations"] > 0) == (0, True, True)
    files = len(list((store / "images").rglob("*.png")))
    assert "that no run refers to" in line("gc", "--store", str(store))[1]
    assert len(list((store / "images").rglob("*.png"))) == files - unused["images"]


def test_rm_without_a_terminal_needs_yes_and_names_what_it_does_not_know(line, store):
    _, out, err = line("rm", RUN, "--store", str(store))
    assert out == ""
    assert "add --yes" in err
    refused(line("rm", RUN, "other", "--yes", "--store", str(store)), "'other' is not a run")
    with acquire(RunStore(store), [RUN]):
        refused(line("rm", RUN, "--yes", "--store", str(store)), "in use by process", "line stop")
    assert RUN in line("runs", "--store", str(store))[1]


def test_a_run_that_was_deleted_while_its_parts_were_loaded_is_told_as_such(line, store):
    model = ScriptedModel(lambda prompt, number, temperature: f"thing {number}")
    components = scripted_components(store, model, iterations=2)
    run = components.runs.run("model-head-2")
    assert line("rm", run.id, "--yes", "--store", str(store))[0] == 0
    with pytest.raises(UsageError, match="run model-head-2 was deleted meanwhile"):
        work(components, run)


def test_interrupted_units_show_their_best_label_so_far_and_say_so(line, store):
    status, out, _ = line("show", "model-head-2", "--store", str(store))
    assert status == 0
    assert "…" in out
    assert "unfinished" in out
    assert "interrupted" in out
    status, out, _ = line("results", "model-head-2", "--format", "jsonl", "--store", str(store))
    first, second = map(json.loads, out.splitlines())
    assert first["label"]
    assert (first["status"], first["note"], first["steps"]) == ("interrupted", "unfinished: best after 1 step", 1)
    assert (second["label"], second["status"]) == (None, "interrupted")
    shown = json.loads(line("show", "model-head-2", "0", "--json", "--store", str(store))[1])["unit"]
    assert shown["marks"] == [{"code": "unfinished", "detail": "best after 1 step"}]
    # Nothing of it is stored: an evaluation knows finished labels only.
    assert RunStore(store).units("model-head-2")[0].label is None


def test_labels_that_are_only_the_best_so_far_are_no_labels_of_a_file(line, store, tmp_path):
    file = tmp_path / "labels.csv"
    line("results", "model-head-2", "--format", "csv", "-o", str(file), "--store", str(store))
    refused(line("import", str(file), "--store", str(store), "--as", "mine"), "has no label")


def test_a_bare_resume_does_not_try_again_what_would_fail_as_before(line, store):
    name = "model-head-2"
    runs = RunStore(store)
    refuse_resume(runs, name, UsageError("the target of run has changed", "start a new run"))
    assert runs.run(name).status == "failed"
    assert "has changed" in (lasting_failure(runs, name) or "")
    refused(
        line("resume", "--store", str(store)), name, "would fail as before", "has changed", f"line resume {name}"
    )
    out = line("show", name, "--store", str(store))[1]
    assert "a resume would fail as before" in out
    runs.add_event(name, "retry")
    assert lasting_failure(runs, name) is None


def test_gc_is_refused_while_a_resume_loads_its_components(line, store, monkeypatch):
    answers = []

    def loading(reopening, run):
        answers.append(line("gc", "--store", str(store)))
        raise UsageError("the target is missing", "install it")

    monkeypatch.setattr(jobs.Reopening, "job", loading)
    refused(line("resume", "model-head-2", "--store", str(store)), "the target is missing")
    refused(answers[0], "in use by")
