"""First boards: what they are drawn from, and what of it is kept with the run."""

import numpy as np
import pytest

from line_neurons.agent.errors import UsageError
from line_neurons.eval.labels.vocabulary import vocabulary_of_run
from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.tools.control_sets.precomputed import PrecomputedControl
from support.fakes import LAYER, ScriptedGenerator, ScriptedModel, ScriptedTarget, image_of, scripted_components

WORDS = [f"word {letter}" for letter in "abcdefghijklmnop"]


def silent():
    return ScriptedModel([])


def explained(store, model, *, units=("0",), **options):
    components = scripted_components(
        store, model, **{"iterations": 0, "summary": False, "init": "vocabulary"} | options
    )
    return components, work(components, start(components, LAYER, units))


def first_board(components, run, unit=0):
    return {
        step.concept for step in components.runs.steps(run.id, unit) if step.outcome == "scored" and not step.step
    }


@pytest.fixture
def words(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("\n".join([*WORDS, "", "The Word A", "word_b, second name"]) + "\n", encoding="utf-8")
    return path


def test_a_word_list_is_drawn_from_uniformly_for_each_unit(tmp_path, words):
    components, run = explained(tmp_path / "s", silent(), units=["0-2"], vocabulary=words)
    boards = [first_board(components, run, unit) for unit in range(3)]
    assert all(len(board) == 10 and board <= set(WORDS) for board in boards)
    assert boards[0] != boards[1] != boards[2]


def test_the_words_are_kept_with_the_run_whatever_becomes_of_the_file(tmp_path, words):
    components = scripted_components(
        tmp_path / "s", silent(), iterations=0, summary=False, init="vocabulary", vocabulary=words
    )
    run = start(components, LAYER, ["0"])
    words.write_text("something else\n")
    assert components.runs.run(run.id).vocabulary == tuple(WORDS)
    assert first_board(components, work(components, run)) <= set(WORDS)


def test_without_a_control_set_there_is_a_label_but_neither_auc_nor_mad(tmp_path, words):
    components, run = explained(tmp_path / "s", silent(), vocabulary=words)
    unit = components.runs.units(run.id)[0]
    assert unit.label in WORDS
    assert (unit.auc, unit.mad, unit.discovered) == (None, None, False)
    assert components.runs.run(run.id).fingerprints["control"] == "none"


def test_imagenets_class_names_are_the_word_list_if_none_is_given(tmp_path):
    components, run = explained(tmp_path / "s", silent())
    assert {"goldfish", "violin"} <= set(components.runs.run(run.id).vocabulary)


@pytest.mark.parametrize("precomputed", [False, True])
def test_the_classes_of_a_control_set_are_kept_with_the_run_also_of_a_file_of_activations(tmp_path, precomputed):
    components = scripted_components(
        tmp_path / "s", silent(), classes=("fox", "heron"), iterations=0, summary=False
    )
    if precomputed:
        path = tmp_path / "probe.npz"
        np.savez(path, activations=np.eye(2, 3), labels=[0, 1], classes=["fox", "heron"])
        components = components.with_(control_set=PrecomputedControl(path))
    run = work(components, start(components, LAYER, ["0"]))
    assert run.status == "finished"
    assert components.runs.run(run.id).vocabulary == ("fox", "heron")
    assert vocabulary_of_run(components.runs.run(run.id), components.store).has(0, ["heron"]) == "in"
    assert vocabulary_of_run(components.runs.run(run.id), components.store).has(0, ["lion"]) == "not in"


@pytest.mark.parametrize("text", ["", "\n  \n"])
def test_a_word_list_that_names_nothing_is_refused_and_nothing_is_written(tmp_path, words, text):
    words.write_text(text)
    with pytest.raises(UsageError, match="names nothing"):
        explained(tmp_path / "s", silent(), vocabulary=words)
    assert scripted_components(tmp_path / "s", silent()).runs.runs() == []


def test_excluded_words_stay_off_the_first_board(tmp_path, words):
    kept = WORDS[3:]
    components, run = explained(tmp_path / "s", silent(), vocabulary=words, exclude=WORDS[:3], top=20)
    assert first_board(components, run) == set(kept)


def test_the_stores_own_concepts_are_ranked_by_the_unit(tmp_path, words):
    scores = {word: float(index) for index, word in enumerate(WORDS)}
    target = ScriptedTarget(scores)
    explained(tmp_path / "s", silent(), vocabulary=words, top=16, random=0, target=target)
    again = ScriptedGenerator()
    components, run = explained(
        tmp_path / "s", silent(), init="bank", generator=again, target=target, top=3, random=2
    )
    board = [step.concept for step in components.runs.steps(run.id, 0)]
    assert board[:3] == WORDS[:-4:-1]
    assert again.drawn == []
    assert components.runs.run(run.id).vocabulary == tuple(sorted(WORDS))


def test_an_empty_store_has_no_concepts_to_begin_with(tmp_path):
    with pytest.raises(UsageError, match="no concept with 5 images of this generator"):
        explained(tmp_path / "s", silent(), init="bank")


def test_the_language_model_names_ten_concepts_the_same_for_all_units(tmp_path):
    model = ScriptedModel(lambda prompt, seed, temperature: f"thing {seed}")
    components, run = explained(tmp_path / "s", model, units=["0-1"], init="model")
    boards = [first_board(components, run, unit) for unit in (0, 1)]
    assert len(boards[0]) == 10
    assert boards[0] == boards[1]
    question = model.asked[9][0].messages[-1].content
    assert f"scripted:model, layer {LAYER}, 3 units." in question
    assert all(concept in question for concept in [step.concept for step in components.runs.steps(run.id, 0)][:9])
    step = components.runs.steps(run.id, 0)[0]
    assert (step.origin, step.model, step.reasoning.startswith("because")) == ("proposed", "scripted model", True)
    assert components.runs.units(run.id)[0].discovered is False


def test_concepts_excluded_for_a_unit_stay_off_its_board_alone(tmp_path):
    model = ScriptedModel(lambda prompt, seed, temperature: f"thing {seed % 1000}")
    components, run = explained(tmp_path / "a", model, init="model", top=3, random=0)
    first = next(step.concept for step in components.runs.steps(run.id, 0))
    excluded = {"init": "model", "top": 3, "random": 0, "exclude_for": {0: (first,)}}
    components, run = explained(tmp_path / "b", model, units=["0-1"], **excluded)
    boards = [first_board(components, run, unit) for unit in (0, 1)]
    assert [first in board for board in boards] == [False, True]
    assert [len(board) for board in boards] == [3, 3]


def test_a_concept_named_twice_is_asked_for_again_and_written_down_as_refused(tmp_path):
    answers = iter(["cat", "cats", "garbage", "dog", "fox"])
    model = ScriptedModel(lambda prompt, seed, temperature: next(answers))
    components, run = explained(tmp_path / "s", model, init="model", top=3, random=0)
    history = [(step.outcome, step.concept) for step in components.runs.steps(run.id, 0)]
    assert history == [
        ("scored", "cat"), ("invalid", "cats"), ("invalid", None), ("scored", "dog"), ("scored", "fox"),
    ]  # fmt: skip
    assert '"cat" was named already.' in model.asked[2][0].messages[-1].content
    assert model.asked[1][2] < model.asked[2][2]


def test_what_cannot_be_imaged_is_replaced_by_another_proposal(tmp_path):
    answers = iter(["idea", "cat", "dog"])
    model = ScriptedModel(lambda prompt, seed, temperature: next(answers))
    generator = ScriptedGenerator(frozenset({"idea"}))
    components, run = explained(tmp_path / "s", model, init="model", top=2, random=0, generator=generator)
    assert first_board(components, run) == {"cat", "dog"}


def test_a_model_that_never_answers_in_form_is_one_clear_error(tmp_path):
    model = ScriptedModel(lambda prompt, seed, temperature: "garbage")
    with pytest.raises(UsageError, match="first board"):
        explained(tmp_path / "s", model, init="model")
    assert len(model.asked) == 4


def test_images_without_classes_cannot_fill_a_board_but_serve_auc_and_mad(tmp_path, words):
    class Unlabelled:
        fingerprint, total, size = "unlabelled", 1, len(WORDS)

        def classes(self):
            return ()

        def chunks(self, start=0):
            from line_neurons.agent.ports import ControlChunk

            images = tuple(image_of(word, 1, "") for word in WORDS)
            yield from [ControlChunk(images, (-1,) * len(images))][start:]

    for init in ("control", "vocabulary"):
        settings = {"init": init, "control": "pictures", "iterations": 0, "summary": False}
        components = scripted_components(tmp_path / init, silent(), vocabulary=words, **settings)
        components = components.with_(control_set=Unlabelled())
        if init == "control":
            with pytest.raises(UsageError, match="no classes"):
                start(components, LAYER, ["0"])
            continue
        unit = components.runs.units(work(components, start(components, LAYER, ["0"])).id)[0]
        assert unit.auc is not None
        assert unit.mad is not None


@pytest.mark.parametrize("settings", [{"init": "control", "control": "none"}, {"init": "model", "scorer": "auc"}])
def test_settings_that_need_a_control_set_say_so(tmp_path, settings):
    with pytest.raises(ValueError, match="needs a control set"):
        scripted_components(tmp_path, silent(), **settings)
