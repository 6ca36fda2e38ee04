"""What people ask of a unit, wherever it arrives: granted once, written down, and the same after a kill."""

import multiprocessing
import os
import signal
import subprocess
import sys
from dataclasses import astuple, replace
from functools import cache

import pytest

from line_neurons.agent import loop
from line_neurons.agent.errors import UsageError
from line_neurons.agent.steering import REFUSED
from line_neurons.graphs.loop import nodes
from line_neurons.graphs.loop import steering as steered
from line_neurons.graphs.loop.graph import build
from line_neurons.graphs.runs import checkpoints
from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.graphs.runs.revisit import revisit
from line_neurons.graphs.runs.unit_runner import restart_unit
from line_neurons.tools.store.checkpoints import open_checkpoints
from line_neurons.tools.store.steering_queue import (
    banned,
    commands,
    reschedule,
    submit,
    units_with_pending,
    withdraw_from,
)
from support.fakes import (
    LAYER,
    ScriptedGenerator,
    ScriptedModel,
    ScriptedTarget,
    events,
    outcome,
    scripted_components,
)

NODES = ("", "init", "propose", "synthesize", "activate", "score", "update", "finished")
WISHES = (("pin", "class b"), ("ban", "class a"), ("try", "Red Foxes"), ("again", ""))
SCORES = {"class a": 9.0, "class b": 0.01}


def components_for(store, **options):
    """A search with a full board of four, which something leaves at every step."""
    model = ScriptedModel(lambda prompt, seed, temperature: f"thing {seed}")
    given = {"iterations": 3, "top": 2, "random": 2, "images": 1, "target": ScriptedTarget(SCORES)}
    return scripted_components(store, model, **given | options)


def steered_run(store, kind, concept, after, step=2, **options):
    """A finished run of a unit, of which something was asked when a node had ended in a step."""
    components = components_for(store, **options)
    run = start(components, LAYER, ["0"])
    asked = []
    if kind == "unban":
        submit(store, run.id, 0, "ban", concept)

    def watch(progress):
        now = progress.step == step or after in {"", "init", "finished"}
        if progress.node == after and now and not asked:
            asked.append(progress)
            submit(store, run.id, 0, kind, concept)

    work(components, run, watch)
    assert asked
    return components, run


def told(components, run):
    return commands(components.runs, run.id, 0)[-1]


def entries(components, run, kind="concept"):
    return [getattr(step, kind) for step in components.runs.steps(run.id, 0)]


def resumable_state(components, run):
    with open_checkpoints(components.store) as saver:
        return checkpoints.resumable_state(build(saver), run, 0).values


@pytest.mark.parametrize("after", NODES[1:])
@pytest.mark.parametrize(("kind", "concept"), WISHES)
def test_a_wish_is_granted_at_the_next_node_wherever_it_arrives(tmp_path, kind, concept, after):
    components, run = steered_run(tmp_path, kind, concept, after)
    wish, unit, state = told(components, run), components.runs.units(run.id)[0], resumable_state(components, run)
    assert wish.taken is not None
    assert unit.status == "finished"
    (event,) = events(components, run.id, "steered")
    assert event == {
        "wish": kind, "concept": wish.concept, "by": wish.by, "step": wish.step, "attempt": wish.attempt,
        "node": wish.node, "outcome": wish.outcome,
    }  # fmt: skip
    if kind == "pin":
        assert state["pinned"] == ["class b"]
        assert "class b" in {concept for concept, _ in state["board"]}
    if kind == "ban":
        assert state["banned"] == ["class a"]
        assert "class a" not in {concept for concept, _ in state["board"]} | {unit.label, unit.second_label}
        assert unit.label != "class a"
        assert state["best"][0] == unit.label
    if kind == "try":
        typed = [step for step in components.runs.steps(run.id, 0) if step.origin == "typed"]
        assert [(step.concept, step.model, step.outcome) for step in typed] == [("red foxes", None, "scored")]
        assert typed[0].step - wish.step in {0, 1}
    if kind == "again":
        gone = [step for step in components.runs.steps(run.id, 0) if step.outcome == "withdrawn"]
        in_hand = after not in {"init", "update", "finished"}
        assert len(gone) == in_hand
        assert wish.outcome.startswith(REFUSED) == (after in {"init", "update"})
        if in_hand:
            place = (gone[0].step, gone[0].attempt + 1)
            following = next(s for s in components.runs.steps(run.id, 0) if (s.step, s.attempt) == place)
            assert following.temperature > gone[0].temperature


