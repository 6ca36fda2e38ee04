"""Time travel: a fork goes on from any step of a unit; with nothing changed it ends as the original did."""

import dataclasses
import shutil
import sqlite3
from contextlib import closing

import pytest

from line_neurons.agent.errors import UsageError
from line_neurons.agent.setting_groups.forks import fork_changes
from line_neurons.agent.settings import revised
from line_neurons.graphs.loop.graph import build
from line_neurons.graphs.loop.reconstruct import recorded_prompt, state_after
from line_neurons.graphs.runs.fork import fork
from line_neurons.graphs.runs.lifecycle import work
from line_neurons.tools.store.checkpoints import open_checkpoints
from line_neurons.tools.store.steering_queue import commands
from support.fakes import ScriptedGenerator, ScriptedModel, outcome, scripted_components
from support.full_checkpoints import all_checkpoints_kept, state_once_ended
from support.steered_run import intervened

CLASSES = ("ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen", "ibis", "jay", "kite", "lark")
SETTINGS = {"iterations": 3, "restarts": 1, "top": 2, "random": 2, "images": 1, "classes": CLASSES}

SEEN = (
    "board", "tried", "refused", "found", "best", "begin", "gained", "restart", "step", "attempt", "kind",
    "outcome",
)  # fmt: skip


def answer(prompt, seed, temperature):
    """Something new, something that nothing can image, something tried before, and nothing usable."""
    return ("bee", "garbage", "democracy", f"{CLASSES[seed % 5]} {seed}", f"thing {seed}")[seed % 5]


def components_for(store, **options):
    generator = ScriptedGenerator(unknown=frozenset({"democracy"}), hints=("owl", "crow", "wren", "swift"))
    return scripted_components(store, ScriptedModel(answer), generator=generator, **SETTINGS | options)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A store with a run of two searches, in which people intervened."""
    store = tmp_path_factory.mktemp("original")
    components = components_for(store)
    return components, intervened(components, store)


@pytest.fixture(scope="module")
def unpruned(tmp_path_factory):
    """The same run with all its checkpoints, as earlier versions left them."""
    store = tmp_path_factory.mktemp("unpruned")
    components = components_for(store)
    with all_checkpoints_kept():
        return components, intervened(components, store)


def of_unit(components, run, unit=0):
    units, steps = outcome(components, run)
    return [one for one in units if one[0] == unit], [step for step in steps if step[0] == unit]


def last_step(components, run, unit=0):
    return components.runs.steps(run.id, unit)[-1].step


def in_a_copy(original, tmp_path):
    """The original's run in a store of its own."""
    components, run = original
    shutil.copytree(components.store, tmp_path, dirs_exist_ok=True)
    return components_for(tmp_path), run


@pytest.mark.parametrize("unit", [0, 1])
def test_a_fork_of_any_step_with_nothing_changed_ends_as_the_original(original, tmp_path, unit):
    components, run = in_a_copy(original, tmp_path)
    # The last step of the steered unit came of a wish after the end, which no fork before it knows.
    whole = last_step(components, run, unit) - (unit == 0)
    units, steps = of_unit(components, run.id, unit)
    expected = [step for step in steps if step[1] <= whole]
    for step in range(whole):
        later = [wish for wish in commands(components.runs, run.id, unit) if wish.step > step]
        forked = fork(components, run, unit, step)
        assert (forked.forked_from, forked.forked_unit, forked.forked_step) == (run.id, unit, step)
        assert of_unit(components, forked.id, unit)[1] == [one for one in expected if one[1] <= step]
        if not [wish for wish in later if wish.step <= whole]:
            work(components, forked)
            assert of_unit(components, forked.id, unit)[1] == expected
            assert unit == 0 or of_unit(components, forked.id, unit)[0] == units
    assert of_unit(components, run.id, unit) == (units, steps)


@pytest.mark.parametrize("unit", [0, 1])
def test_the_history_tells_the_same_state_as_the_checkpoints_did(unpruned, unit):
    components, run = unpruned
    settings, history = revised(run.settings, {}), components.runs.steps(run.id, unit)
    asked = commands(components.runs, run.id, unit)
    with open_checkpoints(components.store) as saver:
        graph = build(saver)
        for step in range(last_step(components, run, unit)):
            recorded = state_once_ended(graph, run, unit, step)
            rebuilt = state_after(settings, history, asked, step)
            for name in SEEN:
                assert rebuilt[name] == recorded[name], (step, name)
            for name in ("pinned", "banned", "typed", "proposed"):
                assert rebuilt.get(name, []) == recorded.get(name, []), (step, name)


def rows_of(store, unit):
    """How many rows of each table of the checkpoints are a unit's."""
    with closing(sqlite3.connect(store / "checkpoints.db")) as db:
        counted = "SELECT count(*) FROM {} WHERE thread_id LIKE '%/' || ?"
        return [db.execute(counted.format(table), [unit]).fetchone()[0] for table in ("checkpoints", "writes")]


