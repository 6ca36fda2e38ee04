import csv

import numpy as np
import pytest

from line_neurons.eval.planted import draw as drawing
from line_neurons.eval.planted.draw import MeasuredBank, draw, edges, table
from line_neurons.eval.reports.label_quality import TrueClass
from support.small_wordnet import small_wordnet

# Two branches of four levels: their ends are eight edges apart.
BRANCHES = {1: (["thing"], [])} | {
    branch + level: ([f"w{branch + level}"], [branch + level - 1 if level else 1])
    for branch in (10, 20)
    for level in range(3)
}
ENDS = {100 + n: ([f"end{n}"], [12 if n % 2 else 22]) for n in range(8)}


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    return small_wordnet(tmp_path_factory.mktemp("wordnet"), BRANCHES | ENDS)


@pytest.fixture
def bank(monkeypatch):
    """Eight classes with four images each, and many images of nothing; the last class does not respond."""
    monkeypatch.setattr(drawing, "UNITS_OF_KIND", 3)
    logits = np.random.default_rng(0).normal(0, 0.1, (400, 8)).astype(np.float32)
    captions = np.array(["nothing"] * 400)
    for n in range(8):
        captions[4 * n : 4 * n + 4] = f"end{n}"
        logits[4 * n : 4 * n + 4, n] += 0 if n == 7 else 5
    classes = [TrueClass(n, f"end{n}", 100 + n, captions=(f"end{n}",)) for n in range(8)]
    return MeasuredBank(logits, captions, classes)


def test_edges_are_counted_over_the_nearest_common_hypernym(words):
    assert edges(words, 100, 101) == 8
    assert edges(words, 100, 102) == 2
    assert edges(words, 100, 100) == 0


def test_units_are_drawn_far_apart_and_kept_where_they_respond(words, bank):
    units, refused = draw(bank, words)
    assert [kind for kind, _ in units] == [
        *["single"] * 3,
        *["larger"] * 3,
        *["smaller"] * 3,
        "dead",
        "dense",
        "minus",
    ]
    assert refused["single"] == 1
    drawn = [true for _, classes in units for true in classes]
    assert 7 not in {true.unit for true in drawn}
    pairs = [classes for _, classes in units if len(classes) == 2]
    assert all(edges(words, first.synset, second.synset) == 8 for first, second in pairs)
    assert draw(bank, words)[0] == units


def test_the_table_has_what_the_target_reads(words, bank):
    rows = list(csv.DictReader(table(bank, draw(bank, words)[0]).splitlines()))
    first = rows[0]
    values = bank.logits[:, int(first["first"])]
    assert float(first["first_mean"]) == pytest.approx(values.mean(), abs=1e-4)
    assert float(first["first_sd"]) == pytest.approx(values.std(), abs=1e-4)
    assert rows[-3] == dict.fromkeys(first, "") | {"kind": "dead"}
