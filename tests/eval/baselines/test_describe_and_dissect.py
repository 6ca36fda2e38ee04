import csv
import threading

import numpy as np
import pytest

from line_neurons.agent.errors import BackendError, UsageError
from line_neurons.eval.baselines import describe_and_dissect
from line_neurons.eval.baselines.top_images import find_top_images
from line_neurons.eval.labels.formats import read_labels
from line_neurons.eval.labels.labels import Label
from line_neurons.tools.language_models.ollama.captions import QUESTION, OllamaCaptioner
from line_neurons.tools.language_models.reply_cache import ReplyCache
from support.fake_ollama import DIGEST, MODEL, ScriptedOllama, answer, serving
from support.fakes import ScriptedModel

from .conftest import COLOURS, PixelTarget, png

STAND_IN = {"captioner": "captions"}
CLASSES = PixelTarget(names=("red", "green", "blue"))


def concept_of(*answers):
    """A language model that names these concepts in turn, over and over."""
    turn = iter(range(10_000))
    return ScriptedModel(lambda *_: answers[next(turn) % len(answers)])


def test_the_candidate_whose_images_excite_a_unit_most_is_its_label(colour_task):
    task = colour_task(model=concept_of("moss", "rose", "sky", "unicorn", "moss"))
    found = describe_and_dissect.label(task, **STAND_IN)
    assert [one.concept for one in found.labels] == ["rose", "sky", "sky"]
    assert found.method == "describe-and-dissect (captions)"
    # What cannot be generated comes last, and of the three others the best has rank 3.
    assert found.ranked[0] == ("rose", "sky", "moss", "unicorn")
    assert found.labels[0].score == 3


def test_the_language_model_is_told_the_captions_of_the_strongest_images(colour_task):
    model = concept_of("rose")
    describe_and_dissect.label(colour_task((2,), model=model, target=CLASSES), **STAND_IN)
    assert len(model.asked) == describe_and_dissect.CANDIDATES
    told = [prompt.messages[-1].content.splitlines()[1:] for prompt, _, _ in model.asked]
    assert told[0][:2] == ["sky", "snow"]
    assert all(sorted(one) == sorted(COLOURS) for one in told)
    assert len({tuple(one) for one in told}) == len({seed for _, seed, _ in model.asked}) == 5
    assert {temperature for _, _, temperature in model.asked} == {describe_and_dissect.TEMPERATURE}


def test_unusable_answers_and_excluded_concepts_are_refused_and_asked_again(colour_task):
    model = concept_of("garbage", "roses", "sky")
    found = describe_and_dissect.label(colour_task((0,), model=model, excluded={0: ("rose",)}), **STAND_IN)
    assert found.ranked == (("sky",),)
    refusals = [prompt.messages[-1].content.partition("Refused: ")[2] for prompt, _, _ in model.asked[:3]]
    assert refusals[0] == ""
    assert "unusable" in refusals[1]
    assert '"roses" is forbidden' in refusals[2]


def test_a_unit_whose_candidates_cannot_be_imaged_is_called_by_the_first(colour_task):
    found = describe_and_dissect.label(colour_task((0,), model=concept_of("unicorn", "griffin")), **STAND_IN)
    assert found.labels == (Label(0, "unicorn", None),)
    assert found.ranked == (("unicorn", "griffin"),)


def test_units_without_a_usable_candidate_are_told(colour_task, caplog):
    model = concept_of("rose")
    task = colour_task((2, 0), model=model, target=CLASSES, excluded={2: ("rose",)})
    assert [one.unit for one in describe_and_dissect.label(task, **STAND_IN).labels] == [0]
    assert "unit 2 has no label" in caplog.text
    with pytest.raises(BackendError, match="no usable concept for any unit"):
        describe_and_dissect.label(colour_task((1,), model=concept_of("garbage")), **STAND_IN)


def test_questions_asked_at_the_same_time_find_the_same(colour_task):
    words = ("moss", "rose", "sky")
    together = threading.Barrier(describe_and_dissect.CANDIDATES)

    def at_once(prompt, seed, temperature):
        # It is broken, and so an error, unless all questions about a unit are in hand.
        together.wait(timeout=30)
        return words[seed % len(words)]

    one = ScriptedModel(lambda prompt, seed, temperature: words[seed % len(words)])
    several = colour_task(model=ScriptedModel(at_once), llm_parallel=describe_and_dissect.CANDIDATES)
    found = describe_and_dissect.label(several, **STAND_IN)
    assert found == describe_and_dissect.label(colour_task(model=one), **STAND_IN)
    assert any(len(ranked) > 1 for ranked in found.ranked)


def test_an_unknown_captioner_is_named(colour_task):
    with pytest.raises(UsageError, match="'blip'"):
        describe_and_dissect.label(colour_task(), captioner="blip")


def test_a_spot_is_shown_larger_where_the_unit_is_not_an_output_class(colour_task):
    spotted = {"ink": png(COLOURS["ink"], (255, 0, 0)), "coal": png(COLOURS["coal"]), "moss": png(COLOURS["moss"])}
    ((_, shown),) = find_top_images(colour_task((0,), images=spotted), 3, 4)
    crop, *rest = shown
    red = PixelTarget().activate([crop.image], ["pixels"])["pixels"][0]
    assert red.tolist() == [255, 0, 0]
    assert [one.row for one in rest[:1]] == [1]
    ((_, whole),) = find_top_images(colour_task((0,), images=spotted, target=CLASSES), 3, 4)
    assert [one.image for one in whole] == [spotted["ink"], spotted["moss"], spotted["coal"]]


