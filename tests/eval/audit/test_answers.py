"""People's answers: the paper's Table 11, both forms of files, faults, and agreement."""

import csv
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from line_neurons.agent.errors import UsageError
from line_neurons.eval.audit.answers import Counts, agreement, read_answers, read_words
from line_neurons.eval.audit.report import table11
from line_neurons.tools.store.results.audits import AuditedFeature

TABLE_11 = Path(__file__).parent / "table11.csv"
"""The 30 features of the paper's Table 11, with the counts of Salient ImageNet's answers on them."""
CLASSES, FEATURES = 1000, 2048


def paper():
    with TABLE_11.open() as file:
        return list(csv.DictReader(file))


def test_all_rows_of_table_11_are_core_or_spurious_as_in_the_paper():
    answers = read_answers(TABLE_11, CLASSES, FEATURES)
    assert len(answers) == 30
    for row in paper():
        counts = answers[int(row["class_index"]), int(row["feature_index"])]
        assert counts.total == 5
        assert counts.judgement == row["paper"], row


def test_table_11_has_the_labels_of_each_method():
    answers = read_answers(TABLE_11, CLASSES, FEATURES)
    keys = [(int(row["class_index"]), int(row["feature_index"])) for row in paper()]
    dexter = {key: row["dexter"] for key, row in zip(keys, paper(), strict=True)}
    rows = [
        AuditedFeature(index, unit, row["line"], {"class": "a class"})
        for (index, unit), row in zip(keys, paper(), strict=True)
    ]
    judged = [answers[key].judgement for key in keys]
    table = table11(rows, ["unclear"] * 30, judged, {"dexter": dexter})
    assert table.headings == ("class (index)", "no bias", "by", "feature", "dexter", "LINE")
    first, last = table.rows[0], table.rows[-1]
    assert first == ("a class (609)", "yes", "people", 1067, "tractor", "tractors")
    assert last == ("a class (785)", "no", "people", 50, "park", "steam locomotive")
    unasked = table11(rows[:1], ["unclear"], [None], {})
    assert unasked.rows == (("a class (609)", "unclear", "audit", 1067, "tractors"),)


def written(folder, text):
    path = folder / "answers.csv"
    path.write_text(text)
    return path


def test_the_answers_of_salient_imagenets_file_are_counted(tmp_path):
    heading = "WorkerId,Input.wordnet_id,Input.class_index,Input.feature_index,Input.feature_rank,Answer.main"
    rows = [f"1,n0,3,7,1,{answer}" for answer in ("main_object", "background", "separate_object", "main_object")]
    answers = read_answers(written(tmp_path, "\n".join([heading, *rows, "1,n0,3,8,2,background"])), 4, 9)
    assert answers == {(3, 7): Counts(2, 1, 1), (3, 8): Counts(0, 1, 0)}
    # Two of four is no majority.
    assert (answers[3, 7].judgement, answers[3, 8].judgement) == ("core", "spurious")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("class_index,feature_index\n1,2", "has no answers: it needs a column answer"),
        ("feature_index,answer\n1,main_object", "has no column class_index"),
        ("class,feature,answer\n1,9,main_object", "line 2 is about feature 9, and this classifier has 9"),
        ("class,feature,answer\n4,0,main_object", "line 2 is about class 4, and this classifier has 4"),
        ("class,feature,answer\n-1,0,main_object", "'-1' is no number of class"),
        ("class,feature,answer\n1,0,maybe", "'maybe' is no answer"),
        ("class,feature,main_object,background,separate_object\n1,0,5,x,0", "'x' is no number of background"),
    ],
)
def test_faults_of_a_file_are_one_line(tmp_path, text, said):
    with pytest.raises(UsageError, match=said) as caught:
        read_answers(written(tmp_path, text), 4, 9)
    assert "\n" not in str(caught.value)


def test_words_of_another_method_are_read(tmp_path):
    assert read_words(written(tmp_path, "class,feature,word\n1,0,tractor\n1,2,"), 4, 9) == {(1, 0): "tractor"}
    with pytest.raises(UsageError, match="has no labels"):
        read_words(written(tmp_path, "class,feature\n1,0"), 4, 9)


def test_kappa_is_cohens():
    rng = np.random.default_rng(0)
    pairs = [tuple(rng.choice(["core", "spurious"], 2, p=[0.7, 0.3])) for _ in range(40)]
    found = agreement(pairs)
    assert found.kappa == pytest.approx(cohen_kappa_score(*zip(*pairs, strict=True)))
    assert found.same == sum(one == other for one, other in pairs)
    assert np.isnan(agreement([("core", "core")]).kappa)
    assert (agreement([]).n, agreement([("core", "core"), ("spurious", "spurious")]).kappa) == (0, 1.0)
