"""A replay does a run again, and tells where it parts from the record."""

import dataclasses
import shutil

import pytest
from langgraph.runtime import RunControl

from line_neurons.agent.errors import UsageError
from line_neurons.agent.ports import DrawnImage
from line_neurons.agent.settings import revised
from line_neurons.graphs.replay import replay
from line_neurons.graphs.replay.compare import compare_environment, compare_units
from line_neurons.graphs.runs.components import Components
from line_neurons.graphs.runs.environment import current_environment
from line_neurons.graphs.runs.fork import fork
from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.tools.store.runs import RunStore
from line_neurons.tools.store.steering_queue import commands, submit, withdraw_from
from support.fakes import (
    LAYER,
    ScriptedGenerator,
    ScriptedModel,
    ScriptedTarget,
    image_of,
    outcome,
    scripted_components,
)
from support.released_stores import FINISHED, old_store
from support.steered_run import intervened

CLASSES = ("ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen", "ibis", "jay", "kite", "lark")
SETTINGS = {"iterations": 3, "restarts": 1, "top": 2, "random": 2, "images": 1, "revisit": True}


def answer(prompt, seed, temperature):
    """Something new, something that nothing can image, something tried before, and nothing usable."""
    return ("bee", "garbage", "democracy", f"{CLASSES[seed % 5]} {seed}", f"thing {seed}")[seed % 5]


def components_for(store, *, model=answer, generator=None, target=None, **options):
    return scripted_components(
        store,
        ScriptedModel(model, options.get("llm", "scripted model")),
        generator=generator or ScriptedGenerator(unknown=frozenset({"democracy"}), hints=("owl", "crow", "wren")),
        target=target,
        classes=CLASSES,
        **SETTINGS | options,
    )


@pytest.fixture
def here(monkeypatch):
    """The scripted parts that replays find here, by name; what is put in takes the place of one."""
    others = {}
    made = []

    def opened(model, settings, preparing=None, layers=None):
        components = Components(model, settings, preparing, layers or set())
        known = components_for(settings.store, **{name: part for name, part in others.items() if name != "models"})
        named = ("language_model", "generator", "target", "control_set")
        components = components.with_(**{name: getattr(known, name) for name in named})
        if "models" in others:
            scripted = ScriptedModel(others["models"][settings.llm], settings.llm)
            components = components.with_(language_model=scripted)
        made.append(components)
        return components

    monkeypatch.setattr(replay, "Components", opened)
    others["made"] = made
    yield others