def test_what_was_measured_and_drawn_is_not_done_again(colour_task):
    first = describe_and_dissect.label(colour_task(model=concept_of("rose", "sky")), **STAND_IN)
    again = colour_task(model=concept_of("rose", "sky"))
    assert describe_and_dissect.label(again, **STAND_IN) == first
    assert again.components.target.passes == 0
    assert again.components.generator.drawn == []


def test_an_encoder_weighs_candidates_by_how_near_their_images_are(colour_task, monkeypatch):
    class Encoder:
        """Sees the unit's own images first, and all others as half like these."""

        seen = 0

        def images(self, images):
            self.seen += 1
            return np.array([[1.0, 0.0] if self.seen == 1 else [0.5, 0.8]] * len(images), np.float32)

    task = colour_task((0,), model=concept_of("coal", "rose"), target=CLASSES)
    monkeypatch.setattr(describe_and_dissect, "open_encoder", lambda *_, **__: Encoder())
    plain = describe_and_dissect.label(task, **STAND_IN)
    weighed = describe_and_dissect.label(task, **STAND_IN, encoder="hf:any")
    assert plain.ranked == weighed.ranked == (("rose", "coal"),)
    # None of the ten strongest images is of the second one.
    assert (plain.labels[0].score, weighed.labels[0].score) == (2, pytest.approx(2 * 0.5))


def test_captions_may_stand_in_for_the_encoder_too(colour_task, monkeypatch):
    from line_neurons.tools.image_bank import text_encoder

    class Same:
        """Two texts are near if they are the same."""

        def __init__(self, folder):
            self.known = {}

        def encode(self, texts):
            return np.eye(99, dtype=np.float32)[[self.known.setdefault(text, len(self.known)) for text in texts]]

    monkeypatch.setattr(text_encoder, "SentenceEncoder", Same)
    script = ScriptedOllama(answer("rose"), answer("coal"), capabilities=("vision",))
    with serving(script) as server:
        task = colour_task((0,), model=concept_of("coal", "rose"), target=CLASSES, ollama=server.url)
        found = describe_and_dissect.label(task, captioner=f"ollama:{MODEL}", encoder="captions")
    assert found.method == "describe-and-dissect (captions)"
    # One of eight captions is the candidate that is generated among the strongest.
    assert found.labels[0].score == pytest.approx(2 / 8)


def test_the_file_is_that_of_the_authors_code(colour_task, tmp_path):
    found = describe_and_dissect.label(colour_task((2, 0), model=concept_of("rose", "sky")), **STAND_IN)
    describe_and_dissect.write_csv(found, tmp_path / "pixels-head.csv")
    rows = list(csv.reader((tmp_path / "pixels-head.csv").open()))
    assert rows == [
        ["Neuron ID", "Label 1", "Label 2", "Label 3"], ["2", "sky", "rose", " "], ["0", "rose", "sky", " "]
    ]  # fmt: skip
    read = read_labels(tmp_path / "pixels-head.csv")
    assert [(one.unit, one.concept) for one in read.labels] == [(2, "sky"), (0, "rose")]
    assert read.method == "describe-and-dissect"


def captioner(server, tmp_path):
    return OllamaCaptioner(MODEL, [server.url], timeout=5, cache=ReplyCache(tmp_path / "replies.db"))


def test_a_vision_model_of_ollama_is_shown_each_image_once(tmp_path):
    script = ScriptedOllama(answer("A red\nsquare."), capabilities=("completion", "vision"))
    with serving(script) as server:
        seen = captioner(server, tmp_path)
        assert [seen.caption(png((255, 0, 0))) for _ in range(2)] == ["A red square."] * 2
        assert DIGEST[:16] in seen.fingerprint
    (question,) = script.questions
    (message,) = question["messages"]
    assert message["content"].strip() == QUESTION
    (sent,) = message["images"]
    assert sent.startswith("iVBOR")


def test_vision_models_label_whole_units(colour_task, tmp_path):
    script = ScriptedOllama(answer("an image that is wholly red"), capabilities=("completion", "vision"))
    model = concept_of("rose")
    with serving(script) as server:
        task = colour_task((0,), model=model, ollama=server.url, target=CLASSES)
        found = describe_and_dissect.label(task, captioner=f"ollama:{MODEL}")
    assert found.method == "describe-and-dissect"
    assert found.labels[0].concept == "rose"
    # What is longer than a concept is asked for in few words first.
    told = [prompt.messages[-1].content for prompt, _, _ in model.asked]
    assert "an image that is wholly red" in told
    assert told[-1].splitlines()[1:] == ["rose"] * len(COLOURS)


@pytest.mark.parametrize(
    ("script", "error", "said"),
    [
        (ScriptedOllama(capabilities=("completion",)), UsageError, "cannot read images"),
        (ScriptedOllama(answer(""), capabilities=("vision",)), BackendError, "returned no caption"),
    ],
)
def test_models_that_see_nothing_are_refused(script, error, said, tmp_path):
    with serving(script) as server, pytest.raises(error, match=said):
        captioner(server, tmp_path).caption(png((1, 2, 3)))