@pytest.mark.parametrize("unit", [0, 1])
def test_of_a_finished_unit_the_last_checkpoint_alone_is_kept(original, unpruned, unit):
    (components, run), (before, recorded) = original, unpruned
    assert rows_of(components.store, unit) == [1, 0]
    checkpoints, writes = rows_of(before.store, unit)
    assert checkpoints > 20
    # Interrupts by steering commands alone: the result of a node is in its checkpoint.
    assert writes < checkpoints / 10
    assert outcome(components, run.id) == outcome(before, recorded.id)


def test_a_fork_does_not_need_the_checkpoints_of_the_original(original, tmp_path):
    components, run = in_a_copy(original, tmp_path)
    (tmp_path / "checkpoints.db").unlink()
    forked = work(components, fork(components, run, 1, 4))
    assert of_unit(components, forked.id, 1) == of_unit(components, run.id, 1)


def test_every_question_can_be_rebuilt_from_the_store_and_is_the_one_that_was_sent(original):
    components, run = original
    sent = {prompt.messages for prompt, _, _ in components.language_model.asked}
    count = 0
    for unit in (0, 1):
        for step in components.runs.steps(run.id, unit):
            if step.prompt is None:
                continue
            asked = recorded_prompt(components.store, run.id, unit, step.step, step.attempt)
            assert asked.matches is True
            assert asked.prompt.messages in sent
            count += 1
    assert count == len(components.language_model.asked) > 15


def test_a_question_whose_history_was_altered_is_told_from_the_one_that_was_sent(original, tmp_path):
    components, run = in_a_copy(original, tmp_path)
    last = [step for step in components.runs.steps(run.id, 1) if step.prompt][-1]
    first = components.runs.steps(run.id, 1)[0]
    components.runs.put_step(dataclasses.replace(first, concept="zebra"))
    assert recorded_prompt(tmp_path, run.id, 1, last.step, last.attempt).matches is False
    components.runs.put_step(dataclasses.replace(last, prompt=None))
    assert recorded_prompt(tmp_path, run.id, 1, last.step, last.attempt).matches is None


@pytest.mark.parametrize(
    ("step", "attempt", "said"),
    [(0, None, "sent no prompt"), (99, None, "there is no step 99"), (1, 9, "has no request 9")],
)
def test_a_question_that_was_not_asked_is_one_clear_error(original, step, attempt, said):
    components, run = original
    with pytest.raises(UsageError, match=said):
        recorded_prompt(components.store, run.id, 1, step, attempt)


def test_a_fork_with_another_seed_shares_the_past_and_has_another_future(original, tmp_path):
    components, run = in_a_copy(original, tmp_path)
    other = components_for(tmp_path, **fork_changes(run.settings, {"seed": 7}))
    assert other.settings.control_seed == 0
    forked = work(other, fork(other, run, 1, 2))
    ours, theirs = of_unit(components, run.id, 1)[1], of_unit(components, forked.id, 1)[1]
    shared = [step for step in ours if step[1] <= 2]
    assert theirs[: len(shared)] == shared
    assert theirs[len(shared) :] != ours[len(shared) :]
    assert (forked.seed, forked.settings["seed"]) == (7, 7)


def test_a_concept_of_ones_own_comes_next_in_a_fork_also_at_the_end_of_a_search(original, tmp_path):
    components, run = in_a_copy(original, tmp_path)
    for step in (0, last_step(components, run, 1)):
        forked = work(components, fork(components, run, 1, step, concept="Blue Heron"))
        after = [one for one in components.runs.steps(forked.id, 1) if one.step == step + 1]
        assert [(one.concept, one.origin) for one in after] == [("blue heron", "typed")]


def test_a_fork_may_go_on_for_longer_than_the_original(original, tmp_path):
    components, run = in_a_copy(original, tmp_path)
    longer = components_for(tmp_path, iterations=5, restarts=1)
    forked = work(longer, fork(longer, run, 1, 3))
    kinds = {step.step: step.kind for step in components.runs.steps(forked.id, 1)}
    assert [kinds[step] for step in range(7)] == ["initial", *["iteration"] * 5, "summary"]


@pytest.mark.parametrize(
    ("unit", "step", "concept", "said"),
    [
        (2, 1, "", "has no unit 2"),
        (1, 99, "", "has no step 99 that has ended"),
        (1, None, "", "ended with step"),
        (1, 1, "bee, or wasp", "is no concept"),
        (1, 1, "{scored}", "was scored already"),
    ],
)
def test_a_fork_that_makes_no_sense_is_one_clear_error_and_leaves_nothing(
    original, tmp_path, unit, step, concept, said
):
    components, run = in_a_copy(original, tmp_path)
    step = last_step(components, run, 1) if step is None else step
    concept = concept.format(scored=components.runs.steps(run.id, 1)[0].concept)
    before = outcome(components, run.id), components.runs.names()
    with pytest.raises(UsageError, match=said):
        fork(components, run, unit, step, concept=concept)
    assert (outcome(components, run.id), components.runs.names()) == before


@pytest.mark.parametrize("setting", ["scorer", "images", "generator", "template", "init", "control", "pool"])
def test_what_copied_scores_depend_on_cannot_be_another_in_a_fork(setting):
    with pytest.raises(UsageError, match=f"a fork cannot change setting {setting}"):
        fork_changes({"seed": 0}, {setting: "x"})
