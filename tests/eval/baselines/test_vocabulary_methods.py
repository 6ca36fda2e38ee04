"""Random words, initial labels, the best word, and CLIP-Dissect."""

from dataclasses import replace

import numpy as np
import pytest
from langgraph.runtime import RunControl

from line_neurons.agent.errors import DrainedError, MissingPartError, UsageError
from line_neurons.eval.baselines import clip_dissect, image_text, simple
from line_neurons.eval.baselines.clip_dissect import soft_wpmi
from line_neurons.eval.baselines.registry import label_units
from line_neurons.eval.baselines.task import BaselineTask
from line_neurons.graphs.loop.scoring import measure
from line_neurons.graphs.runs.lifecycle import start, work
from support.fake_ollama import ScriptedOllama, serving
from support.fakes import LAYER, ScriptedModel, scripted_components


def concepts(found):
    return [one.concept for one in found.labels]


def test_random_words_depend_on_seed_and_unit_alone(colour_task):
    every = simple.random_label(colour_task(range(3)))
    assert concepts(simple.random_label(colour_task((2, 0)))) == [concepts(every)[2], concepts(every)[0]]
    others = [concepts(simple.random_label(colour_task(range(3), seed=seed))) for seed in range(1, 20)]
    assert len({tuple(one) for one in others}) > 10
    assert every.method == "random"
    assert [one.score for one in every.labels] == [None] * 3


def test_a_random_word_is_never_one_that_is_excluded(colour_task):
    words = ("rose", "brick", "leaf", "moss", "sky", "ink", "snow")
    task = colour_task((0, 1), excluded={0: words}, exclude=("ink",))
    assert concepts(simple.random_label(task))[0] == "coal"
    with pytest.raises(UsageError, match="no word is left for unit 0"):
        simple.random_label(colour_task((0,), excluded={0: (*words, "coal")}))


def test_words_may_come_from_a_list(colour_task, tmp_path):
    (tmp_path / "words.txt").write_text("Tiger\n\nsofa\n")
    task = colour_task((0, 1, 2), vocabulary=tmp_path / "words.txt")
    assert set(task.words) == {"tiger", "sofa"}
    assert set(concepts(simple.random_label(task))) <= {"tiger", "sofa"}


def test_the_best_word_is_scored_as_a_search_scores_it(colour_task):
    task = colour_task()
    found = simple.best_word(task)
    assert concepts(found) == ["rose", "snow", "sky"]
    deps = task.components.deps(task.layer)
    assert [one.score for one in found.labels] == [
        measure(deps, one.unit, one.concept).score for one in found.labels
    ]
    by_auc = simple.best_word(colour_task(scorer="auc", excluded={1: ("snow",)}))
    assert concepts(by_auc)[1] == "leaf"


