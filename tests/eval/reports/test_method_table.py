"""Table 1 from evaluations that were made up."""

from math import isnan

import pytest
from scipy import stats

from line_neurons.agent.errors import UsageError
from line_neurons.eval.reports.method_table import table1
from line_neurons.eval.reports.statistics import holm_correction
from line_neurons.eval.reports.table import Report, Table, as_csv, as_markdown, write_report
from line_neurons.tools.store.results.evaluations import CosyScore, Evaluation, Evaluations
from line_neurons.tools.store.runs import RunStore
from line_neurons.tools.store.steering_queue import applied_kinds
from line_neurons.tui.cli.eval import reports as eval_tables
from support.table_runs import LAYER, MODEL, add, steer, tables

NAN = float("nan")


@pytest.fixture
def results(tmp_path):
    return Evaluations(tmp_path)


def judged(results, method, source, aucs, layer=LAYER, **fingerprints):
    told = Evaluation(method, source, MODEL, layer, "bank:heldout", "bank:heldout", "fixed", 0, 50, **fingerprints)
    found = []
    for unit, auc in aucs.items():
        n, missing = (0, "not drawable") if isnan(auc) else (50, "")
        found.append(CosyScore(unit, "fox", auc, 1.0, 0.5, 10 * auc, n, missing))
    results.put(told, found)


def test_methods_are_compared_on_the_units_that_all_have_numbers_for(results, tmp_path):
    line = [0.9, 0.95, 0.8, 0.99, 0.7]
    invert = [0.6, 0.7, 0.75, 0.8, 0.65]
    judged(results, "line", "run-1", dict(enumerate([*line, 0.1])))
    judged(results, "invert", "invert.csv", dict(enumerate([*invert, NAN])))
    judged(results, "random", "random.csv", dict.fromkeys(range(5), 0.5))
    report = table1(results.results())
    rows = tables(report)["table1"]
    assert [(row["measure"], row["method"], row["n"]) for row in rows] == [
        (measure, method, 5) for measure in ("AUC", "MAD") for method in ("line", "invert", "random")
    ]
    assert rows[0]["mean"] == pytest.approx(sum(line) / 5)
    assert (rows[1]["test"], rows[1]["p"]) == ("paired t", pytest.approx(stats.ttest_rel(line, invert).pvalue))
    ps = [row["p"] for row in rows if row["p"] is not None]
    assert [row["Holm p"] for row in rows if row["p"] is not None] == pytest.approx(holm_correction(ps))
    own = {row["method"]: row for row in tables(report)["table1-own-units"]}
    assert (own["invert"]["units"], own["invert"]["not drawable"]) == (6, 1)
    assert own["line"]["AUC mean"] == pytest.approx((sum(line) + 0.1) / 6)
    assert {path.suffix for path in write_report(report, tmp_path / "out")} == {".csv", ".md", ".png", ".svg"}


def test_of_several_runs_the_newest_is_the_reference_unless_one_is_named_first(results):
    judged(results, "line", "run-1", {0: 0.9, 1: 0.8, 2: 0.7})
    judged(results, "line", "run-2", {0: 0.5, 1: 0.5, 2: 0.6})
    newest = tables(table1(results.results()))["table1"]
    assert [row["method"] for row in newest[:2]] == ["line (run-2)", "line (run-1)"]
    named = tables(table1(results.results(), ["run-1", "run-2"]))["table1"]
    assert [row["method"] for row in named[:2]] == ["line (run-1)", "line (run-2)"]


def test_numbers_on_other_weights_or_images_of_the_same_name_are_not_compared(results):
    judged(results, "line", "run-1", {0: 0.9, 1: 0.8, 2: 0.7}, control_id="before")
    judged(results, "invert", "invert.csv", {0: 0.5, 1: 0.6, 2: 0.65}, control_id="before")
    judged(results, "line", "run-1", {0: 0.1, 1: 0.2, 2: 0.3}, control_id="now")
    judged(results, "random", "random.csv", {0: 0.5, 1: 0.5, 2: 0.5}, control_id="now")
    report = table1(results.results())
    rows = [row for row in tables(report)["table1"] if row["measure"] == "AUC"]
    assert [(row["method"], row["mean"]) for row in rows] == [
        ("line", pytest.approx(0.8)),
        ("invert", pytest.approx(1.75 / 3)),
        ("line", pytest.approx(0.2)),
        ("random", pytest.approx(0.5)),
    ]
    assert report.notes[0] == (
        "The control set of net:x head changed between evaluations, so these are not compared with each "
        "other: line, invert; line, random. Evaluate them together: `line eval cosy RUN METHOD=FILE ...`."
    )


