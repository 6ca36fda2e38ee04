"""Restarts stay away from the images that earlier searches found, whatever the words."""

import numpy as np
import pytest

from line_neurons.agent.ports import LayerInfo
from line_neurons.agent.settings import revised
from line_neurons.graphs.loop.found_images import found_images
from line_neurons.graphs.loop.initial_board import candidates
from line_neurons.graphs.loop.reconstruct import recorded_prompt
from line_neurons.graphs.runs.lifecycle import start, work
from support.fakes import LAYER, ScriptedModel, ScriptedTarget, said_by, scripted_components

KINDS = 12
BIRDS, FOXES = 0, 1
CLASSES = [f"class {letter}" for letter in "abcdefghijkl"]
OF_KIND = {"owl": BIRDS, "eagle": BIRDS, "barn owl": BIRDS, "fox": FOXES, "owl fox": FOXES}
SCORES = {"owl": 9.0, "eagle": 8.0, "barn owl": 8.5, "fox": 7.0, "owl fox": 7.5, "noise": 0.6}


class KindTarget(ScriptedTarget):
    """Unit 0 is the score of a concept; every other unit stands for a kind of images."""

    def layers(self):
        return [LayerInfo(LAYER, "Linear", (1 + KINDS,), 1 + KINDS)]

    def activate(self, images, layers, progress=None):
        rows = np.zeros((len(images), 1 + KINDS), np.float32)
        for row, image in zip(rows, images, strict=True):
            concept = said_by(image)[0]
            row[0] = self.scores.get(concept, 0.5 - CLASSES.index(concept) / 1000 if concept in CLASSES else 0.1)
            kind = OF_KIND.get(concept, CLASSES.index(concept) if concept in CLASSES else KINDS - 1)
            row[1 + kind] = 1
        return dict.fromkeys(layers, rows)


def searched(store, script, **options):
    components = scripted_components(
        store, ScriptedModel(script), target=KindTarget(SCORES), classes=CLASSES, summary=False, restarts=1,
        top=2, random=0, **options,
    )  # fmt: skip
    run = work(components, start(components, LAYER, ["0"]))
    return components, run, components.runs.steps(run.id, 0)


def second_search(steps):
    begin = next(step.step for step in steps if step.kind == "initial" and step.step > 0)
    return [step for step in steps if step.step >= begin]


def test_a_restart_ends_with_the_best_other_concept_that_the_first_search_scored(tmp_path):
    components, run, steps = searched(tmp_path, ["owl", "fox", "one", "two"], iterations=2)
    board = second_search(steps)[-1].board
    assert board[0] == ("fox", 7.0)
    assert components.runs.units(run.id)[0].label == "owl"


def test_what_excites_the_unit_by_the_same_images_stays_off_the_board_and_the_model_is_told_why(tmp_path):
    components, run, steps = searched(tmp_path, ["owl", "one", "eagle", "fox"], iterations=2)
    kept_off = next(step for step in steps if step.concept == "eagle")
    assert (kept_off.outcome, kept_off.score, kept_off.detail["found"]) == ("scored", 8.0, "owl")
    assert "eagle" not in dict(kept_off.board)
    said = '"eagle" excites the unit by the same images as "owl".'
    asked = [prompt.messages[-1].content for prompt, _, _ in components.language_model.asked]
    assert [said in text for text in asked] == [False, False, False, True]
    assert second_search(steps)[-1].board[0] == ("fox", 7.0)
    last = recorded_prompt(components.runs, run.id, 0, steps[-1].step)
    assert last.matches and said in last.prompt.messages[-1].content


def test_a_word_in_common_does_not_keep_other_images_away(tmp_path):
    _, _, steps = searched(tmp_path, ["owl", "one", "owl fox", "two"], iterations=2)
    assert second_search(steps)[-1].board[0] == ("owl fox", 7.5)


def test_control_classes_of_found_images_are_not_generated_again(tmp_path):
    _, _, steps = searched(tmp_path, ["owl", "one", "two", "three"], iterations=2)
    initial = [step.concept for step in second_search(steps) if step.kind == "initial"]
    # The first class has the images of birds.
    assert "class a" not in initial


@pytest.mark.parametrize("control", ["bank", "none"])
def test_without_a_control_set_concepts_of_the_earlier_searches_are_compared(tmp_path, control):
    options = {"control": control}
    if control == "none":
        (tmp_path / "words.txt").write_text("\n".join(CLASSES))
        options |= {"init": "vocabulary", "vocabulary": tmp_path / "words.txt"}
    _, _, steps = searched(tmp_path, ["owl", "fox", "barn owl", "two"], iterations=2, **options)
    assert second_search(steps)[-1].board[0] == ("fox", 7.0)


def test_a_run_of_before_restarts_by_words(tmp_path):
    _, run, _ = searched(tmp_path, ["owl", "one", "two", "three"], iterations=2)
    recorded = {name: value for name, value in run.settings.items() if name != "restart_by"}
    assert revised(recorded, {}).restart_by == "words"
    assert revised(run.settings, {}).restart_by == "images"
    assert revised(recorded | {"restarts": 0}, {}).restart_by == "images"


def test_a_banned_concept_does_not_come_back_with_a_restart(tmp_path):
    components, run, _ = searched(tmp_path, ["owl", "fox", "one", "two"], iterations=2)
    deps = components.deps(LAYER, ())
    state = {"run": run.id, "unit": 0, "found": ["owl"]}
    found = found_images(deps, state, 3)
    strongest = [candidate.concept for candidate in candidates(deps, 0, 1, [], ["owl"], found)[0]]
    assert strongest[0] == "fox"
    assert "fox" not in [one.concept for one in candidates(deps, 0, 1, ["fox"], ["owl"], found)[0]]