def replayed(here, components, run, into, units=(), *, tolerance=0, watch=None, drain=None):
    made = here.pop("made")
    planned = replay.plan(components.runs, components.runs.run(run.id), units)
    opened = replay.components_of(components.runs, planned, into, revised({}, {}))
    done = replay.replay_run(components.runs, planned, opened, watch, drain)
    here["made"] = made
    return opened[-1], done, compare_units(components.runs, planned, opened[-1].runs, done, tolerance)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A store with a run of two units, two searches each, in which people intervened, revisited at the end."""
    store = tmp_path_factory.mktemp("original")
    components = components_for(store)
    return components, intervened(components, store)


def plain(components, run):
    """What a run ended with, without the ids of wishes and of the run."""
    return outcome(components, run.id)


def test_a_replay_with_the_same_parts_is_identical_to_the_last_wish_and_asks_and_draws_all_anew(
    original, tmp_path, here
):
    components, run = original
    again, done, found = replayed(here, components, run, tmp_path / "again")
    assert [one.verdict for one in found] == ["identical", "identical"]
    assert plain(again, done) == plain(components, run)
    assert all(one.agrees and one.parted is None and one.equal_steps == one.steps > 5 for one in found)
    assert all(one.images == one.equal_images > 5 and one.activation_difference == 0 for one in found)
    questions = sum(step.prompt is not None for unit in (0, 1) for step in components.runs.steps(run.id, unit))
    assert len(again.language_model.asked) == questions
    assert {image for _, *rest in plain(again, done)[1] for image in rest[6]}
    assert len(again.generator.drawn) == len({request.seed for request in components.generator.drawn})


def test_a_replay_unbans_where_the_run_did_and_leaves_out_what_was_withdrawn(tmp_path, here):
    components = components_for(tmp_path / "original")
    run = start(components, LAYER, ["0"])
    sent = [("ban", 1), ("unban", 3)]
    banned = []

    def watch(progress):
        if sent and (progress.node, progress.step) == ("propose", sent[0][1]):
            kind, _ = sent.pop(0)
            banned[:] = banned or [components.runs.steps(run.id, 0)[0].concept]
            submit(components.store, run.id, 0, kind, banned[0])
            submit(components.store, run.id, 0, "again")
            withdraw_from(components.store, run.id, 0, commands(components.runs, run.id, 0)[-1].id)

    work(components, run, watch)
    again, done, found = replayed(here, components, components.runs.run(run.id), tmp_path / "again")
    assert [one.verdict for one in found] == ["identical"]
    assert plain(again, done) == plain(components, run)
    assert [(row.kind, row.state) for row in commands(again.runs, done.id, 0)] == [
        ("ban", "applied"), ("unban", "applied"),
    ]  # fmt: skip


def test_a_replay_of_a_record_without_similarities_of_near_concepts_is_identical(tmp_path, here):
    generator = ScriptedGenerator(unknown=frozenset({"democracy"}))
    here["generator"] = generator
    components = components_for(tmp_path / "original", generator=generator)
    run = start(components, LAYER, ["0"])
    submit(components.store, run.id, 0, "try", "democracy")
    work(components, run)
    refused = next(step for step in components.runs.steps(run.id, 0) if step.outcome == "not_drawable")
    assert refused.detail["nearest"] == [["something else", 0.4]]
    components.runs.put_step(dataclasses.replace(refused, detail={"reason": refused.detail["reason"]}))
    _, _, found = replayed(here, components, components.runs.run(run.id), tmp_path / "again")
    assert [one.verdict for one in found] == ["identical"]


def test_another_reply_is_found_at_the_very_question(original, tmp_path, here):
    components, run = original
    asked = [step for step in components.runs.steps(run.id, 1) if step.prompt and step.outcome == "scored"][2]
    here["model"] = lambda prompt, seed, temperature: (
        "a crane" if seed == asked.seed else answer(prompt, seed, temperature)
    )
    _, _, found = replayed(here, components, run, tmp_path / "again")
    changed = next(one for one in found if one.unit == 1)
    parted = changed.parted
    assert (parted.step, parted.attempt, parted.what) == (asked.step, asked.attempt, "reply")
    assert (parted.then, "crane" in parted.now) == (asked.reply, True)
    before = [s for s in components.runs.steps(run.id, 1) if (s.step, s.attempt) < (asked.step, asked.attempt)]
    assert changed.equal_steps == len(before)
    assert not changed.agrees
    # The searches of the other unit are not touched; only its revisit may be.
    assert next(one for one in found if one.unit == 0).parted is None


class Repainted(ScriptedGenerator):
    def synthesize(self, requests, progress=None):
        super().synthesize(requests, progress)
        return [DrawnImage(image_of(r.concept, r.seed, f"{r.prompt}!"), {}) for r in requests]


def test_another_generator_gives_other_images_and_the_same_label_where_scores_are_the_same(
    original, tmp_path, here
):
    components, run = original
    here["generator"] = Repainted(unknown=frozenset({"democracy"}), hints=("owl", "crow", "wren"))
    _, _, found = replayed(here, components, run, tmp_path / "again")
    for one in found:
        assert (one.verdict, one.parted.what, one.parted.step) == ("same label", "images", 0)
        assert (one.equal_images, one.score_difference, one.activation_difference) == (0, 0, 0)


class Nudged(ScriptedTarget):
    def activate(self, images, layers, progress=None):
        return {layer: rows + 2**-12 for layer, rows in super().activate(images, layers, progress).items()}


@pytest.mark.parametrize(("tolerance", "verdict"), [(0, "same label"), (0.001, "within tolerance")])
def test_scores_that_differ_are_told_by_how_much_and_may_count_as_equal(
    original, tmp_path, here, tolerance, verdict
):
    components, run = original
    here["target"] = Nudged()
    _, _, found = replayed(here, components, run, tmp_path / "again", tolerance=tolerance)
    assert {one.verdict for one in found} == {verdict}
    assert [one.score_difference == pytest.approx(2**-12, rel=0.01) for one in found] == [True, True]
    assert {one.parted and one.parted.what for one in found} == {None if tolerance else "score"}


def test_an_interrupted_replay_goes_on_where_it_was(original, tmp_path, here):
    components, run = original
    drain = RunControl()

    def stop(progress):
        if progress.step == 3:
            drain.request_drain("enough")

    _, done, _ = replayed(here, components, run, tmp_path / "again", watch=stop, drain=drain)
    assert done.status == "interrupted"
    again, done, found = replayed(here, components, run, tmp_path / "again")
    assert [one.verdict for one in found] == ["identical", "identical"]
    assert len(again.runs.names()) == 1


def test_of_some_units_the_searches_are_compared_and_the_revisit_is_left_out(original, tmp_path, here):
    components, run = original
    _, _, found = replayed(here, components, run, tmp_path / "again", [1])
    assert [(one.unit, one.verdict) for one in found] == [(1, "identical")]
    assert "the revisit" in replay.plan(components.runs, run, [1]).note
    with pytest.raises(UsageError, match="has runs of its own"):
        replayed(here, components, run, tmp_path / "again", [0])


def test_a_replay_goes_to_a_folder_of_its_own_and_back_to_one_that_is_not_finished(original, tmp_path, here):
    components, run = original
    shutil.copytree(components.store, tmp_path, dirs_exist_ok=True)
    components = components_for(tmp_path)
    planned, some = replay.plan(components.runs, run), replay.plan(components.runs, run, [1])
    first, second = (tmp_path / "replays" / f"{run.id}-{number}" for number in (1, 2))
    assert replay.replay_folder(components.runs, planned) == first
    drain = RunControl()
    drain.request_drain("at once")
    replayed(here, components, run, first, drain=drain)
    assert [replay.replay_folder(components.runs, one) for one in (planned, some)] == [first, second]
    replayed(here, components, run, first)
    assert replay.replay_folder(components.runs, planned) == second


def test_of_an_interrupted_run_what_there_is_is_compared(tmp_path, here):
    components, drain = components_for(tmp_path / "store"), RunControl()
    run = start(components, LAYER, ["0-2"])

    def stop(progress):
        if (progress.unit, progress.step) == (1, 2):
            drain.request_drain("enough")

    work(components, run, stop, drain)
    planned = replay.plan(components.runs, run)
    assert planned.left_out == {2: "no step of it is recorded"}
    _, _, found = replayed(here, components, run, tmp_path / "again")
    assert [(one.unit, one.verdict) for one in found] == [(0, "identical"), (1, "identical")]
    assert "recorded as interrupted" in found[1].note
    assert (found[1].label, found[1].steps > 0) == (None, True)
    with pytest.raises(UsageError, match="no step of these units of run"):
        replay.plan(components.runs, run, [2])


def test_each_question_goes_to_the_model_that_was_asked_it_as_hot_as_it_was(tmp_path, here):
    def first(prompt, seed, temperature):
        return f"one {seed}"

    def second(prompt, seed, temperature):
        return f"two {seed} {temperature:.1f}".replace(".", "")

    store, drain = tmp_path / "store", RunControl()
    components = components_for(store, model=first, llm="first", revisit=False)
    run = start(components, LAYER, ["0-1"])

    def stop(progress):
        if (progress.unit, progress.step) == (0, 3):
            drain.request_drain("enough")

    work(components, run, stop, drain)
    components = components_for(store, model=second, llm="second", temperature=0.9, revisit=False)
    work(components, components.runs.run(run.id))
    here["models"] = {"first": first, "second": second}
    again, done, found = replayed(here, components, run, tmp_path / "again")
    assert [one.verdict for one in found] == ["identical", "identical"]
    asked = [
        [(s.model, s.temperature) for s in p.runs.steps(r.id, 0)] for p, r in ((components, run), (again, done))
    ]
    assert asked[0] == asked[1]
    assert {model for model, _ in asked[1]} == {None, "first", "second"}


@pytest.mark.parametrize("step", [2, None], ids=["in the middle", "after its end"])
def test_a_fork_is_done_again_from_the_begin_with_what_it_was_forked_from(original, tmp_path, here, step):
    components, run = original
    shutil.copytree(components.store, tmp_path / "store", dirs_exist_ok=True)
    components = components_for(tmp_path / "store", seed=7, control_seed=0)
    last = components.runs.steps(run.id, 1)[-1].step if step is None else step
    last -= components.runs.steps(run.id, 1)[-1].kind == "revisit" if step is None else 0
    forked = work(components, fork(components, run, 1, last, concept="blue heron"))
    forked = work(components, fork(components, forked, 1, last + 1, concept="red panda"))
    again, done, found = replayed(here, components, forked, tmp_path / "again")
    assert [one.verdict for one in found] == ["identical"]
    assert plain(again, done) == plain(components, forked)
    assert len(again.runs.names()) == 3
    assert replayed(here, components, forked, tmp_path / "again")[1].id == done.id


def test_a_fork_of_what_is_not_in_the_store_is_one_clear_error(original, tmp_path):
    components, run = original
    lonely = dataclasses.replace(run, id="lonely", forked_from="gone", forked_unit=1, forked_step=2)
    store = RunStore(tmp_path)
    store.add_run(lonely, [dataclasses.replace(unit, run="lonely") for unit in components.runs.units(run.id)])
    store.put_steps([dataclasses.replace(step, run="lonely") for step in components.runs.steps(run.id, 1)])
    with pytest.raises(UsageError, match="it was forked from gone, which is not in this store"):
        replay.plan(store, lonely)


def test_wishes_of_a_search_that_ends_sooner_now_are_granted_at_its_end(tmp_path, here):
    components = components_for(tmp_path / "store", revisit=False, restarts=0)
    run = work(components, start(components, LAYER, ["0"]))
    submit(components.store, run.id, 0, "try", "blue heron")
    work(components, run)
    settings = dict(components.runs.run(run.id).settings) | {"summary": False, "iterations": 1}
    components.runs.update_run(run.id, settings=settings)
    again, done, found = replayed(here, components, run, tmp_path / "again")
    assert done.status == "finished"
    assert [step.concept for step in again.runs.steps(done.id, 0)][-1] == "blue heron"
    assert found[0].parted is not None


def test_the_images_of_a_first_board_of_the_stores_concepts_are_drawn_again(tmp_path, here):
    earlier = components_for(tmp_path / "store", seed=5)
    work(earlier, start(earlier, LAYER, ["1"]))
    components = components_for(tmp_path / "store", init="bank", control="none")
    run = work(components, start(components, LAYER, ["0"]))
    _, _, found = replayed(here, components, run, tmp_path / "again")
    assert [one.verdict for one in found] == ["identical"]


def test_what_is_other_here_is_told_part_by_part(original, tmp_path):
    components, run = original
    now = current_environment(components_for(tmp_path), LAYER)
    assert compare_environment(components.runs, run, now) == ([], [])
    now["fingerprints"]["target"] = "scripted weights=2"
    now["versions"]["torch"] = "9.9"
    now["machine"] |= {"cores": 4096, "memory": 1, "torch": {"gpus": ["one"]}}
    changed = dataclasses.replace(run, fingerprints=run.fingerprints | {"target": "scripted weights=1"})
    differ, unknown = compare_environment(components.runs, changed, now)
    told = {one.what: (one.then, one.now) for one in differ}
    assert told["parts.target"] == (("scripted weights=1",), "scripted weights=2")
    assert told["parts.target.weights"] == (("1",), "2")
    assert told["versions.torch"][1] == "9.9"
    assert told["machine.cores"][1] == "4096"
    # How much memory there is decides nothing.
    assert "machine.memory" not in told
    assert "machine.torch.gpus" in {*unknown, *told}


def test_what_an_earlier_version_did_not_record_is_named_and_not_compared(tmp_path):
    components = components_for(old_store(tmp_path / "store", "m003"))
    run = components.runs.run(FINISHED)
    differ, unknown = compare_environment(components.runs, run, current_environment(components, run.layer))
    assert {one.what for one in differ} <= {f"versions.{name}" for name in run.versions} | {"parts.generator"}
    assert unknown == ["versions.python", "code", "machine", "prompts"]