def test_a_method_without_numbers_for_some_units_takes_none_from_the_other_pairs(results, tmp_path):
    judged(results, "line", "run-1", {0: 0.9, 1: 0.8, 2: 0.7, 3: 0.9})
    judged(results, "invert", "invert.csv", {0: 0.5, 1: 0.6, 2: 0.65, 3: NAN})
    judged(results, "random", "random.csv", {0: NAN, 1: NAN, 2: NAN, 3: 0.5})
    report = table1(results.results())
    found = tables(report)
    assert not found["table1"]
    assert [(row["measure"], row["method"], row["n"]) for row in found["table1-pairs"]] == [
        ("AUC", "invert", 3), ("AUC", "random", 1), ("MAD", "invert", 3), ("MAD", "random", 1),
    ]  # fmt: skip
    assert report.notes[0] == "No unit of net:x head has numbers for all of: line, invert, random."
    assert "table1.md" in {path.name for path in write_report(report, tmp_path / "out")}


def test_units_that_people_steered_are_left_out_and_named(results, tmp_path):
    store = RunStore(tmp_path)
    run = add(store, "run-1")
    steer(store, "run-1", 3, "try", "owl")
    judged(results, "line", "run-1", {0: 0.9, 1: 0.8, 2: 0.7, 3: 0.1})
    judged(results, "invert", "invert.csv", {0: 0.5, 1: 0.6, 2: 0.65, 3: 0.9})
    report = table1(results.results(), runs={"run-1": (run, applied_kinds(store, "run-1"))})
    rows = tables(report)
    assert {row["n"] for row in rows["table1"]} == {3}
    assert rows["table1"][0]["mean"] == pytest.approx(0.8)
    assert {row["method"]: row["units"] for row in rows["table1-own-units"]} == {"line": 3, "invert": 4}
    assert report.notes[-1] == "Steered units of run run-1: 3 (try)."


def test_layers_stand_apart(results):
    judged(results, "line", "run-1", {0: 0.9, 1: 0.8})
    judged(results, "line", "run-2", {5: 0.9, 6: 0.8}, layer="body")
    assert [row["layer"] for row in tables(table1(results.results()))["table1"]] == [
        "body",
        "body",
        "head",
        "head",
    ]


def test_nothing_and_nothing_in_common_are_refused(results):
    with pytest.raises(UsageError, match="line eval cosy"):
        table1([])
    judged(results, "line", "run-1", {0: 0.9})
    judged(results, "invert", "x.csv", {1: 0.9})
    with pytest.raises(UsageError, match="no unit in common"):
        table1(results.results())
    with pytest.raises(UsageError, match="'nobody' was not evaluated"):
        table1(results.results(), ["nobody"])


def test_a_method_may_be_named_before_its_labels_as_it_was_when_they_were_judged(results, tmp_path):
    judged(results, "line", "run-1", {0: 0.9, 1: 0.8, 2: 0.7})
    judged(results, "invert", "x.csv", {0: 0.9, 1: 0.6, 2: 0.5})
    judged(results, "third", "x.csv", {0: 0.8, 1: 0.7, 2: 0.6})
    judged(results, "random", "y.csv", {0: 0.5, 1: 0.5, 2: 0.5})

    def methods(*sources):
        return {row["method"] for row in tables(eval_tables.table1(tmp_path, sources))["table1"]}

    assert methods("run-1", "third=x.csv") == {"line", "third"}
    assert methods("run-1", "third=x.csv", "invert=x.csv") == {"line", "third", "invert"}
    assert methods("run-1", "x.csv", "random=y.csv") == {"line", "third", "invert", "random"}
    with pytest.raises(UsageError, match=r"'milan=x\.csv' was not evaluated"):
        methods("run-1", "milan=x.csv")


def test_people_read_plain_headings_and_files_keep_theirs():
    table = Table("asked", "Steering commands", ("asked", "what came of it"), (("pin", "pinned"),))
    assert as_csv(table).decode().splitlines() == ["asked,what came of it", "pin,pinned"]
    assert "| command | outcome |" in as_markdown(Report("trace", "Trace", (table,)))
