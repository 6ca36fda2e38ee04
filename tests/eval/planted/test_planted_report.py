"""Labels of planted units, with a WordNet that has the classes of four of them."""

import pytest

from line_neurons.agent.errors import UsageError
from line_neurons.eval.labels.imagenet import imagenet_table
from line_neurons.eval.labels.labels import Label, Labels
from line_neurons.eval.planted.report import PlantedLabels, planted
from line_neurons.eval.reports.statistics import wilson_interval
from line_neurons.tools.targets.planted.truth import NETWORK, PIXELS, planted_units
from support.small_wordnet import small_wordnet
from support.table_runs import tables

UNITS = planted_units(NETWORK)
OF_KIND = {kind: [unit for unit in UNITS if unit.kind == kind] for kind in {unit.kind for unit in UNITS}}
SINGLE, LARGER, SMALLER = (OF_KIND[kind][0] for kind in ("single", "larger", "smaller"))
DEAD, DENSE, MINUS = (OF_KIND[kind][0] for kind in ("dead", "dense", "minus"))


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    classes = {true.index: true for unit in (SINGLE, LARGER, SMALLER, MINUS) for true in unit.classes}
    nouns = {1: (["thing"], [])} | {
        imagenet_table()[index].synset: ([true.name.replace(" ", "_")], [1]) for index, true in classes.items()
    }
    return small_wordnet(tmp_path_factory.mktemp("wordnet"), nouns)


def labelled(method, *labels, unlabelled=(), marked=()):
    rows = tuple(Label(unit.unit, concept) for unit, concept in labels)
    without = tuple((unit.unit, "dead") for unit in unlabelled)
    found = Labels(method, NETWORK, "units", rows, f"{method}.csv", unlabelled=without)
    return PlantedLabels(found, frozenset(unit.unit for unit in marked))


def by_kind(report):
    return {row["kind"]: row for row in tables(report)["planted"]}


def test_a_label_is_right_by_what_the_kind_of_unit_asks_for(words):
    second = LARGER.classes[1].name
    report = planted(
        [
            labelled(
                "line",
                (SINGLE, SINGLE.classes[0].name), (LARGER, second), (SMALLER, SMALLER.classes[0].name),
                (DENSE, "spoon"), (MINUS, "spoon"), unlabelled=[DEAD], marked=[DENSE],
            )
        ],
        UNITS, words,
    )  # fmt: skip
    rows = by_kind(report)
    assert {kind: row["right"] for kind, row in rows.items()} == {
        "single": 1, "larger": 1, "smaller": 0, "dead": 1, "dense": 1, "minus": 1,
    }  # fmt: skip
    assert rows["larger"]["names both"] == 0 and rows["single"]["names both"] is None
    assert (rows["single"]["low"], rows["single"]["high"]) == wilson_interval(1, 1)
    assert {row["unit"]: row["right"] for row in tables(report)["planted-units"]}[SMALLER.unit] == "no"


def test_several_labels_of_a_unit_may_name_both_classes_together(words):
    first, second = (true.name for true in LARGER.classes)
    rows = by_kind(planted([labelled("line", (LARGER, first), (LARGER, second))], UNITS, words))
    assert (rows["larger"]["names both"], rows["larger"]["labels"]) == (1, 2)


def test_wrong_labels_are_wrong(words):
    found = labelled(
        "line", (SINGLE, "spoon"), (LARGER, "spoon"), (DEAD, "spoon"), (DENSE, "spoon"),
        (MINUS, MINUS.classes[0].name),
    )  # fmt: skip
    assert {row["right"] for row in by_kind(planted([found], UNITS, words)).values()} == {0}


def test_labels_of_other_units_and_units_of_pixels_are_refused(words):
    with pytest.raises(UsageError, match="has no label for a planted unit"):
        planted([PlantedLabels(Labels("line", NETWORK, "units", (Label(500, "dog"),), "a.csv"))], UNITS, words)
    with pytest.raises(UsageError, match="no words to compare"):
        pixels = planted_units(PIXELS)
        planted([PlantedLabels(Labels("line", PIXELS, "units", (Label(0, "dog"),), "a.csv"))], pixels, words)
