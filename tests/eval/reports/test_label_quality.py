"""Labels of units that stand for a class, with a WordNet of a few words and vectors that one can add up."""

from statistics import mean

import numpy as np
import pytest
from scipy.stats import ttest_rel

from line_neurons.agent.errors import UsageError
from line_neurons.eval.labels.labels import Label, Labels
from line_neurons.eval.labels.vocabulary import LabelVocabulary
from line_neurons.eval.reports.label_quality import LabelSource, TrueClass, quality, true_classes
from line_neurons.eval.reports.statistics import sign_test, wilson_interval
from line_neurons.tools.store.records import Unit
from line_neurons.tools.store.runs import RunStore
from support.small_wordnet import small_wordnet
from support.table_runs import add, tables

# Offset, words, and what it is a kind of.
NOUNS = {
    1: (["animal"], []), 2: (["fox"], [1]), 3: (["crane", "bird"], [1]), 4: (["lion", "king_of_beasts"], [5]),
    5: (["cat"], [1]), 6: (["crane"], []),
}  # fmt: skip


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    return small_wordnet(tmp_path_factory.mktemp("wordnet"), NOUNS)


class Letters:
    """Embeds a text as its letters, of length 1."""

    fingerprint = "letters"

    def encode(self, texts):
        rows = np.array([[text.count(chr(97 + at)) for at in range(26)] for text in texts], np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def said(method, *concepts):
    labels = tuple(Label(unit, concept) for unit, concept in enumerate(concepts))
    return LabelSource(Labels(method, "net:x", "head", labels, f"{method}.csv"), method)


CLASSES = [TrueClass(0, "fox", 2), TrueClass(1, "crane", 3, ("heron",), ("stork",)), TrueClass(2, "lion", 4)]


def test_every_method_is_marked_and_tested_against_the_first(words):
    report = quality(
        [said("line", "fox", "heron", "cat"), said("random", "animal", "stork", "king of beasts")],
        CLASSES, words, Letters(),
    )  # fmt: skip
    found = tables(report)
    first, second = found["quality"]
    assert (first["exact"], first["synonym"], first["hypernym"], first["right"]) == (1, 1, 1, 3)
    assert (first["named"], first["named share"]) == (2, pytest.approx(2 / 3))
    assert (second["general"], second["other"], second["synonym"], second["right"]) == (1, 1, 1, 1)
    assert (second["low"], second["high"]) == wilson_interval(1, 3)
    same = {"method": "random", "n": 3}
    assert found["quality-tests"] == [
        {"measure": "named", **same, "right only here": 1, "wrong only here": 2, "p": 1.0, "Holm p": 1.0},
        {"measure": "right", **same, "right only here": 0, "wrong only here": 2, "p": sign_test(0, 2),
         "Holm p": 1.0},
    ]  # fmt: skip
    similarities = {
        name: [row[f"{name} similarity"] for row in found["quality-units"]] for name in ("line", "random")
    }
    assert similarities["line"][:2] == pytest.approx([1.0, 1.0])
    (test,) = found["quality-similarity-tests"]
    assert (test["method"], test["n"], test["test"]) == ("random", 3, "paired t")
    assert test["difference"] == pytest.approx(mean(similarities["random"]) - mean(similarities["line"]))
    assert test["p"] == pytest.approx(ttest_rel(similarities["random"], similarities["line"]).pvalue)


def test_a_method_alone_is_compared_with_nothing(words):
    found = tables(quality([said("line", "fox", "heron", "cat")], CLASSES, words, Letters()))
    assert set(found) == {"quality", "quality-units"}


def test_what_was_known_of_the_class_beforehand_divides_a_method(words):
    choice = LabelVocabulary(("crane", "lion"), exclude_for={0: ("fox",)})
    method = LabelSource(said("line", "fox", "bird", "fox").labels, "line", choice)
    rows = tables(quality([method], CLASSES, words, Letters()))["quality"]
    states = "class in the vocabulary"
    assert [(row[states], row["n"], row["right"]) for row in rows] == [
        ("all", 3, 2), ("in", 2, 1), ("kept out", 1, 1),
    ]  # fmt: skip


def test_classes_that_are_not_imagenets_get_their_most_usual_sense_and_are_named(words):
    units = [Unit("r", 0, 0, name="crane"), Unit("r", 1, 1, name="no such thing"), Unit("r", 2, 2)]
    classes = true_classes(words, units)
    assert classes == [TrueClass(0, "crane", 3, guessed=True), TrueClass(1, "no such thing", None)]
    (note,) = quality([said("line", "crane", "no such thing")], classes, words, Letters()).notes
    assert note.endswith("the most usual was taken: crane.")
    with pytest.raises(UsageError, match="no class names"):
        true_classes(words, units[2:])


@pytest.mark.e2e
def test_real_labels_are_marked_by_the_command(line, assets, tmp_path):
    names = {292: "tiger", 483: "castle"}
    searches = dict.fromkeys(names, (1.0, [2.0], 0.0))
    store = RunStore(tmp_path / "store")
    add(store, "a", searches, names, {292: "big cat", 483: "castle"}, generator="bank")
    (tmp_path / "x.csv").write_text("layer,unit,description,similarity\nhead,292,hammer,1\nhead,483,palace,1\n")
    status, out, _ = line("eval", "quality", "a", f"other={tmp_path / 'x.csv'}", "-o", tmp_path / "out")
    assert status == 0
    assert "hypernym" in out
    lines = (tmp_path / "out" / "quality-units.csv").read_text().splitlines()
    assert lines[1].startswith("292,tiger,big cat,hypernym,")
    assert line("eval", "quality", tmp_path / "x.csv")[0] == 2
