"""Stores of released versions: looked at as they are, and gone on with after an upgrade."""

import json
import sqlite3

import pytest

from line_neurons.agent.errors import StoreError
from line_neurons.agent.settings_sources import RENAMED
from line_neurons.graphs.runs.lifecycle import recorded_settings, start, work
from line_neurons.tools.store.runs import RunStore
from line_neurons.tui.cli.printing import unit as unit_output
from support.command_checks import refused
from support.fakes import LAYER, ScriptedModel, scripted_components
from support.released_stores import FINISHED, KILLED, VERSIONS, dump, old_store


def components_for(store):
    """The parts with which the stores were made."""
    model = ScriptedModel(lambda prompt, seed, temperature: f"thing {seed % 1000}")
    return scripted_components(store, model, iterations=2, top=1, random=1, images=2)


def drawn(components, step):
    """What a step's images were drawn from; the scripted ones were other files then."""
    made = map(components.cache.provenance, step.images)
    return [(account["prompt"], account["seed"]) for account in made]


@pytest.mark.parametrize("upgraded", [False, True], ids=["as it is", "upgraded"])
@pytest.mark.parametrize("version", VERSIONS)
def test_runs_and_labels_of_an_old_store_are_shown(line, tmp_path, monkeypatch, version, upgraded):
    # The scripted images are none that a sheet could show.
    monkeypatch.setattr(unit_output, "_write_sheet", lambda *_: None)
    store = old_store(tmp_path / "store", version)
    if upgraded:
        RunStore(store)
    before = dump(store / "runs.db")
    listed = json.loads(line("runs", "--json")[1])
    assert [(run["id"], run["status"]) for run in listed] == [(KILLED, "interrupted"), (FINISHED, "finished")]
    status, said, _ = line("show", KILLED)
    assert (status, "class e" in said, f"line resume {KILLED}" in said) == (0, True, True)
    status, said, _ = line("show", FINISHED, "0", "--json")
    assert json.loads(said)["unit"]["label"] == "class e"
    status, said, _ = line("results", FINISHED, "--format", "jsonl")
    assert (status, json.loads(said)["label"]) == (0, "class e")
    assert dump(store / "runs.db") == before


@pytest.mark.parametrize("version", VERSIONS)
def test_a_run_that_an_old_version_left_ends_as_one_that_was_never_interrupted(tmp_path, version):
    whole = components_for(tmp_path / "whole")
    run = work(whole, start(whole, LAYER, ["0-1"]))
    components = components_for(old_store(tmp_path / "store", version))
    assert work(components, components.runs.run(KILLED)).status == "finished"
    for unit in (0, 1):
        one, other = (
            [
                (step.step, step.kind, step.outcome, step.concept, step.score, drawn(opened, step), step.board)
                for step in opened.runs.steps(name, unit)
            ]
            for opened, name in ((whole, run.id), (components, KILLED))
        )
        assert one == other
    assert [u.label for u in whole.runs.units(run.id)] == [u.label for u in components.runs.units(KILLED)]
    # It went on where it was: the questions of its first unit, and the first of its second, were not asked again.
    assert len(components.language_model.asked) < 4


@pytest.mark.parametrize("version", VERSIONS)
def test_settings_of_an_old_record_have_the_names_of_today_and_count_as_the_same(tmp_path, version):
    components = components_for(old_store(tmp_path / "store", version))
    old, new = components.runs.run(KILLED).settings, recorded_settings(components.settings)
    known = set(RENAMED.values()) & old.keys()
    assert not RENAMED.keys() & old.keys()
    assert {name: old[name] for name in known} == {name: new[name] for name in known}
    work(components, components.runs.run(KILLED))
    changes = [event["detail"] for event in components.runs.events(KILLED) if event["kind"] == "settings changed"]
    assert not any({*RENAMED, *known} & detail["after"].keys() for detail in changes)


def test_checkpoints_of_a_newer_version_are_refused_and_left_as_they_are(tmp_path):
    components = components_for(old_store(tmp_path, "m003"))
    with sqlite3.connect(tmp_path / "checkpoints.db") as db:
        db.execute("PRAGMA user_version = 1")
    before = dump(tmp_path / "checkpoints.db")
    with pytest.raises(StoreError, match=r"checkpoints.db' was made by a newer version"):
        work(components, components.runs.run(KILLED))
    assert dump(tmp_path / "checkpoints.db") == before


def test_a_newer_store_is_one_clear_line_for_every_command(line, tmp_path):
    store = old_store(tmp_path / "store", "m003")
    with sqlite3.connect(store / "runs.db") as db:
        db.execute("INSERT INTO _sqlite_migrations VALUES (99, 'line-runs', 'm999_future', '2040-01-01')")
    for command in (["runs"], ["show", KILLED], ["results", KILLED], ["resume", KILLED], ["stop", KILLED]):
        refused(line(*command), "newer version of line-neurons (m999_future)", "upgrade line-neurons")
