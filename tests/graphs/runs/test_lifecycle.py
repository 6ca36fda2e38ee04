import multiprocessing
import os
import signal
from dataclasses import dataclass, replace

import pytest

from line_neurons.agent.errors import BackendError, StoreError, UsageError
from line_neurons.graphs.loop import nodes
from line_neurons.graphs.runs.lifecycle import start, work
from support.fakes import LAYER, ScriptedGenerator, ScriptedModel, ScriptedTarget, scripted_components

NODES = ["init", "propose", "summarize", "synthesize", "activate", "score", "update"]


def components_for(store, **options):
    model = ScriptedModel(lambda prompt, seed, temperature: f"thing {seed}")
    return scripted_components(store, model, iterations=2, **options)


def outcome(components, run):
    units = [(u.unit, u.label, u.score, u.origin, u.label_step, u.discovered) for u in components.runs.units(run)]
    steps = [
        (s.unit, s.step, s.attempt, s.kind, s.outcome, s.concept, s.score, s.images, s.board, s.removed)
        for unit in units
        for s in components.runs.steps(run, unit[0])
    ]
    return units, steps


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    components = components_for(tmp_path_factory.mktemp("whole"))
    run = work(components, start(components, LAYER, ["0-1"]))
    return outcome(components, run.id)


def killed_in(node, visit, after, store):
    """Work on a run in a process that dies by SIGKILL at the given visit of a node, before or after its work."""
    components = components_for(store)
    run = start(components, LAYER, ["0-1"])
    real = getattr(nodes, node)
    visits = 0

    def dying(state, runtime):
        nonlocal visits
        visits += 1
        done = real(state, runtime) if after else None
        if visits == visit:
            os.kill(os.getpid(), signal.SIGKILL)
        return done if after else real(state, runtime)

    # LangGraph reads the annotations of a node to learn which state and context it takes.
    dying.__annotations__ = real.__annotations__
    setattr(nodes, node, dying)
    work(components, run)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("visit", [1, 2])
@pytest.mark.parametrize("node", NODES)
def test_a_run_killed_in_a_node_ends_as_an_uninterrupted_one(tmp_path, uninterrupted, node, visit, after):
    store = tmp_path / "killed"
    process = multiprocessing.get_context("fork").Process(target=killed_in, args=(node, visit, after, store))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    components = components_for(store)
    run = components.runs.runs()[0]
    assert run.status == "running"
    finished = work(components, run)
    assert finished.status == "finished"
    assert outcome(components, run.id) == uninterrupted


def test_a_failing_part_leaves_a_run_that_can_be_resumed(tmp_path, uninterrupted):
    def failing(images, layers, progress=None):
        raise BackendError("the target fell over", "set it up again")

    components = components_for(tmp_path)
    run = start(components, LAYER, ["0-1"])
    components.control(LAYER)
    components.target.activate = failing
    with pytest.raises(BackendError):
        work(components, run)
    assert components.runs.run(run.id).status == "failed"
    assert components.runs.units(run.id)[0].error == "the target fell over (set it up again)"
    mended = components_for(tmp_path)
    work(mended, run)
    assert outcome(mended, run.id) == uninterrupted


def test_finished_units_are_not_worked_on_again(tmp_path):
    components = components_for(tmp_path)
    run = work(components, start(components, LAYER, ["0"]))
    asked = len(components.language_model.asked)
    work(components, run)
    assert len(components.language_model.asked) == asked


def test_a_second_process_is_told_who_works_on_the_run(tmp_path):
    components = components_for(tmp_path)
    run = start(components, LAYER, ["0"])

    def intrude(progress):
        with pytest.raises(UsageError, match=f"in use by process {os.getpid()}"):
            work(components_for(tmp_path), run)
        seen.append(progress)

    seen = []
    work(components, run, intrude)
    assert seen


@pytest.mark.parametrize("units", [["3"], ["0-7"], ["cat"], []])
def test_units_that_do_not_fit_leave_the_store_as_it_was(tmp_path, units):
    components = components_for(tmp_path)
    with pytest.raises(UsageError):
        start(components, LAYER, units)
    assert components.runs.runs() == []


def test_the_progress_ends_at_the_last_step_of_the_last_unit(tmp_path):
    components = components_for(tmp_path)
    seen = []
    work(components, start(components, LAYER, ["0-1"]), seen.append)
    assert (seen[-1].position, seen[-1].units, seen[-1].node, seen[-1].steps) == (2, 2, "finished", 3)
    assert seen[-1].best is not None


def test_runs_are_named_for_model_and_layer_and_numbered(tmp_path):
    components = components_for(tmp_path)
    assert [start(components, LAYER, ["0"]).id for _ in range(2)] == ["model-head-1", "model-head-2"]