@pytest.mark.parametrize(
    ("banned", "proposed"), [("potato", "potatoes"), ("bus", "buses"), ("tomatoes", "tomato")]
)
def test_a_banned_concept_does_not_come_back_in_the_other_number(tmp_path, banned, proposed):
    model = ScriptedModel([proposed, "thing"])
    target = ScriptedTarget({proposed: 99.0})
    components = scripted_components(tmp_path, model, iterations=1, summary=False, images=1, target=target)
    run = start(components, LAYER, ["0"])
    submit(tmp_path, run.id, 0, "ban", banned)
    work(components, run)
    refused = [
        (step.concept, step.outcome) for step in components.runs.steps(run.id, 0) if step.outcome == "duplicate"
    ]
    assert refused == [(proposed, "duplicate")]
    assert components.runs.units(run.id)[0].label != proposed


@pytest.mark.parametrize("after", ["score", "critique"])
def test_a_node_that_is_added_loses_no_concept_that_was_measured(tmp_path, monkeypatch, after):
    runs_of_node = []

    def critique(state, deps):
        runs_of_node.append(state["step"])
        return {"outcome": state["outcome"]}

    row = loop.Node("critique", "score", "criticising", "criticising {}", "updating the board")
    added = {**loop.NODES, "critique": row, "update": replace(loop.NODES["update"], after="critique")}
    monkeypatch.setattr(loop, "NODES", added)
    monkeypatch.setattr(nodes, "critique", critique, raising=False)
    components, run = steered_run(tmp_path, "try", "red fox", after, iterations=3, summary=False)
    steps = [step for step in components.runs.steps(run.id, 0) if step.step]
    assert [(step.step, step.outcome) for step in steps] == [(1, "scored"), (2, "scored"), (3, "scored")]
    assert steps[2].concept == "red fox"
    assert runs_of_node == [1, 2, 3]


def test_as_many_concepts_as_people_like_are_tried(tmp_path):
    components = components_for(tmp_path, iterations=1, retries=0, summary=False)
    run = start(components, LAYER, ["0"])
    wanted = [f"thing number {number}" for number in range(30)]
    for concept in wanted:
        submit(tmp_path, run.id, 0, "try", concept)
    assert work(components, run).status == "finished"
    assert [step.concept for step in components.runs.steps(run.id, 0) if step.origin == "typed"] == wanted


def test_without_wishes_a_search_is_what_it_was_and_one_that_was_steered_differs(tmp_path):
    plain = components_for(tmp_path / "plain")
    run = work(plain, start(plain, LAYER, ["0"]))
    steered_components, other = steered_run(tmp_path / "steered", "try", "red fox", "update")
    assert entries(plain, run)[:5] == entries(steered_components, other)[:5]
    assert "red fox" in set(entries(steered_components, other)) - set(entries(plain, run))


@pytest.mark.parametrize(("kind", "concept"), [("ban", "class a"), ("try", "red fox"), ("again", "")])
def test_a_finished_unit_is_taken_up_for_what_is_asked_of_it_and_gets_a_new_label(tmp_path, kind, concept):
    components = components_for(tmp_path, target=ScriptedTarget(SCORES | {"red fox": 99.0}))
    run = work(components, start(components, LAYER, ["0-1"]))
    before, other = outcome(components, run.id)
    submit(tmp_path, run.id, 0, kind, concept)
    again = components_for(tmp_path, target=components.target)
    assert work(again, run).status == "finished"
    units, steps = outcome(again, run.id)
    assert units[1] == before[1]
    assert [step for step in steps if step[0] == 1] == [step for step in other if step[0] == 1]
    added = [step for step in steps if step not in other]
    assert len(added) == (kind != "ban")
    if kind != "again":
        assert units[0][2] == {"ban": units[0][2], "try": "red fox"}[kind] != before[0][2]
    assert work(components_for(tmp_path), run).finished == again.runs.run(run.id).finished


