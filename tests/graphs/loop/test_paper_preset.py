"""A search as the paper has it: what is forbidden, what the summary sees, what a repeated concept does."""

import pytest

from line_neurons.agent.presets import PAPER
from line_neurons.agent.settings import revised
from line_neurons.graphs.loop.graph import build
from line_neurons.graphs.loop.reconstruct import recorded_prompt, state_after
from line_neurons.graphs.runs.environment import ENVIRONMENT_EVENT
from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.tools.store.checkpoints import open_checkpoints
from support.fakes import LAYER, ScriptedGenerator, ScriptedModel, ScriptedTarget, events, scripted_components
from support.full_checkpoints import all_checkpoints_kept, state_once_ended

CLASSES = ("ant", "bee", "cat", "dog", "elk")
PROPOSED = ["fox", "democracy", "gnu", "hen", "gnu", "ibis"]
SCORES = {
    "ant": 5.0, "bee": 4.0, "cat": 3.0, "dog": 2.0, "elk": 1.0, "fox": 6.0, "gnu": [9.0, 2.5], "hen": 4.5,
    "ibis": 1.5,
}  # fmt: skip


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    method = {
        name: PAPER[name] for name in ("forbidden", "duplicates", "hints", "retry_temperature_step", "retries")
    }
    model = ScriptedModel(PROPOSED)
    components = scripted_components(
        tmp_path_factory.mktemp("store"), model, target=ScriptedTarget(SCORES), classes=CLASSES, top=3, random=2,
        generator=ScriptedGenerator(unknown=frozenset({"democracy"})), iterations=4, **method,
    )  # fmt: skip
    with all_checkpoints_kept():
        run = work(components, start(components, LAYER, ["0"]))
    return components, run, [prompt.messages[-1].content for prompt, _, _ in model.asked]


def forbidden(question):
    return next(line for line in question.splitlines() if line.startswith("Forbidden: ")).split(": ")[1]


def test_what_the_model_proposed_before_is_forbidden_on_the_board_or_off_it_and_no_class_of_the_first_board(
    searched,
):
    _, _, questions = searched
    assert [forbidden(question) for question in questions[:-1]] == [
        "none", "fox", "fox, democracy", "fox, democracy, gnu", "fox, democracy, gnu, hen"
    ]  # fmt: skip


def test_the_summary_sees_three_concepts_and_nothing_is_forbidden_to_it(searched):
    _, _, questions = searched
    assert questions[-1].splitlines() == ["Scoreboard:", "6 fox", "4.5 hen", "4 bee", "Name a new concept."]


def test_a_repeated_concept_is_scored_again_and_its_new_score_overwrites_the_old_one(searched):
    components, run, _ = searched
    steps = [step for step in components.runs.steps(run.id, 0) if step.step and step.score is not None]
    assert [(step.concept, step.score) for step in steps][-3:] == [("hen", 4.5), ("gnu", 2.5), ("ibis", 1.5)]
    before, after = steps[-3].board, steps[-2].board
    assert dict(before)["gnu"] == 9.0
    # The new score is below the lowest of the board, so that one is drawn to leave; it may be the concept itself.
    assert dict(after)["gnu"] == 2.5
    assert len(after) == len(before) - (steps[-2].removed is not None)


def test_the_label_is_the_best_of_the_scores_that_stand(searched):
    components, run, _ = searched
    unit = components.runs.units(run.id)[0]
    assert (unit.label, unit.score, unit.label_step) == ("fox", 6.0, 1)


def test_every_question_and_state_can_be_rebuilt_from_the_history(searched):
    components, run, questions = searched
    history = components.runs.steps(run.id, 0)
    asked = [
        recorded_prompt(components.store, run.id, 0, step.step, step.attempt) for step in history if step.prompt
    ]
    assert [one.matches for one in asked] == [True] * len(questions)
    with open_checkpoints(components.store) as saver:
        graph = build(saver)
        for step in range(5):
            recorded = state_once_ended(graph, run, 0, step)
            rebuilt = state_after(revised(run.settings, {}), history, [], step)
            assert rebuilt.get("proposed", []) == recorded.get("proposed", [])
            assert (rebuilt["best"], rebuilt["board"]) == (recorded["best"], recorded["board"])


def test_a_run_of_the_paper_records_the_instructions_that_it_asked_with(searched):
    components, run, _ = searched
    (kept,) = events(components, run.id, ENVIRONMENT_EVENT)
    said = kept["prompts"]["iteration"]["messages"][0][1]
    assert "on the scoreboard or forbidden" not in said
    assert "Never answer with a forbidden concept." in said