def test_checkpoints_hold_plain_types_only(tmp_path):
    import sqlite3

    import ormsgpack

    components = components_for(tmp_path)
    work(components, start(components, LAYER, ["0"]))
    rows = (
        sqlite3.connect(tmp_path / "checkpoints.db").execute("select type, checkpoint from checkpoints").fetchall()
    )
    assert rows
    for kind, blob in rows:
        assert kind == "msgpack"
        # An extension type would mean a class to revive; without a hook it is refused.
        ormsgpack.unpackb(blob)


def test_a_store_that_cannot_be_written_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError) as caught:
        start(components_for(tmp_path / "file" / "store"), LAYER, ["0"])
    assert caught.value.remedy


def test_auc_and_mad_are_recorded_with_the_label(tmp_path):
    components = components_for(tmp_path, target=ScriptedTarget({"class a": 9.0}), generator=ScriptedGenerator())
    run = work(components, start(components, LAYER, ["0"]))
    unit = components.runs.units(run.id)[0]
    assert unit.auc is not None
    assert 0 <= unit.auc <= 1
    assert unit.mad is not None


def test_another_language_model_takes_over_in_the_middle_and_every_step_says_which_was_asked(tmp_path):
    def fails_at_the_third(prompt, seed, temperature):
        if len(first.language_model.asked) == 3:
            raise BackendError("the server has gone", "start it again")
        return f"thing {seed}"

    first = scripted_components(tmp_path, ScriptedModel(fails_at_the_third), iterations=3, summary=False)
    run = start(first, LAYER, ["0"])
    with pytest.raises(BackendError):
        work(first, run)
    other = ScriptedModel(lambda prompt, seed, temperature: f"other {seed}", fingerprint="other model")
    second = scripted_components(tmp_path, other, iterations=3, summary=False, llm="random")
    changed = work(second, run)
    asked = [(step.step, step.model) for step in second.runs.steps(run.id, 0) if step.step]
    assert asked == [(1, "scripted model"), (2, "scripted model"), (3, "other model")]
    assert (changed.settings["llm"], changed.fingerprints["language_model"]) == ("random", "other model")
    event = next(event for event in second.runs.events(run.id) if event["kind"] == "settings changed")
    assert event["detail"]["language_model_before"] == "scripted model"
    assert event["detail"]["after"] == {"llm": "random"}


def test_a_resumed_run_keeps_its_record_where_nothing_changed_or_nothing_was_left(tmp_path):
    components = components_for(tmp_path)
    run = start(components, LAYER, ["0"])
    work(components_for(tmp_path), run)
    work(components_for(tmp_path, llm="random"), run)
    assert "settings changed" not in {event["kind"] for event in components.runs.events(run.id)}
    assert components.runs.run(run.id).settings == run.settings


def test_a_run_that_another_process_works_on_keeps_its_record(tmp_path):
    components = components_for(tmp_path)
    run = start(components, LAYER, ["0"])

    def intrude(progress):
        with pytest.raises(UsageError, match="in use by"):
            work(components_for(tmp_path, llm="random"), run)

    assert work(components, run, intrude).settings == run.settings


def test_a_layer_that_is_worked_on_too_is_measured_in_the_same_forward_passes(tmp_path):
    one, both = components_for(tmp_path / "one"), components_for(tmp_path / "both")
    both.layers.add("other")
    for components in (one, both):
        work(components, start(components, LAYER, ["0"]))
    assert both.target.passes == one.target.passes
    images = [image for step in both.runs.steps(both.runs.runs()[0].id, 0) for image in step.images]
    both.cache.activations(images, both.target, "other")
    assert both.target.passes == one.target.passes


def test_nothing_is_done_to_a_finished_run(tmp_path):
    components = components_for(tmp_path)
    run = work(components, start(components, LAYER, ["0"]))
    events = components.runs.events(run.id)
    assert work(components_for(tmp_path, llm="random"), run) == run
    assert components.runs.events(run.id) == events


def test_a_run_whose_name_was_taken_in_between_gets_the_next_one(tmp_path, monkeypatch):
    components = components_for(tmp_path)
    start(components, LAYER, ["0"])
    seen = []

    def behind(runs, model, layer):
        seen.append(layer)
        return f"model-head-{len(seen)}"

    monkeypatch.setattr("line_neurons.graphs.runs.lifecycle.new_run_id", behind)
    assert start(components, LAYER, ["0"]).id == "model-head-2"


def test_a_note_on_the_target_is_news_until_the_store_has_a_run_of_it(tmp_path):
    @dataclass
    class Noted:
        fingerprint: str
        note: str = "mobilenet_v2 stands for mobilenet_v2@IMAGENET1K_V1"

    components = scripted_components(tmp_path / "s", ScriptedModel(["a"] * 9))
    same = Noted(components.target.fingerprint)
    assert components._is_news(same)
    assert not (tmp_path / "s").exists()
    start(components, LAYER, ["0"])
    assert not components._is_news(same)
    assert components._is_news(Noted('another "target"'))
    assert not components._is_news(replace(same, note=""))
