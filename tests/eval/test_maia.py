"""MAIA's evaluation with scripted parts: what is asked, generated, measured and written."""

import json

import pytest

from line_neurons.agent.errors import BackendError
from line_neurons.eval.cosy.runner import EvaluatedLayer
from line_neurons.eval.labels.labels import Label, Labels
from line_neurons.eval.maia import check_images, evaluate_prompts, prompts_report, write_results
from line_neurons.eval.reports.table import as_markdown
from support.fakes import LAYER, ScriptedGenerator, ScriptedModel, ScriptedTarget, scripted_components

LABELS = Labels(
    "maia",
    "scripted:model",
    LAYER,
    (Label(1, "dogs"), Label(2, "cars")),
    "r",
    further=(Label(1, "grass", facet=1),),
)


def answer(prompt, seed, temperature):
    said = prompt.messages[-1].content
    return "park, park, sofa" if "should respond to most" in said else "sky, stone, unknown"


def evaluated(folder, script=answer, unknown=frozenset({"unknown"})):
    components = scripted_components(
        folder, ScriptedModel(script), generator=ScriptedGenerator(unknown),
        target=ScriptedTarget({"park": 5.0, "sofa": 7.0, "sky": 1.0, "stone": 2.0}),
    )  # fmt: skip
    return EvaluatedLayer(components, LAYER, (LABELS,))


def run(folder, **options):
    layer = evaluated(folder, **options)
    return layer, evaluate_prompts(layer, LABELS, LABELS.labels, count=3)


def test_means_are_those_of_the_images_of_the_prompts(tmp_path):
    layer, (first, second) = run(tmp_path)
    # A unit's activation is the score plus its number.
    assert (first.positive.mean, first.negative.mean) == (7.0, 2.5)
    assert (second.positive.mean, second.negative.mean) == (8.0, 3.5)
    assert first.labels == ("dogs", "grass")
    assert first.positive.prompts == ("park", "sofa")
    assert first.negative.refused == ("unknown",)
    # The prompt of the image is what the language model wrote.
    assert {request.prompt for request in layer.components.generator.drawn} == {"park", "sofa", "sky", "stone"}
    asked = [prompt for prompt, *_ in layer.components.language_model.asked]
    assert "- dogs\n- grass" in asked[0].messages[-1].content
    assert asked[0].concepts == 3


def test_the_files_are_maias(tmp_path):
    layer, found = run(tmp_path / "store")
    files = write_results(found, tmp_path / "out", layer)
    assert [str(path.relative_to(tmp_path / "out")) for path in files] == [
        f"model/{LAYER}/1/eval_results.json", f"model/{LAYER}/2/eval_results.json",
    ]  # fmt: skip
    assert json.loads(files[0].read_text()) == {
        "average_positive_score": 7.0, "average_negative_score": 2.5,
        "positive_prompts": ["park", "sofa"], "negative_prompts": ["sky", "stone"],
        "positive_scores": [6.0, 8.0], "negative_scores": [2.0, 3.0],
    }  # fmt: skip
    text = as_markdown(prompts_report(found, LABELS))
    assert "| 1 | dogs; grass | 7 | 2.5 | 4.5 | 4 | 1 |" in text


def test_a_second_evaluation_draws_and_measures_nothing(tmp_path):
    run(tmp_path)
    layer, _ = run(tmp_path)
    assert layer.components.generator.drawn == []
    assert layer.components.target.passes == 0


def test_prompts_against_a_label_do_not_use_its_words(tmp_path):
    def script(prompt, seed, temperature):
        return (
            "park"
            if "should respond to most" in prompt.messages[-1].content
            else "a big dog, Grass hill, sky, car"
        )

    _, (first, second) = run(tmp_path / "store", script=script)
    assert first.negative.prompts == ("sky", "car")
    assert second.negative.prompts == ("a big dog", "Grass hill", "sky")
    _, (only, _) = run(tmp_path / "other", script=lambda *_: "dogs, grass")
    assert only.failed == "no usable reply: its negative prompts use words of the label"


def test_replies_that_cannot_be_used_leave_the_unit_empty(tmp_path):
    layer, found = run(tmp_path / "store", script=lambda *_: "garbage")
    assert all("no usable reply" in one.failed for one in found)
    assert write_results(found, tmp_path / "out", layer) == []
    with pytest.raises(BackendError, match=r"no unit could be measured: no usable reply"):
        check_images(found)


def test_a_generator_without_any_of_the_images_is_told(tmp_path):
    every = frozenset({"park", "sofa", "sky", "stone", "unknown"})
    _, found = run(tmp_path, unknown=every)
    with pytest.raises(BackendError, match="images of none of the prompts"):
        check_images(found)