def test_wishes_of_a_unit_that_has_not_begun_or_has_failed_wait_for_it(tmp_path):
    components = components_for(tmp_path)
    run = start(components, LAYER, ["0-1"])
    components.runs.update_unit(run.id, 1, status="failed")
    for unit in (0, 1):
        submit(tmp_path, run.id, unit, "ban", "class a")
        submit(tmp_path, run.id, unit, "try", "red fox")
    work(components, run)
    assert "class a" not in entries(components, run)
    assert entries(components, run)[4:5] == ["red fox"]
    assert [wish.taken for wish in commands(components.runs, run.id, 1)] == [None, None]


def test_a_concept_that_cannot_be_imaged_is_recorded_and_the_model_is_asked_in_its_place(tmp_path):
    generator = ScriptedGenerator(unknown=frozenset({"democracy"}))
    components, run = steered_run(tmp_path, "try", "democracy", "update", generator=generator)
    place = told(components, run).step
    found = [(step.outcome, step.origin) for step in components.runs.steps(run.id, 0) if step.step == place]
    assert found == [("not_drawable", "typed"), ("scored", "proposed")]


def test_a_restart_keeps_bans_and_begins_without_pins(tmp_path):
    classes = ("ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen", "ibis", "jay", "kite", "lark")
    components = components_for(tmp_path, restarts=1, iterations=1, classes=classes)
    run = start(components, LAYER, ["0"])
    submit(tmp_path, run.id, 0, "ban", "bee")
    seen = []

    def watch(progress):
        if (progress.node, progress.step) == ("update", 2):
            seen.append(entries(components, run)[0])
            submit(tmp_path, run.id, 0, "pin", seen[0])

    work(components, run, watch)
    assert "bee" not in entries(components, run)
    assert [wish.applied for wish in commands(components.runs, run.id, 0)] == [True, True]
    assert entries(components, run, "kind").count("initial") == 8
    assert resumable_state(components, run)["pinned"] == []
    assert resumable_state(components, run)["banned"] == ["bee"]


def test_a_revisit_gives_no_unit_a_concept_that_was_banned_for_it(tmp_path):
    components = components_for(tmp_path, target=ScriptedTarget({"class a": 9.0, "class c": 8.0}))
    run = start(components, LAYER, ["0-1"])
    submit(tmp_path, run.id, 1, "ban", "class a")
    run = work(components, run)
    revisit(components.deps(LAYER), [run])
    assert [unit.label for unit in components.runs.units(run.id)] == ["class a", "class c"]
    assert components.runs.units(run.id)[1].second_label != "class a"


def killed(store, kind, concept, after, place, call):
    """Work on a steered run in a process that dies where a wish is taken."""

    def dies(owner, name, before):
        real, calls = getattr(owner, name), []

        def dying(*args, **kwargs):
            calls.append(args)
            if before and len(calls) == call:
                os.kill(os.getpid(), signal.SIGKILL)
            result = real(*args, **kwargs)
            if not before and len(calls) == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(owner, name, dying)

    owners = {
        "apply_pending": "line_neurons.graphs.runs.unit_runner",
        "apply_commands": steered,
        "mark_applied": steered,
    }
    if place == "checkpoint, before the rows are committed":
        compiled = type(build())
        real = compiled.update_state

        def dying(*args, **kwargs):
            real(*args, **kwargs)
            os.kill(os.getpid(), signal.SIGKILL)

        compiled.update_state = dying
    else:
        name, _, when = place.partition(", ")
        owner = owners[name]
        if isinstance(owner, str):
            from line_neurons.graphs.runs import unit_runner as owner
        dies(owner, name, when == "before")
    steered_run(store, kind, concept, after)


