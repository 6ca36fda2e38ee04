"""Units that cannot have a label, labels that little speaks for, and answers that were refused: all look so."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torchvision.transforms import v2

from line_neurons.agent.errors import BackendError, LineError, ReplyError
from line_neurons.agent.replies import parse_reply
from line_neurons.agent.seeds import derive_rng
from line_neurons.graphs import explain, load
from line_neurons.graphs.loop.initial_board import _with_shuffled_ties
from line_neurons.graphs.runs.components import Components
from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.graphs.runs.results import summarize_history
from line_neurons.graphs.runs.revisit import revisit
from line_neurons.tools.label_marks import Evidence, format_note, label_marks, read_marks
from line_neurons.tools.run_problems import run_problems
from line_neurons.tools.store.records import Trial
from line_neurons.tools.store.refused_replies import _kind, refusals, summary
from line_neurons.tools.store.runs import RunStore
from support.fakes import (
    LAYER,
    ScriptedControl,
    ScriptedGenerator,
    ScriptedModel,
    ScriptedTarget,
    said_by,
    scripted_components,
)

TRANSFORM = v2.Compose([v2.PILToTensor(), v2.Resize((8, 8)), v2.ToDtype(torch.float32, scale=True)])
WORDS = ("ant", "bee", "cat", "dog", "elk", "fox")
CLASSES = tuple(f"class {letter}" for letter in "abcdefgh")


class Net(nn.Module):
    """Unit 0: brightness; 1: never fires; 2: always 1; 3: brightness and a large constant."""

    def __init__(self):
        super().__init__()
        self.c, self.r = nn.Conv2d(3, 4, 1), nn.ReLU()
        with torch.no_grad():
            self.c.weight.zero_()
            self.c.weight[0] = self.c.weight[3] = 1.0
            self.c.bias.copy_(torch.tensor([0.0, -5.0, 1.0, 9.0]))

    def forward(self, images):
        return self.r(self.c(images)).mean((2, 3))


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """What every call is given; all parts but the network are instant."""
    monkeypatch.setattr(
        Components, "language_model", ScriptedModel(lambda prompt, seed, temperature: f"thing {seed}")
    )
    monkeypatch.setattr(Components, "generator", ScriptedGenerator())
    monkeypatch.setattr(Components, "control_set", ScriptedControl(CLASSES))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.txt").write_text("".join(f"{word}\n" for word in WORDS))
    small = {"iterations": 2, "images": 2, "top": 2, "random": 2}
    return {"transform": TRANSFORM, "store": tmp_path / "store", "progress": False, **small}


def states(result):
    return [(unit.status, unit.label is None, len(unit.history)) for unit in result]


def test_a_unit_that_never_varies_on_the_control_set_is_not_searched_and_has_no_label(asked):
    result = explain(Net(), "r", "all", **asked)
    assert result.finished and result.run.status == "finished"
    assert [unit.status for unit in result] == ["finished", "dead", "constant", "finished"]
    assert states(result)[1:3] == [("dead", True, 0), ("constant", True, 0)]
    assert result[1].condition == "dead (0 on all 8 control images)"
    assert result[2].condition == "constant (1 on all 8 control images)"
    assert "2 units without a label: 1 dead, 1 constant" in result.remarks
    assert "dead (0 on all" in repr(result) and "constant (1 on all" in result._repr_html_()
    assert result[0].density == 1.0 and result[0].auc_low <= result[0].auc <= result[0].auc_high
    frame = result.frame()
    assert frame["note"][1] == "dead: 0 on all 8 control images" and frame["label"].isna()[1]


def test_without_a_control_set_the_first_board_tells_and_no_question_is_asked(asked, monkeypatch):
    monkeypatch.setattr(Components, "control_set", None)
    options = {"init": "vocabulary", "vocabulary": "words.txt", "control": "none"}
    result = explain(Net(), "r", "1-2", **asked, **options)
    assert states(result) == [("dead", True, 4), ("constant", True, 4)]
    assert result[1].note == "dead: 0 on all 8 images that it was scored on"
    assert {step.kind for step in result[2].history} == {"initial"}
    assert Components.language_model.asked == []


def test_who_insists_gets_a_label_that_says_what_it_is(asked):
    result = explain(Net(), "r", "1", label_dead=True, **asked)
    assert result[1].status == "finished" and result[1].label
    assert {"dead", "tied", "not above chance"} <= {mark.code for mark in result[1].marks}
    assert result.remarks[0].startswith("1 label marked: ")


def test_a_run_that_stopped_ends_with_the_same_states_as_one_that_went_through(asked, monkeypatch):
    whole = explain(Net(), "r", "1,0,2", **asked)
    asked["store"] = asked["store"].with_name("stopped")

    def gone(prompt, seed, temperature):
        raise BackendError("the server has gone")

    with monkeypatch.context() as patch:
        patch.setattr(Components, "language_model", ScriptedModel(gone))
        with pytest.raises(LineError, match="has gone"):
            explain(Net(), "r", "1,0,2", **asked)
    stopped = load(whole.run.id, asked["store"])
    assert [unit.status for unit in stopped] == ["dead", "interrupted", "pending"]
    again = explain(Net(), "r", "1,0,2", **asked)
    assert again.run.id == stopped.run.id
    assert [(unit.unit, unit.status, unit.label, unit.score, unit.note) for unit in again] == [
        (unit.unit, unit.status, unit.label, unit.score, unit.note) for unit in whole
    ]


@given(
    st.lists(st.integers(0, 2), min_size=2, max_size=6),
    st.permutations(WORDS),
)
def test_another_alphabet_changes_neither_whether_there_is_a_label_nor_its_marks(scores, other):
    def found(words):
        kinds = ["initial" if place < 2 else "iteration" for place in range(len(scores))]
        return summarize_history(
            Trial(0, place * (kind != "initial"), place, kind, word, float(score), "predefined", ())
            for place, (kind, word, score) in enumerate(zip(kinds, words, scores, strict=False))
        )

    one, two = found(WORDS), found(other)
    assert (one.undecided, one.tied, one.best.score) == (two.undecided, two.tied, two.best.score)
    assert two.best.concept == dict(zip(WORDS, other, strict=True))[one.best.concept]
    assert one.undecided == (len(set(scores)) == 1)
    assert one.tied == (scores.count(max(scores)) > 1)


def test_of_classes_that_tie_for_the_first_board_each_comes_as_often(tmp_path):
    scores = {"zebra": 3.0, "ant": 1.0, "bee": 1.0, "cat": 1.0, "dog": 0.0}
    drawn = [_with_shuffled_ties(list(scores), scores, derive_rng("ties", 0, unit)) for unit in range(300)]
    assert {(words[0], words[-1]) for words in drawn} == {("zebra", "dog")}
    counts = {word: sum(words[1] == word for words in drawn) for word in ("ant", "bee", "cat")}
    assert min(counts.values()) > 60


def searched(store, answers, **options):
    target = ScriptedTarget({name: rank / 100 for rank, name in enumerate(CLASSES)})
    components = scripted_components(store, ScriptedModel(answers), target=target, classes=CLASSES, **options)
    return components, work(components, start(components, LAYER, ["0"]))


def test_a_run_of_which_no_answer_was_usable_says_so_with_the_reason_and_what_helps(tmp_path):
    components, run = searched(tmp_path, lambda *_: "garbage", iterations=2, retries=3, llm="ollama:some:1b")
    found = refusals(components.runs, run.id)
    assert (found.answers, found.refused, dict(found.reasons), found.stalled) == (12, 12, {"not_json": 12}, 3)
    assert found.all_refused
    (unit,) = components.runs.units(run.id)
    assert ("first board only", "none of 3 steps brought a concept") in unit.marks
    assert [
        remark for remark in run_problems(tmp_path, components.runs, run).remarks() if "replies" in remark
    ] == [
        "12 of 12 replies refused (12 not JSON); 3 steps without a concept: no label comes from the language model"
        "; try --think on or off or another model (--llm)"
    ]


class HalfReadable(ScriptedControl):
    """A control set of which a file a class cannot be read."""

    def chunks(self, start=0):
        for chunk in super().chunks(start):
            yield replace(chunk, skipped=(f"{chunk.labels[0]}.png: truncated",))


def test_control_images_that_could_not_be_read_are_counted_with_the_run(asked, monkeypatch):
    monkeypatch.setattr(Components, "control_set", HalfReadable(CLASSES))
    result = explain(Net(), "r", "0", **asked)
    assert "8 of 16 control images could not be read and are not counted" in result.remarks


def test_a_run_of_usable_answers_has_nothing_to_say_of_them(tmp_path):
    components, run = searched(tmp_path, lambda prompt, seed, temperature: f"thing {seed}", iterations=2)
    found = refusals(components.runs, run.id)
    assert (found.answers, found.refused, found.all_refused, summary(found)) == (3, 0, False, "")


def test_repeated_and_undrawable_answers_are_counted_and_what_a_user_typed_is_not(tmp_path):
    answers = iter(["thing one", "thing one", "class a", "fog", "thing two", "thing three"])
    generator = ScriptedGenerator(unknown=frozenset({"fog"}))
    components, run = searched(tmp_path, lambda *_: next(answers), iterations=2, generator=generator)
    found = refusals(components.runs, run.id)
    assert (found.answers, dict(found.reasons), found.stalled) == (6, {"duplicate": 2, "not_drawable": 1}, 0)
    assert summary(found) == "3 of 6 replies refused (2 repeated, 1 not drawable)"


@pytest.mark.parametrize(
    ("text", "truncated"),
    [
        ('{"reasoning": "a', True),
        (" ", False),
        ("garbage", False),
        ('{"concept": "a"}', False),
        ('{"reasoning": "a", "concept": 3}', False),
        (json.dumps({"reasoning": "r", "concept": "one two three four"}), False),
        (json.dumps({"reasoning": "r", "concept": "dog, cat"}), False),
    ],
)
def test_the_reason_of_a_refusal_is_known_from_what_the_history_has(text, truncated):
    with pytest.raises(ReplyError) as error:
        parse_reply(text, truncated=truncated)
    assert _kind(f"your answer was unusable: {error.value.detail}.") == error.value.kind


GOOD = {"images": ("a", "b"), "wanted": 2, "tied": False, "own": True, "steps": 4, "scored": 4, "auc": 0.9,
        "interval": (0.7, 1.0), "density": 0.9}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "codes"),
    [
        ({}, []),
        ({"auc": None, "interval": None, "density": None}, []),
        ({"interval": (0.5, 1.0)}, ["not above chance"]),
        ({"auc": 0.55, "interval": (0.51, 0.59)}, ["unspecific"]),
        ({"auc": 0.55, "interval": (0.51, 0.59), "density": 0.5}, []),
        ({"tied": True}, ["tied"]),
        ({"scored": 0}, ["first board only"]),
        ({"scored": 0, "steps": 0}, []),
        ({"scored": 0, "own": False}, []),
        ({"scored": 2}, ["stalled"]),
        ({"scored": 3}, []),
        ({"images": ("a", "a")}, ["repeated images"]),
    ],
)
def test_what_a_label_is_marked_with(changes, codes):
    marks = label_marks(Evidence(**(GOOD | changes)))
    assert [mark.code for mark in marks] == codes
    assert read_marks(format_note(marks)) == marks


def test_a_label_of_an_earlier_version_is_marked_where_its_auc_tells():
    assert [mark.code for mark in read_marks(None, 0.5)] == ["not above chance"]
    assert read_marks(None, 0.7) == read_marks(None) == read_marks("") == ()


class OneWord(ScriptedTarget):
    """Each unit fires for one word alone, and is 0 on everything else."""

    def activate(self, images, layers, progress=None):
        said = [said_by(image)[0] for image in images]
        rows = np.array([[one == "fox", one == "owl", one == "class a"] for one in said], np.float32)
        return dict.fromkeys(layers, rows.reshape(len(images), 3))


def test_a_unit_that_its_own_search_found_dead_may_get_a_label_that_another_unit_found(tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("fox\nowl\n")
    components = scripted_components(
        tmp_path / "store", ScriptedModel(lambda *_: "class a"), target=OneWord(), init="vocabulary",
        vocabulary=words, control="none", top=0, random=2, images=2, iterations=1, summary=False,
    )  # fmt: skip
    run = work(components, start(components, LAYER, ["0-2"]))
    assert [unit.status for unit in components.runs.units(run.id)] == ["finished", "finished", "dead"]
    for _ in range(2):
        revisit(components.deps(LAYER, run.vocabulary), [run])
        assert [unit.label for unit in components.runs.units(run.id)] == ["fox", "owl", "class a"]
        last = components.runs.unit(run.id, 2)
        assert (last.status, last.origin, last.found_by, last.search_label) == ("finished", "revisit", 0, None)
        assert not last.marks


def test_marks_are_kept_with_a_run_and_read_again(asked):
    explain(Net(), "r", "1", **asked)
    runs = RunStore(asked["store"], read_only=True)
    assert runs.units("Net-r-1")[0].marks == (("dead", "0 on all 8 control images"),)
    assert runs.progress("Net-r-1") == (1, 1)