def test_words_that_cannot_be_imaged_do_not_count(colour_task, tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("unicorn\nmoss\n")
    assert concepts(simple.best_word(colour_task(vocabulary=words))) == ["moss"] * 3
    with pytest.raises(UsageError, match="no word is left for unit 1"):
        simple.best_word(colour_task(vocabulary=words, excluded={1: ("moss",)}))
    words.write_text("unicorn\n")
    with pytest.raises(UsageError, match="no word of the vocabulary"):
        simple.best_word(colour_task(vocabulary=words))


def test_images_and_activations_are_paid_for_once(colour_task):
    simple.best_word(colour_task())
    again = colour_task()
    simple.best_word(again)
    assert again.components.generator.drawn == []
    assert again.components.target.passes == 0


@pytest.mark.parametrize("method", ["best-word", "describe-and-dissect", "initial"])
def test_a_method_that_is_asked_to_stop_does_so_and_goes_on_later(colour_task, method):
    drain = RunControl()
    options = {"captioner": "captions"} if method == "describe-and-dissect" else {}
    task = colour_task(model=ScriptedModel(lambda *_: "rose"))
    drain.request_drain("asked")
    with pytest.raises(DrainedError):
        label_units(method, replace(task, drain=drain), **options)
    assert len(label_units(method, task, **options).labels) == 3


def test_initial_labels_come_from_the_run_that_is_named(tmp_path):
    components = scripted_components(
        tmp_path, ScriptedModel(["owl"] * 99), control="set", iterations=1, summary=False
    )
    run = work(components, start(components, LAYER, ["0", "1"]))
    found = simple.initial_label(BaselineTask(components, LAYER, (1, 0), source=run.id))
    units = {unit.unit: unit for unit in components.runs.units(run.id)}
    assert [(one.concept, one.score) for one in found.labels] == [
        (units[unit].initial_label, units[unit].initial_score) for unit in (1, 0)
    ]
    assert (found.method, found.source) == ("initial", run.id)
    with pytest.raises(UsageError, match="no initial scoreboard of unit 2"):
        simple.initial_label(BaselineTask(components, LAYER, (2,), source=run.id))


def test_without_a_run_one_of_no_iteration_is_made_and_found_again(tmp_path):
    def task(model):
        return BaselineTask(scripted_components(tmp_path, model, control="set"), LAYER, (0, 2), {2: ("class a",)})

    first = simple.initial_label(task(ScriptedModel(())))
    again = simple.initial_label(task(ScriptedModel(())))
    assert first == again
    (run,) = task(ScriptedModel(())).components.runs.runs()
    assert (run.id, run.status, run.settings["iterations"]) == (first.source, "finished", 0)
    assert run.settings["exclude_for"] == {"2": ["class a"]}


def test_clip_dissect_is_the_similarity_of_the_encoders_images_and_words(colour_task, monkeypatch, tmp_path):
    rng = np.random.default_rng(0)
    space = {}

    class Random:
        fingerprint = "random"

        def _rows(self, items):
            rows = np.stack([space.setdefault(item, rng.normal(size=6)) for item in items]).astype(np.float32)
            return rows / np.linalg.norm(rows, axis=1, keepdims=True)

        images = texts = _rows

    monkeypatch.setattr(clip_dissect, "open_encoder", lambda *_, **__: Random())
    task = colour_task((2, 0))
    found = clip_dissect.label(task)
    images = [image for chunk in task.images().chunks() for image in chunk.images]
    expected = soft_wpmi(Random().images(images) @ Random().texts(task.words).T, task.control.activations)[[2, 0]]
    assert concepts(found) == [task.words[word] for word in expected.argmax(1)]
    assert [one.score for one in found.labels] == pytest.approx(expected.max(1).tolist())
    assert found.method == "clip-dissect"


def test_a_unit_that_no_image_excites_has_no_label(measured_task):
    activations = np.zeros((6, 2), np.float32)
    activations[:, 1] = np.arange(6)
    task = measured_task(activations, np.arange(6), tuple("abcdef"), excluded={0: ("a",)})
    scores = np.vstack([np.full(6, -np.inf), np.arange(6)])
    assert [(one.concept, one.score) for one in task.best("m", scores, task.words).labels] == [("f", 5)]


def test_the_stand_in_is_called_so(colour_task, monkeypatch):
    """With captions for images, a unit's word is that of the images that excite it."""
    from line_neurons.tools.image_bank import text_encoder

    class Letters:
        def __init__(self, folder):
            self.fingerprint = "letters"

        def encode(self, texts):
            rows = np.array([[text.count(chr(97 + i)) for i in range(26)] for text in texts], np.float32)
            return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    monkeypatch.setattr(text_encoder, "SentenceEncoder", Letters)
    found = clip_dissect.label(colour_task(), encoder=image_text.CAPTIONS, similarity="cos_similarity_cubed")
    assert found.method == "clip-dissect (captions)"
    assert concepts(found) == ["rose", "snow", "sky"]


def test_what_is_missing_names_the_stand_in(colour_task, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MissingPartError, match=r"--download.*--encoder captions"):
        clip_dissect.label(colour_task(), encoder="hf:nobody/no-such-model")
    with (
        serving(ScriptedOllama(models={})) as server,
        pytest.raises(MissingPartError, match="--captioner captions"),
    ):
        label_units("describe-and-dissect", colour_task(ollama=server.url))


def test_options_that_do_not_fit_are_named(colour_task, measured_task):
    with pytest.raises(UsageError, match="'cosine'"):
        clip_dissect.label(colour_task(), similarity="cosine")
    with pytest.raises(UsageError, match="activations and no images"):
        clip_dissect.label(measured_task(np.eye(3, dtype=np.float32), np.arange(3), ("a", "b", "c")))