PLACES = (
    "apply_pending, before",
    "apply_commands, after",
    "mark_applied, before",
    "mark_applied, after",
    "checkpoint, before the rows are committed",
    "apply_pending, after",
)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What a run that is steered after its node ``propose`` finds, by what is asked of it."""
    return cache(
        lambda kind, concept: outcome(
            *_named(steered_run(tmp_path_factory.mktemp("whole"), kind, concept, "propose"))
        )
    )


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("kind", "concept"), [("ban", "class a"), ("unban", "class a"), ("again", "")])
def test_a_wish_is_taken_exactly_once_wherever_the_process_is_killed(tmp_path, undisturbed, kind, concept, place):
    whole = undisturbed(kind, concept)
    store = tmp_path / "killed"
    process = multiprocessing.get_context("fork").Process(
        target=killed, args=(store, kind, concept, "propose", place, 1 + (kind == "unban"))
    )
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    components = components_for(store)
    run = components.runs.runs()[0]
    assert work(components, run).status == "finished"
    assert outcome(components, run.id) == whole
    assert told(components, run).taken is not None
    sent = [wish.id for wish in commands(components.runs, run.id, 0)]
    assert len(events(components, run.id, "steered")) == len(sent)
    assert [row[0] for row in resumable_state(components, run)["wishes"]] == sent


def _named(pair):
    components, run = pair
    return components, run.id


@pytest.mark.parametrize("after", ["propose", "update", "finished"])
@pytest.mark.parametrize(
    ("kind", "concept"), [("ban", "class a"), ("unban", "class a"), ("again", ""), ("try", "red fox")]
)
def test_a_unit_that_begins_again_grants_its_wishes_where_it_granted_them_before(tmp_path, kind, concept, after):
    components, run = steered_run(tmp_path, kind, concept, after)
    before, place = outcome(components, run.id), astuple(replace(told(components, run), taken=None))
    with open_checkpoints(tmp_path) as saver:
        restart_unit(build(saver), components.runs, run, 0)
    components.runs.update_unit(run.id, 0, status="interrupted")
    components.runs.update_run(run.id, status="interrupted", finished=None)
    work(components_for(tmp_path), run)
    assert outcome(components, run.id) == before
    assert astuple(replace(told(components, run), taken=None)) == place


def done_again(components, run):
    """The unit's steps, and those after it began again with what was asked of it."""
    before = [replace(step, created=0, seconds=None) for step in components.runs.steps(run.id, 0)]
    with open_checkpoints(components.store) as saver:
        restart_unit(build(saver), components.runs, run, 0)
    components.runs.update_unit(run.id, 0, status="pending")
    assert work(components, run).status == "finished"
    return before, [replace(step, created=0, seconds=None) for step in components.runs.steps(run.id, 0)]


def test_what_was_asked_one_by_one_at_one_place_is_granted_alike_when_it_is_asked_at_once(tmp_path):
    components = components_for(tmp_path)
    run = start(components, LAYER, ["0"])
    left = [("again", ""), ("ban", "class a")]

    def watch(progress):
        # After the first was granted the search is told of at the same place, before the node's work.
        if left and progress.step == 2 and progress.node == ("synthesize" if len(left) == 2 else ""):
            submit(tmp_path, run.id, 0, *left.pop())

    work(components, run, watch)
    assert not left
    places = {(wish.step, wish.attempt, wish.node) for wish in commands(components.runs, run.id, 0)}
    assert places == {(2, 0, "activate")}
    before, after = done_again(components, run)
    (withdrawn,) = [step for step in before if step.outcome == "withdrawn"]
    assert "class a" not in dict(withdrawn.board)
    assert after == before


def test_what_was_asked_after_the_end_is_granted_after_a_restart_that_found_no_board(tmp_path):
    components, run = steered_run(
        tmp_path, "again", "", "finished", restarts=1, classes=("class a", "class b", "class c", "class d")
    )
    assert not told(components, run).outcome.startswith(REFUSED)
    before, after = done_again(components, run)
    assert after == before
    assert not told(components, run).outcome.startswith(REFUSED)


