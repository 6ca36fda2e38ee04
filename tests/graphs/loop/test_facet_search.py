"""A further search for a facet keeps to the images of that facet, begins with its best concept and is recorded."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from line_neurons.graphs.loop.reconstruct import recorded_prompt, state_before
from line_neurons.graphs.runs.facets.run_facets import find_facets
from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.tools.facets.control_vectors import ControlVectors
from line_neurons.tools.store.results.facets import facets_of
from line_neurons.tools.store.steering_queue import commands, submit_all
from support.fakes import LAYER, ScriptedModel, scripted_components
from support.two_kinds import CLASSES, FOXES, OF_KIND, TwoKinds


@pytest.fixture(autouse=True)
def _limit(monkeypatch):
    # One image a class: no probe can be made, so the limit is set by hand.
    monkeypatch.setattr(ControlVectors, "single_class_limit", 0.5)


def searched(store, script, units=("0",), **options):
    components = scripted_components(
        store, ScriptedModel(script), target=TwoKinds(), classes=CLASSES, summary=False, top=2,
        **{"iterations": 2, "facets": 1, "random": 0, **options},
    )  # fmt: skip
    return components, work(components, start(components, LAYER, list(units)))


def second_search(components, run, unit=0):
    steps = components.runs.steps(run.id, unit)
    begin = next((step.step for step in steps if step.kind == "initial" and step.step > 0), len(steps))
    return [step for step in steps if step.step >= begin]


def test_a_search_for_a_facet_begins_with_its_best_concept_and_its_strongest_classes(tmp_path):
    components, run = searched(tmp_path, ["owl", "fox", "vixen", "one"])
    initial = [step for step in second_search(components, run) if step.kind == "initial"]
    assert [step.concept for step in initial] == ["fox", "class m"]
    assert initial[0].detail["facet"][0] == "class m"
    assert components.runs.units(run.id)[0].label == "owl"
    (found,) = facets_of(components.runs, run.id).values()
    assert [(facet.label, facet.score, facet.step) for facet in found.facets] == [("owl", 9, 1), ("vixen", 7.5, 4)]


def test_what_has_the_images_of_another_facet_stays_off_the_board_and_the_model_is_told_why(tmp_path):
    components, run = searched(tmp_path, ["owl", "fox", "eagle", "vixen"])
    steps = second_search(components, run)
    kept_off = next(step for step in steps if step.concept == "eagle")
    assert (kept_off.outcome, kept_off.score, kept_off.detail["found"]) == ("scored", 8.0, "owl")
    assert "eagle" not in dict(steps[-1].board)
    said = '"eagle" excites the unit by the same images as "owl".'
    asked = [prompt.messages[-1].content for prompt, _, _ in components.language_model.asked]
    assert [said in text for text in asked] == [False, False, False, True]


def test_every_prompt_and_the_state_follow_from_the_history(tmp_path):
    components, run = searched(tmp_path, ["owl", "fox", "eagle", "vixen"])
    steps = second_search(components, run)
    for step in steps:
        if step.kind == "iteration":
            assert recorded_prompt(components.runs, run.id, 0, step.step).matches
    history = components.runs.steps(run.id, 0)
    state = state_before(components.settings, history, [], (steps[-1].step, 0, 0))
    assert (state["restart"], state["found"], state["searched"]) == (1, ["owl"], ["class m"])
    assert state["facet"] == list(steps[0].detail["facet"])


def test_a_unit_with_one_facet_is_searched_once(tmp_path):
    components, run = searched(tmp_path, ["owl", "fox"], units=("1",))
    assert second_search(components, run, 1) == []
    assert components.runs.units(run.id)[0].status == "finished"


def test_a_finished_unit_is_searched_for_a_facet_on_request(tmp_path):
    components, run = searched(tmp_path, ["owl", "one", "vixen", "two"], facets=0)
    assert second_search(components, run) == []
    submit_all(components.runs, run, 0, [("facet", "class n")])
    work(components, run)
    steps = second_search(components, run)
    assert steps[0].detail["facet"][0] == "class m" and steps[-1].board[0] == ("vixen", 7.5)
    assert [command.outcome for command in commands(components.runs, run.id, 0)] == [
        "a search for this facet follows"
    ]
    for step in steps:
        if step.kind == "iteration":
            assert recorded_prompt(components.runs, run.id, 0, step.step).matches
    submit_all(components.runs, run, 0, [("facet", "no source")])
    work(components, run)
    assert second_search(components, run) == steps
    assert components.runs.units(run.id)[0].status == "finished"


def test_without_a_control_set_the_sources_are_what_the_unit_was_scored_on(tmp_path):
    (tmp_path / "words.txt").write_text("\n".join(CLASSES))
    options = {"control": "none", "init": "vocabulary", "vocabulary": tmp_path / "words.txt", "random": 24}
    components, run = searched(tmp_path, ["owl", "fox", "vixen", "one"], **options)
    steps = second_search(components, run)
    assert steps[0].concept == "fox" and steps[-1].board[0] == ("vixen", 7.5)


@given(st.lists(st.sampled_from([*OF_KIND, *CLASSES]), min_size=8, max_size=8, unique=True))
@settings(max_examples=15)
def test_the_label_of_a_searched_facet_scores_as_high_as_the_best_concept_of_its_facet(tmp_path_factory, script):
    components, run = searched(tmp_path_factory.mktemp("law"), script)
    (found,) = find_facets(components.deps(LAYER, ()), run, components.runs.units(run.id))
    for facet in found.facets[1:]:
        group = facet.sources[0] >= "class m"
        scored = [
            step.score
            for step in components.runs.steps(run.id, 0)
            if step.concept in OF_KIND and (OF_KIND[step.concept][0] == FOXES) == group
        ]
        assert facet.label is not None and facet.score >= max(scored, default=0)
