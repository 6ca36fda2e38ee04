"""Several labels of a unit, with numbers that can be worked out by hand."""

import numpy as np
import pytest

from line_neurons.agent.errors import UsageError
from line_neurons.eval.reports.several_labels import (
    SUMMARISED,
    JudgedLabels,
    UnitSummary,
    mean_cosine,
    read_summaries,
    several_labels,
    unit_summaries,
)
from line_neurons.tools.store.results.evaluations import CosyScore
from support.table_runs import tables

DIRECTIONS = {"sea": (1, 0), "sky": (0.6, 0.8), "dog": (0, 1), "cat": (0, 1), "car": (-1, 0)}


class Directions:
    fingerprint = "directions"

    def encode(self, texts):
        return np.array([DIRECTIONS[text] for text in texts], np.float32)


def score(unit, facet, concept, auc, mad):
    return CosyScore(unit, concept, auc, 1.0, 0.5, mad, 5, facet=facet)


SCORES = [
    score(1, 0, "sea", 0.5, 2.0), score(1, 1, "sky", 0.9, 1.0), score(2, 0, "dog", 0.7, 0.1),
    CosyScore(2, "cat", *[float("nan")] * 4, 0, "not drawable", 1),
]  # fmt: skip


def test_the_cosine_is_the_mean_of_all_pairs():
    assert mean_cosine(["sea", "sky", "dog"], Directions()) == pytest.approx((0.6 + 0 + 0.8) / 3)
    assert mean_cosine(["sea"], Directions()) is None


def test_a_unit_has_the_cosine_of_its_labels_a_floor_of_others_and_its_best_numbers():
    first, second = unit_summaries(JudgedLabels("line", "fc", SCORES), Directions())
    assert first == ("fc", 1, pytest.approx(0.6), pytest.approx(1.0), 0.9, 2.0)
    assert second == ("fc", 2, pytest.approx(1.0), pytest.approx(0.6), 0.7, 0.1)


def test_the_tables_have_prisms_columns_and_read_back(tmp_path):
    report = several_labels([JudgedLabels("line", "fc", SCORES)], Directions(), {})
    found = tables(report)
    assert found["facets"][0]["first AUC"] == pytest.approx(0.6)
    assert found["facets"][0]["best AUC mean"] == pytest.approx(0.8)
    assert len(found["cosy-evaluation"]) == 4
    rows = [",".join(str(row[name]) for name in SUMMARISED) for row in found["meta-evaluation"]]
    file = tmp_path / "meta.csv"
    file.write_text("\n".join([",".join(SUMMARISED), *rows]))
    assert read_summaries(file) == unit_summaries(JudgedLabels("line", "fc", SCORES), Directions())
    published = several_labels([], Directions(), {"prism": [UnitSummary("0", 3, 0.4, 0.3, 0.6, 1.0)]})
    assert tables(published)["facets"][0]["cosine mean"] == 0.4


def test_other_files_and_broken_rows_are_told(tmp_path):
    file = tmp_path / "meta.csv"
    file.write_text("unit,label\n1,a\n")
    assert read_summaries(file) is None
    file.write_text(",".join(SUMMARISED) + "\n0,3,high,0.1,0.5,0.0\n")
    with pytest.raises(UsageError, match="line 2: could not convert"):
        read_summaries(file)
    with pytest.raises(UsageError, match="no labels were named"):
        several_labels([], Directions(), {})
