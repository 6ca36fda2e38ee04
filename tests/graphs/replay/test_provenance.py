"""Provenance: what was recorded of how labels came about, and nothing that is read off the machine at hand."""

import getpass
import json
import re

import pytest
from langgraph.runtime import RunControl

from line_neurons.agent.errors import DamagedError
from line_neurons.agent.prompts import prompt_hash
from line_neurons.graphs.replay.provenance import SCHEMA, provenance
from line_neurons.graphs.runs import environment
from line_neurons.graphs.runs.fork import fork
from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.tools.devices import machine
from line_neurons.tools.store.steering_queue import submit
from line_neurons.tui.cli.printing.provenance import show_provenance
from support.command_checks import refused
from support.fakes import LAYER, ScriptedModel, scripted_components
from support.released_stores import FINISHED, KILLED, VERSIONS, dump, old_store

MACHINE = {"os": "another", "cpu": "another", "cores": 64, "memory": 2**40, "torch": None}


def components_for(store, **options):
    model = ScriptedModel(lambda prompt, seed, temperature: f"thing {seed % 1000}")
    return scripted_components(store, model, iterations=2, top=1, random=1, images=2, **options)


def stopped(store):
    """A run that was stopped in its first unit."""
    components, drain = components_for(store), RunControl()
    run = start(components, LAYER, ["0-1"], "line explain scripted:model head 0-1")

    def stop(progress):
        if progress.step == 2:
            drain.request_drain("enough")

    work(components, run, stop, drain)
    return components, run


def test_everything_that_decides_a_label_is_in_the_document_and_nothing_of_a_user(tmp_path):
    components = components_for(tmp_path)
    run = start(components, LAYER, ["0-1"], "line explain scripted:model head 0-1")
    submit(tmp_path, run.id, 0, "try", "blue heron")
    work(components, run)
    told = provenance(tmp_path, run.id[:6])
    assert json.loads(json.dumps(told)) == told
    assert (told["schema"], told["run"], told["command"]) == (
        SCHEMA,
        run.id,
        "line explain scripted:model head 0-1",
    )
    assert told["versions"].keys() >= {"python", "line-neurons", "torch", "langgraph", "numpy", "pillow"}
    (environment,) = told["environments"]
    assert re.fullmatch("[0-9a-f]{64}", environment["code"])
    assert environment["machine"] == machine()
    assert environment["machine"]["cores"] > 0
    (session,) = told["sessions"]
    assert (session["how"], session["environment"], told["resumes"]) == ("finished", 0, 0)
    assert session["steps"] == sum(len(unit["steps"]) for unit in told["units"])
    assert {name: part["fingerprint"] for name, part in told["parts"].items()} == run.fingerprints
    unit = told["units"][0]
    assert [wish["concept"] for wish in unit["wishes"]] == ["blue heron"]
    assert (unit["label"], unit["score"]) == (
        components.runs.units(run.id)[0].label,
        components.runs.units(run.id)[0].score,
    )
    asked = [step for step in unit["steps"] if step["prompt"]]
    sent = {prompt_hash(prompt) for prompt, *_ in components.language_model.asked}
    assert {step["prompt"] for step in asked} <= sent
    assert {step["model"] for step in asked} == {"scripted model"}
    assert f'"{getpass.getuser()}' not in json.dumps(told)


def test_the_text_of_the_prompts_is_what_every_question_begins_with(tmp_path):
    components = components_for(tmp_path)
    run = work(components, start(components, LAYER, ["0"]))
    told = provenance(tmp_path, run.id)["prompts"]
    for kind, (prompt, *_) in zip(
        ("iteration", "iteration", "summary"), components.language_model.asked, strict=True
    ):
        said = [[message.role, message.content] for message in prompt.messages]
        assert said[: len(told[kind]["messages"])] == told[kind]["messages"]
        assert len(said) == len(told[kind]["messages"]) + 1
    assert told["picture"]["template"] == components.settings.template


def test_a_run_that_is_finished_on_another_machine_tells_of_both(tmp_path, monkeypatch):
    components, run = stopped(tmp_path)
    monkeypatch.setattr(environment, "machine", lambda: MACHINE)
    monkeypatch.setattr(environment, "installed_versions", lambda: {"torch": "9.9"})
    work(components, components.runs.run(run.id))
    told = provenance(components.runs, run.id)
    assert [one["machine"] for one in told["environments"]] == [machine(), MACHINE]
    assert told["versions"]["torch"] != "9.9" == told["environments"][1]["versions"]["torch"]
    assert [(one["how"], one["environment"]) for one in told["sessions"]] == [
        ("stopped on request", 0),
        ("finished", 1),
    ]
    assert told["resumes"] == 1
    assert [unit["sessions"] for unit in told["units"]] == [[0, 1], [1]]


