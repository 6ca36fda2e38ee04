"""First boards from the strongest control images: captions shown, halves, marks, fall-backs, a vision model."""

import numpy as np
import pytest

from line_neurons.agent.errors import UsageError
from line_neurons.agent.ports import Control
from line_neurons.agent.settings import Settings
from line_neurons.graphs.loop.reconstruct import state_after
from line_neurons.graphs.loop.strong_images import captions_of
from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.tools.control_sets.image_captions import ImageCaptions, class_captions
from support.fakes import LAYER, ScriptedControl, ScriptedModel, ScriptedTarget, outcome, scripted_components

CLASSES = tuple(f"class {letter}" for letter in "abcdefghijkl")
SCORES = {name: 12.0 - at for at, name in enumerate(CLASSES)}


def explain(store, script, **given):
    given = {"init": "images", "iterations": 0, "summary": False, "top": 3, "random": 2, "llm": "random"} | given
    model = script if isinstance(script, ScriptedModel) else ScriptedModel(script)
    opened = scripted_components(
        store, model, target=ScriptedTarget({**SCORES, "owl": 20.0}), classes=CLASSES, **given
    )
    run = work(opened, start(opened, LAYER, ["0"]))
    return opened, run, opened.runs.steps(run.id, 0), model


def test_what_both_halves_led_to_comes_first_and_is_marked(tmp_path):
    # Strongest third: a, b, c, d; the halves are a, c and b, d.
    _, _, steps, model = explain(tmp_path, ["crow, owl", "finch, owl", "gull, finch"])
    board = [step for step in steps if step.kind == "initial"]
    assert [(step.concept, step.origin) for step in board[:3]] == [
        ("owl", "proposed"), ("finch", "proposed"), ("crow", "proposed")
    ]  # fmt: skip
    assert [step.detail["images"] for step in board[:3]] == ["both halves", "one half", "one half"]
    assert len(board) == 5
    assert all(step.origin == "predefined" for step in board[3:])
    said = [prompt.messages[-1].content for prompt, _, _ in model.asked]
    assert said[0].startswith("Exciting: class a; class c\nIndifferent: class e; class f; class g; class h\n")
    assert said[1].startswith("Exciting: class b; class d\n")
    assert said[2].startswith("Exciting: class a; class b; class c; class d\n")
    assert said[2].endswith("Name 3 concepts.")
    # Each reply is recorded once, with the first concept of it.
    assert sum(step.seed is not None for step in board) == 2


def test_the_label_may_be_what_the_images_share(tmp_path):
    opened, run, _, _ = explain(tmp_path, ["owl", "owl", "owl"])
    unit = opened.runs.units(run.id)[0]
    # The search began with it, so that it is no discovery of the search.
    assert (unit.label, unit.origin, unit.discovered) == ("owl", "proposed", False)


def test_refused_replies_are_recorded_and_the_best_classes_fill_the_board(tmp_path):
    _, _, steps, model = explain(tmp_path, lambda prompt, seed, temperature: "garbage", retries=1)
    assert [step.outcome for step in steps[:6]] == ["invalid"] * 6
    assert [step.concept for step in steps[6:9]] == ["class a", "class b", "class c"]
    assert len(model.asked) == 6


def test_an_excluded_class_is_neither_shown_nor_taken(tmp_path):
    _, _, steps, model = explain(tmp_path, lambda *asked: "class a, class b", exclude_for={0: ("class a",)})
    assert "class a" not in "".join(prompt.messages[-1].content for prompt, _, _ in model.asked)
    assert "class a" not in {step.concept for step in steps}


def test_a_resume_asks_for_the_same(tmp_path):
    script = lambda prompt, seed, temperature: f"bird {seed % 7}, bird {seed % 5}"  # noqa: E731
    whole = explain(tmp_path / "a", script, iterations=1)
    again = explain(tmp_path / "b", script, iterations=1)
    assert outcome(whole[0], whole[1].id) == outcome(again[0], again[1].id)
    assert state_after(whole[0].settings, whole[2], [], 0)["kind"] == "iteration"


def test_images_of_one_kind_are_never_of_the_other(tmp_path):
    for count in (1, 2, 3, 7, 500):
        names = tuple(f"thing {at}" for at in range(count))
        column = np.arange(count, dtype=np.float32)[:, None]
        control = Control(names, np.arange(count), column)
        opened = scripted_components(tmp_path / str(count), ScriptedModel([]), llm="random")
        deps = opened.deps(LAYER)
        deps.control = lambda control=control: control
        deps.captions = lambda rows, control=control: class_captions(control, rows)
        strong, middle = captions_of(deps, 0, lambda name: True)
        assert strong[0] == f"thing {count - 1}"
        assert not set(strong) & set(middle)
        assert len(strong) <= 20


def test_a_vision_model_captions_single_images_of_the_set():
    control, read = ScriptedControl(CLASSES), []
    chunks = control.chunks

    def counted(start=0):
        for number, chunk in enumerate(chunks(start), start):
            read.append(number)
            yield chunk

    control.chunks = counted
    captions = ImageCaptions(control, lambda image: f"{len(image)} bytes", "eye")
    assert len(set(captions.of([3, 0, 3]))) <= 2
    assert read == [*range(12), 0, 3]
    captions.of([5])
    assert read[14:] == [5]
    with pytest.raises(UsageError, match="no longer has its image number 99"):
        captions.of([99])


def test_a_captioner_is_recorded_and_needs_no_classes(tmp_path):
    model = ScriptedModel(["owl", "owl", "owl"])
    opened = scripted_components(
        tmp_path, model, target=ScriptedTarget({"owl": 9.0}), init="images", captioner="ollama:eye",
        iterations=0, summary=False, top=1, random=0, llm="random",
    )  # fmt: skip
    control = ScriptedControl(CLASSES)
    opened = opened.with_(captioner=ImageCaptions(control, lambda image: "a bird", "eye"), control_set=control)
    run = work(opened, start(opened, LAYER, ["0"]))
    assert run.fingerprints["captioner"] == "eye"
    assert "Exciting: a bird\nIndifferent: none\n" in model.asked[0][0].messages[-1].content
    assert opened.runs.units(run.id)[0].label == "owl"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"init": "images", "control": "none"}, "init images needs a control set"),
        ({"init": "images", "llm": "guided"}, "init images needs a language model, and llm is guided"),
        ({"captioner": "llava"}, "'llava' is neither captions nor ollama:NAME"),
    ],
)
def test_what_does_not_fit_is_refused(given, said):
    with pytest.raises(ValueError, match=said):
        Settings(**given)
