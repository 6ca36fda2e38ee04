"""Patience, further iterations, restarts, and the pool that first boards share."""

import pytest

from line_neurons.agent.concepts import concept_key
from line_neurons.agent.errors import UsageError
from line_neurons.agent.settings import load_settings
from line_neurons.graphs.runs.lifecycle import start, work
from support.fakes import LAYER, ScriptedModel, ScriptedTarget, scripted_components

# Nearly flat: a unit that does not vary on the control set is not searched.
FLAT = {f"class {letter}": 0.5 - rank / 1000 for rank, letter in enumerate("abcdefghijkl")}


def searched(store, script, scores=None, **options):
    components = scripted_components(
        store, ScriptedModel(script), target=ScriptedTarget(FLAT | (scores or {})), **options
    )
    run = work(components, start(components, LAYER, ["0"]))
    return components, [step for step in components.runs.steps(run.id, 0) if step.outcome == "scored"], run


def kinds(steps, initial=False):
    return [step.kind for step in steps if initial or step.kind != "initial"]


def test_without_patience_a_search_has_n_iterations_whatever_they_find(tmp_path):
    _, steps, _ = searched(tmp_path, ["one", "two", "three", "four", "five"], {"one": 9.0}, iterations=4)
    assert kinds(steps) == ["iteration"] * 4 + ["summary"]


def test_patience_ends_a_search_that_finds_nothing_better_with_its_summary(tmp_path):
    scores = {"one": 9.0} | dict.fromkeys(["two", "three", "all"], 0.1)
    _, steps, _ = searched(tmp_path, ["one", "two", "three", "all"], scores, iterations=10, patience=2)
    assert [step.concept for step in steps if step.kind != "initial"] == ["one", "two", "three", "all"]
    assert kinds(steps) == ["iteration"] * 3 + ["summary"]


def test_a_search_that_still_finds_better_goes_on_up_to_the_most_iterations(tmp_path):
    words = ["one", "two", "three", "four", "five", "six"]
    rising = {word: float(rank + 1) for rank, word in enumerate(words)}
    options = {"iterations": 2, "patience": 2, "max_iterations": 5}
    _, steps, _ = searched(tmp_path / "rising", words, rising, **options)
    assert kinds(steps) == ["iteration"] * 5 + ["summary"]
    _, steps, _ = searched(tmp_path / "flat", words, dict.fromkeys(words, 0.1), **options)
    assert kinds(steps) == ["iteration"] * 2 + ["summary"]


@pytest.mark.parametrize("given", [{"max_iterations": 20}, {"patience": 2, "max_iterations": 5}])
def test_most_iterations_that_mean_nothing_are_refused(given):
    with pytest.raises(UsageError, match="max_iterations"):
        load_settings(**given)


def test_a_restart_begins_on_a_new_board_with_nothing_tried_before(tmp_path):
    components, steps, run = searched(
        tmp_path, ["owl", "one", "two", "fox", "three", "four"], {"owl": 9.0, "fox": 5.0},
        iterations=2, restarts=1, top=2, random=2, restart_by="words",
    )  # fmt: skip
    assert kinds(steps, initial=True) == (["initial"] * 4 + ["iteration"] * 2 + ["summary"]) * 2
    assert [step.step for step in steps] == [0] * 4 + [1, 2, 3] + [4] * 4 + [5, 6, 7]
    keys = [concept_key(step.concept) for step in steps]
    assert len(set(keys)) == len(keys)
    unit = components.runs.units(run.id)[0]
    assert (unit.label, unit.second_label, unit.steps) == ("owl", "fox", 6)


def test_a_restart_tells_the_model_what_was_found_and_keeps_its_words_off_the_board(tmp_path):
    classes = [*FLAT, "snowy owl", "owl nest"]
    components, steps, _ = searched(
        tmp_path, ["barn owl", "one"], {"barn owl": 9.0}, classes=classes,
        iterations=1, summary=False, restarts=1, top=2, random=0, restart_by="words",
    )  # fmt: skip
    asked = [prompt.messages[-1].content for prompt, _, _ in components.language_model.asked]
    assert "Found before" not in asked[0]
    assert "Found before: barn owl." in asked[1]
    boards = [step.concept for step in steps if step.kind == "initial" and step.step > 0]
    assert boards
    assert not [concept for concept in boards if "owl" in concept]


def test_a_unit_without_candidates_for_another_board_is_done(tmp_path):
    components, steps, run = searched(
        tmp_path, ["one", "two"], iterations=1, summary=False, restarts=5, top=12, random=0, restart_by="words"
    )
    assert kinds(steps) == ["iteration"]
    assert components.runs.run(run.id).status == "finished"


def test_the_first_search_is_the_same_with_and_without_restarts(tmp_path):
    alone, with_restart = (
        searched(tmp_path / str(restarts), ["one", "two", "three", "four"], iterations=2, summary=False,
                 restarts=restarts, top=2, random=2)[1]
        for restarts in (0, 1)
    )  # fmt: skip
    assert [s.concept for s in alone] == [s.concept for s in with_restart][: len(alone)]


def test_units_draw_their_random_concepts_from_the_pool_of_the_run(tmp_path):
    classes = [f"kind {number}" for number in range(60)]

    def random_ones(pool):
        components = scripted_components(
            tmp_path / str(pool), ScriptedModel([]), classes=classes, iterations=0, summary=False,
            top=2, random=5, random_pool=pool,
        )  # fmt: skip
        run = work(components, start(components, LAYER, ["0-2"]))
        boards = [[step.concept for step in components.runs.steps(run.id, unit)] for unit in range(3)]
        return [set(board[2:]) for board in boards]

    shared, free = random_ones(8), random_ones(0)
    assert len(set.union(*shared)) <= 8
    assert len(set.union(*free)) > 8
    assert len({frozenset(board) for board in shared}) > 1