def test_a_wish_that_makes_no_sense_is_one_clear_error_and_is_not_written(tmp_path):
    components = components_for(tmp_path)
    run = work(components, start(components, LAYER, ["0"]))
    senseless = [
        ("nothing", 0, "pin", "class a", "is not a run"),
        (run.id, 7, "pin", "class a", "has no unit 7"),
        (run.id, 0, "pin", "aardvark", "was never scored"),
        (run.id, 0, "unpin", "class a", "is not pinned"),
        (run.id, 0, "try", "class a", "was scored already, at step 0"),
        (run.id, 0, "try", "a, b", "is no concept"),
        (run.id, 0, "ban", "", "is no concept"),
        (run.id, 0, "again", "fox", "takes no concept"),
        (run.id, 0, "praise", "fox", "is not a steering command"),
    ]
    for name, unit, kind, concept, said in senseless:
        with pytest.raises(UsageError, match=said) as caught:
            submit(tmp_path, name, unit, kind, concept)
        assert caught.value.remedy
    assert commands(components.runs, run.id, 0) == []
    with pytest.raises(UsageError, match="there are no runs"):
        submit(tmp_path / "elsewhere", run.id, 0, "again")
    assert not (tmp_path / "elsewhere").exists()
    submit(tmp_path, run.id, 0, "ban", "The Class A")
    for kind in ("ban", "try", "pin"):
        with pytest.raises(UsageError, match="'class a' is banned"):
            submit(tmp_path, run.id, 0, kind, "class a")


def test_a_wish_can_be_written_while_another_process_holds_the_run(tmp_path):
    components = components_for(tmp_path)
    run = start(components, LAYER, ["0"])

    asking = (
        "from pathlib import Path; from line_neurons.tools.store.steering_queue import submit; "
        f"submit(Path({str(tmp_path)!r}), "
    )
    asking += f"{run.id!r}, 0, 'try', 'red fox')"

    def in_another_process(progress):
        if progress.node == "init":
            subprocess.run([sys.executable, "-c", asking], check=True, timeout=60)

    work(components, run, in_another_process)
    assert "red fox" in entries(components, run)


def test_a_wish_that_no_version_wrote_fails_its_unit_alone_and_is_named(tmp_path):
    components = components_for(tmp_path, max_consecutive_failures=2)
    run = start(components, LAYER, ["0-1"])
    submit(tmp_path, run.id, 0, "again")
    with components.runs.atomic() as db:
        db.execute("UPDATE wishes SET kind = 'obey'")
    work(components, run)
    broken, other = components.runs.units(run.id)
    assert (broken.status, other.status) == ("failed", "finished")
    assert "a row of wishes in runs.db is damaged (id 1): kind" in broken.error


@pytest.mark.parametrize("after", NODES[1:])
def test_an_unbanned_concept_can_be_the_label_again(tmp_path, after):
    components, run = steered_run(tmp_path, "unban", "class a", after, top=4, random=0)
    unbanned, state = told(components, run), resumable_state(components, run)
    assert unbanned.state == "applied"
    assert (state["banned"], banned(components.runs, run.id)) == ([], {})
    assert "class a" not in entries(components, run)
    submit(tmp_path, run.id, 0, "try", "class a")
    work(components, run)
    assert components.runs.units(run.id)[0].label == "class a"


def test_a_scored_concept_that_is_unbanned_at_the_end_is_the_label_without_a_step(tmp_path):
    components, run = steered_run(tmp_path, "ban", "class a", "finished")
    before = entries(components, run)
    assert components.runs.units(run.id)[0].label != "class a"
    submit(tmp_path, run.id, 0, "unban", "The Class A")
    work(components, run)
    assert told(components, run).outcome == "no longer banned; back on the board"
    assert components.runs.units(run.id)[0].label == "class a"
    assert entries(components, run) == before
    with pytest.raises(UsageError, match="'class a' is not banned"):
        submit(tmp_path, run.id, 0, "unban", "class a")


