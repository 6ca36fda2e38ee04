import pytest

from line_neurons.graphs.runs.lifecycle import start
from line_neurons.graphs.runs.results import search_result
from line_neurons.tools.store.records import Step
from support.fakes import LAYER, ScriptedModel, scripted_components


@pytest.fixture
def result(tmp_path):
    """The result of a unit whose history is written down as (step, kind, concept, score)."""
    words = tmp_path / "words.txt"
    words.write_text("gravel\nsand\nteapot\n")
    components = scripted_components(
        tmp_path, ScriptedModel([]), init="vocabulary", vocabulary=words, control="none"
    )
    run = start(components, LAYER, ["1"])

    def of(*history):
        for attempt, (step, kind, concept, score) in enumerate(history):
            outcome = "stalled" if score is None else "scored"
            origin = {"initial": "predefined", "iteration": "proposed"}.get(kind, kind)
            images = (f"{concept} 1", f"{concept} 2")
            components.runs.put_step(
                Step(run.id, 1, step, attempt, kind, outcome, concept, score, origin=origin, images=images)
            )
        return search_result(components.deps(LAYER, run.vocabulary), run, components.runs.units(run.id)[0])

    return of


def test_the_label_is_the_highest_score_with_its_images_and_the_second_shares_no_word_with_it(result):
    assert result(
        (0, "initial", "gravel", 2.0),
        (0, "initial", "sand", 1.0),
        (1, "iteration", "red fox", 7.0),
        (2, "iteration", "foxes", 6.0),
        (3, "iteration", "barn owl", 5.0),
        (4, "summary", "animal", 3.0),
    ) == {
        "label": "red fox",
        "score": 7.0,
        "origin": "proposed",
        "label_step": 1,
        "images": ("red fox 1", "red fox 2"),
        "initial_label": "gravel",
        "initial_score": 2.0,
        "second_label": "barn owl",
        "second_score": 5.0,
        "steps": 4,
        "search_label": "red fox",
        "search_score": 7.0,
        "found_by": None,
        "found_in": None,
        "discovered": True,
        "auc": None,
        "auc_low": None,
        "auc_high": None,
        "density": None,
        "mad": None,
        "status": "finished",
        "note": "repeated images: 2 different images of 5",
    }


def test_of_equal_scores_the_earlier_counts_and_the_label_is_marked(result):
    found = result(
        (0, "initial", "gravel", 2.0),
        (0, "initial", "sand", 2.0),
        (1, "iteration", "ant", 1.0),
    )
    assert (found["label"], found["initial_label"], found["second_label"]) == ("gravel", "gravel", "sand")
    assert "tied: another concept scores exactly as high" in found["note"]


def test_a_unit_may_have_no_second_concept(result):
    found = result((0, "initial", "red fox", 2.0), (1, "iteration", "fox cub", 1.0))
    assert (found["second_label"], found["second_score"]) == (None, None)


def test_after_restarts_the_initial_label_is_that_of_the_first_board_and_all_steps_count(result):
    found = result(
        (0, "initial", "gravel", 2.0),
        (1, "iteration", "ant", 1.0),
        (2, "summary", "insect", 1.5),
        (3, "initial", "pebble", 9.0),
        (4, "iteration", None, None),
        (5, "summary", "mineral", 3.0),
    )
    assert (found["label"], found["label_step"], found["origin"]) == ("pebble", 3, "predefined")
    assert (found["initial_label"], found["initial_score"], found["steps"]) == ("gravel", 2.0, 4)
    assert found["discovered"] is False


def test_a_word_of_the_vocabulary_is_not_discovered_though_the_model_brought_it_up(result):
    found = result((0, "initial", "gravel", 2.0), (1, "iteration", "teapots", 3.0))
    assert (found["label"], found["discovered"]) == ("teapots", False)


def test_what_a_revisit_wrote_does_not_count(result):
    found = result((0, "initial", "gravel", 2.0), (1, "iteration", "ant", 1.0), (2, "revisit", "red fox", 9.0))
    assert (found["label"], found["second_label"], found["steps"]) == ("gravel", "ant", 1)
