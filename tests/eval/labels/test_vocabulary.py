"""Whether a unit's class was among what its label could be chosen from."""

from dataclasses import replace

import numpy as np
import pytest

from line_neurons.agent.ports import Control
from line_neurons.eval.labels.vocabulary import (
    LabelVocabulary,
    vocabulary_of_file,
    vocabulary_of_run,
    write_vocabulary,
)
from line_neurons.tools.cache.activation_cache import Cache
from line_neurons.tools.store.runs import RunStore
from support.table_runs import LAYER, add

NAMES = {0: ("fox",), 1: ("crane", "heron"), 2: ("lion", "king of beasts")}


def states(choice):
    return [choice.has(unit, names) for unit, names in NAMES.items()]


@pytest.fixture
def labels(tmp_path):
    path = tmp_path / "net-head.csv"
    path.write_text("layer,unit,description,similarity\nhead,0,fox,1\n")
    return path


def test_a_word_list_is_recorded_with_the_run(tmp_path):
    run = add(RunStore(tmp_path), "a", init="vocabulary", exclude_for={2: ("king of beasts",)})
    assert states(vocabulary_of_run(replace(run, vocabulary=("foxes", "stone")), tmp_path)) == [
        "in",
        "not in",
        "kept out",
    ]
    assert states(vocabulary_of_run(replace(run, vocabulary=None), tmp_path)) == ["unknown", "unknown", "kept out"]


def test_the_classes_of_any_control_set_are_those_that_the_store_measured(tmp_path):
    run = add(RunStore(tmp_path), "a")
    prints = {"target": "net", "control": "folder:1"}
    assert states(vocabulary_of_run(replace(run, fingerprints=prints), tmp_path)) == ["unknown"] * 3
    control = Control(("fox, red fox", "heron"), np.array([0, 1]), np.zeros((2, 3), np.float32))
    Cache(tmp_path).put_control(f"net\n{LAYER}\nfolder:1", control)
    assert states(vocabulary_of_run(replace(run, fingerprints=prints), tmp_path)) == ["in", "in", "not in"]
    assert (
        states(vocabulary_of_run(replace(run, fingerprints={**prints, "control": "folder:2"}), tmp_path))
        == ["unknown"] * 3
    )


def test_a_language_model_that_fills_the_first_board_has_no_vocabulary(tmp_path):
    run = add(RunStore(tmp_path), "a", init="model", exclude=("fox",))
    assert states(vocabulary_of_run(run, tmp_path)) == ["kept out", "no vocabulary", "no vocabulary"]


def test_what_a_file_of_labels_was_chosen_from_stands_beside_it(labels):
    choice = LabelVocabulary(("lion",), ("fox",), {1: ("heron",)})
    write_vocabulary(choice, labels)
    assert vocabulary_of_file(labels) == choice
    assert states(vocabulary_of_file(labels)) == ["kept out", "kept out", "in"]


@pytest.mark.parametrize("content", ["", "[]", '{"labels": 3}', "[" * 100_000, "\xff"])
def test_nothing_is_known_of_labels_without_a_record_or_with_a_damaged_one(labels, content):
    assert vocabulary_of_file(labels) == LabelVocabulary()
    labels.with_name("net-head.csv.choice.json").write_bytes(content.encode("latin-1"))
    assert vocabulary_of_file(labels) == LabelVocabulary()


def test_nothing_is_known_of_labels_that_were_changed_since(labels):
    write_vocabulary(LabelVocabulary(("fox",)), labels)
    labels.write_text(labels.read_text().replace("fox", "lion"))
    assert vocabulary_of_file(labels) == LabelVocabulary()