def test_a_withdrawn_wish_is_never_taken_and_the_search_is_what_it_was_without_it(tmp_path):
    plain = components_for(tmp_path / "plain")
    plain_run = work(plain, start(plain, LAYER, ["0"]))
    components = components_for(tmp_path / "withdrawn")
    run = start(components, LAYER, ["0"])
    submit(components.store, run.id, 0, "ban", "class a")
    submit(components.store, run.id, 0, "again")
    for wish in commands(components.runs, run.id, 0):
        withdraw_from(components.store, run.id, 0, wish.id)
    assert units_with_pending(components.runs, run.id) == set()
    work(components, run)
    assert outcome(components, run.id) == outcome(plain, plain_run.id)
    assert {wish.state for wish in commands(components.runs, run.id, 0)} == {"withdrawn"}
    assert all(wish.outcome.startswith("withdrawn by ") for wish in commands(components.runs, run.id, 0))
    before, after = done_again(components, run)
    assert after == before
    reschedule(components.runs, run.id, 0, commands(components.runs, run.id, 0))
    assert len(commands(components.runs, run.id, 0)) == 2


def test_only_a_waiting_wish_can_be_withdrawn(tmp_path):
    components, run = steered_run(tmp_path, "ban", "class a", "update")
    ban = told(components, run)
    with pytest.raises(UsageError, match=f"'ban class a' was applied at step {ban.step} already") as caught:
        withdraw_from(tmp_path, run.id, 0, ban.id)
    assert caught.value.remedy == "--unban undoes a ban"
    with pytest.raises(UsageError, match="has no steering command 99"):
        withdraw_from(tmp_path, run.id, 0, 99)
    assert told(components, run) == ban


@pytest.mark.parametrize("place", ["_due", "apply_commands"])
@pytest.mark.parametrize("left", [0, 1])
def test_a_wish_that_is_withdrawn_while_the_graph_stops_for_it_is_not_taken(tmp_path, monkeypatch, place, left):
    components = components_for(tmp_path)
    run = start(components, LAYER, ["0"])
    real, done = getattr(steered, place), []

    def racing(*args):
        found = real(*args)
        if place == "_due" and not done:
            found = []
        if not done:
            done.append(withdraw_from(tmp_path, run.id, 0, commands(components.runs, run.id, 0)[0].id))
            return real(*args) if place == "_due" else found
        return found

    def watch(progress):
        if (progress.node, progress.step) == ("propose", 2) and not commands(components.runs, run.id, 0):
            submit(tmp_path, run.id, 0, "again")
            for _ in range(left):
                submit(tmp_path, run.id, 0, "try", "red fox")
            monkeypatch.setattr(steered, place, racing)

    assert work(components, run, watch).status == "finished"
    assert [wish.state for wish in commands(components.runs, run.id, 0)] == ["withdrawn", "applied"][: 1 + left]
    assert "withdrawn" not in entries(components, run, "outcome")
    assert ("red fox" in entries(components, run)) == bool(left)
    assert len(events(components, run.id, "steered")) == left


def test_a_wish_that_a_checkpoint_has_counts_whatever_was_withdrawn_after_a_kill(tmp_path):
    process = multiprocessing.get_context("fork").Process(
        target=killed, args=(tmp_path, "ban", "class a", "propose", PLACES[4], 1)
    )
    process.start()
    process.join(60)
    components = components_for(tmp_path)
    run = components.runs.runs()[0]
    withdraw_from(tmp_path, run.id, 0, told(components, run).id)
    work(components, run)
    assert told(components, run).state == "applied"
    assert "class a" not in dict(resumable_state(components, run)["board"])
    assert components.runs.units(run.id)[0].label != "class a"


def test_a_concept_that_begins_like_a_refusal_is_withdrawn_and_no_refusal(tmp_path):
    model = ScriptedModel(lambda prompt, seed, temperature: f"refused letter {seed}")
    components = scripted_components(tmp_path, model, iterations=2, images=1)
    run = start(components, LAYER, ["0"])

    def watch(progress):
        if (progress.node, progress.step) == ("propose", 1) and not commands(components.runs, run.id, 0):
            submit(tmp_path, run.id, 0, "again")

    work(components, run, watch)
    assert told(components, run).state == "applied"