def test_what_has_not_changed_is_recorded_once(tmp_path):
    components, run = stopped(tmp_path)
    work(components, components.runs.run(run.id))
    kinds = [event["kind"] for event in components.runs.events(run.id)]
    assert (kinds.count(environment.ENVIRONMENT_EVENT), kinds.count("work")) == (1, 2)


def test_how_images_that_are_not_ordinary_were_read_is_recorded_and_printed(tmp_path, capsys):
    components = components_for(tmp_path)
    components.control_set.image_notes = ("2 of 12 images: 16-bit, values read by the range 0 to 4095",)
    run = work(components, start(components, LAYER, ["0"]))
    told = ["in the control set, 2 of 12 images: 16-bit, values read by the range 0 to 4095"]
    assert [one["images"] for one in provenance(tmp_path, run.id)["environments"]] == [told]
    show_provenance(tmp_path, run.id, as_json=False)
    assert "in the control set, 2 of 12 images: 16-bit" in " ".join(capsys.readouterr().out.split())


def test_settings_that_were_changed_and_steps_that_a_fork_copied_are_told(tmp_path):
    _, run = stopped(tmp_path)
    warm = components_for(tmp_path, temperature=0.9)
    work(warm, warm.runs.run(run.id))
    told = provenance(tmp_path, run.id)
    assert [(one["kind"], one["after"]) for one in told["changes"]] == [("settings changed", {"temperature": 0.9})]
    forked = work(warm, fork(warm, warm.runs.run(run.id), 0, 1, concept="blue heron"))
    told = provenance(tmp_path, forked.id)
    assert told["forked_from"] == {"run": run.id, "unit": 0, "step": 1}
    assert {step["step"]: step["session"] for step in told["units"][0]["steps"]} == {0: None, 1: None, 2: 0, 3: 0}
    assert told["environments"][0]["machine"] == machine()


@pytest.mark.parametrize("version", VERSIONS)
def test_of_an_old_store_what_was_not_recorded_is_nothing(tmp_path, version):
    store = old_store(tmp_path / "store", version)
    before = dump(store / "runs.db")
    told = provenance(store, FINISHED)
    assert told["prompts"] is None
    (environment,) = told["environments"]
    assert environment["versions"] == told["versions"]
    assert "python" not in told["versions"]
    assert [environment[name] for name in ("code", "machine", "fingerprints", "prompts")] == [None] * 4
    assert [session["host"] for session in told["sessions"]] == [None]
    assert dump(store / "runs.db") == before


def test_an_old_run_that_is_gone_on_with_tells_of_the_machine_from_then_on(tmp_path):
    components = components_for(old_store(tmp_path, "m003"))
    before = len(provenance(tmp_path, KILLED)["sessions"])
    work(components, components.runs.run(KILLED))
    told = provenance(tmp_path, KILLED)
    assert [one["machine"] for one in told["environments"]] == [None, machine()]
    assert [one["environment"] for one in told["sessions"]] == [*range(before), 1]
    assert told["prompts"] is None


def test_a_history_has_one_hash_whenever_it_comes_about_and_another_if_a_word_is_another(tmp_path):
    hashes = []
    for name in ("one", "two"):
        components = components_for(tmp_path / name)
        run = work(components, start(components, LAYER, ["0"]))
        hashes.append(provenance(components.runs, run.id)["units"][0]["history_sha256"])
    assert hashes[0] == hashes[1]
    with components.runs.atomic() as db:
        db.execute("UPDATE steps SET reasoning = 'because' WHERE step = 1")
    assert provenance(components.runs, run.id)["units"][0]["history_sha256"] != hashes[0]


def test_a_damaged_record_is_one_clear_error_and_does_not_keep_a_run_from_going_on(tmp_path):
    components, run = stopped(tmp_path)
    with components.runs.atomic() as db:
        db.execute("UPDATE events SET detail = '{' WHERE kind = ?", [environment.ENVIRONMENT_EVENT])
    assert work(components, components.runs.run(run.id)).status == "finished"
    with pytest.raises(DamagedError, match="a row of events in runs"):
        provenance(tmp_path, run.id)


def test_it_is_shown_for_people_and_for_machines(line, tmp_path):
    components, run = stopped(tmp_path / "store")
    status, out, _ = line("show", run.id, "--provenance")
    assert status == 0
    for said in ("scripted target", "run seed", "stopped on request", machine()["os"]):
        assert said in out
    assert json.loads(line("show", run.id, "--provenance", "--json")[1]) == provenance(components.runs, run.id)
    refused(line("show", run.id, "0", "--provenance"), "--provenance is for a whole run")
    old_store(tmp_path / "old", "m002")
    shown = line("show", FINISHED, "--provenance", "--store", tmp_path / "old")[1]
    assert "machine" in shown
    assert "not recorded" in shown
