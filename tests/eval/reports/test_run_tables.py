"""Tables and figures from histories that were made up, against what was worked out by hand."""

import csv
import io
import json
from dataclasses import replace
from random import Random

import pytest

from line_neurons.agent.errors import UsageError
from line_neurons.eval.reports.histories import by_layer, histories
from line_neurons.eval.reports.run_comparison import comparison
from line_neurons.eval.reports.statistics import compare, wilson_interval
from line_neurons.eval.reports.step_curves import steps
from line_neurons.eval.reports.table import Report, Table, as_csv, as_markdown, write_report
from line_neurons.eval.reports.unit_trace import trace
from line_neurons.eval.reports.winner_table import winners
from line_neurons.tools.store.results.evaluations import CosyScore, Evaluation, Result
from line_neurons.tools.store.runs import RunStore
from support.table_runs import LAYER, MODEL, SEARCHES, add, steer, tables


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "store")


def test_generated_winners_are_counted_with_their_interval(store):
    add(store, "a")
    row = tables(winners(histories(store, ["a"])))["winners"][0]
    assert (row["units"], row["predefined"], row["generated"], row["share"]) == (4, 1, 3, 0.75)
    assert (row["proposed"], row["summary"], row["revisit"], row["discovered"]) == (2, 1, 0, 3)
    assert (row["low"], row["high"]) == wilson_interval(3, 4)
    assert row["margin mean"] == pytest.approx((2 + 2 + 0 + 0.5) / 4)


def test_a_label_that_a_revisit_found_is_generated_if_it_is_new(store):
    add(store, "a")
    store.update_unit("a", 0, origin="revisit", discovered=False)
    store.update_unit("a", 1, origin="revisit", discovered=True)
    row = tables(winners(histories(store, ["a"])))["winners"][0]
    assert (row["generated"], row["predefined"], row["revisit"]) == (2, 2, 2)


def test_a_label_that_a_person_typed_is_neither_predefined_nor_generated(store):
    add(store, "a")
    store.update_unit("a", 0, origin="typed")
    row = tables(winners(histories(store, ["a"])))["winners"][0]
    assert (row["generated"], row["predefined"], row["typed"]) == (2, 1, 1)


def test_what_a_revisit_found_where_a_person_typed_it_is_a_persons_too(store):
    add(store, "a")
    (typed,) = (step for step in store.steps("a", 0) if step.concept == "step 3")
    store.put_step(replace(typed, origin="typed"))
    found = {"origin": "revisit", "label": "step 3", "found_in": "a", "discovered": True}
    store.update_unit("a", 1, **found, found_by=0)
    store.update_unit("a", 2, **found, found_by=3)
    row = tables(winners(histories(store, ["a"])))["winners"][0]
    assert (row["typed"], row["generated"], row["revisit"]) == (1, 3, 1)


def test_units_that_people_steered_are_named_and_what_was_refused_steers_nothing(store):
    add(store, "a")
    steer(store, "a", 0, "try", "owl")
    steer(store, "a", 0, "ban", "step 1")
    steer(store, "a", 3, "again", outcome="refused: nothing was in hand")
    report = winners(histories(store, ["a"]))
    assert tables(report)["winners"][0]["steered"] == 1
    assert report.notes == ("Steered units of run a: 0 (try, ban).",)


def test_a_fork_is_named_and_its_unit_counted_once(store):
    add(store, "a")
    run = add(store, "b", {2: SEARCHES[2]})
    store.update_run(run.id, forked_from="a", forked_unit=2, forked_step=1)
    report = winners(histories(store, ["a", "b"]))
    assert [(row["run"], row["units"]) for row in tables(report)["winners"]] == [("a", 4), ("b", 1), ("all", 4)]
    assert report.notes == ("Run b is a fork: up to step 1 it is unit 2 of run a.",)


def test_searches_that_people_steered_say_nothing_of_the_steps(store):
    add(store, "a")
    steer(store, "a", 0, "pin", "step 1")
    report = steps(histories(store, ["a"]))
    assert {row["step"]: row["a (n = 3)"] for row in tables(report)["winner-steps"]}["3"] == 0
    assert [row["n"] for row in tables(report)["best-by-step"]] == [3] * 4
    assert report.notes[1:] == ("Steered units of run a: 0 (pin).",)
    for unit in (1, 2, 3):
        steer(store, "a", unit, "pin", "step 1")
    with pytest.raises(UsageError, match="every finished unit of run a was steered"):
        steps(histories(store, ["a"]))


def test_a_trace_tells_what_people_typed_and_asked_and_a_banned_concept_is_not_its_label(store):
    add(store, "a")
    (typed,) = (step for step in store.steps("a", 0) if step.concept == "step 2")
    store.put_step(replace(typed, origin="typed"))
    steer(store, "a", 0, "ban", "step 3")
    report = trace(store, "a", "0")
    found = tables(report)
    walked = [(row["concept"], row["origin"], row["winner"]) for row in found["trace-steps"]]
    assert walked[1:3] == [("step 2", "typed", "*"), ("step 3", "proposed", "")]
    assert [tuple(row.values()) for row in found["trace-asked"]] == [(1, "ban", "step 3", "applied: granted")]
    assert report.notes[0] == "Label: step 2, score 2, step 2."


def test_layers_stand_apart_and_together_and_the_papers_table_beside_them_if_asked(store):
    add(store, "a")
    add(store, "b", llm="random")
    add(store, "c", layer="body")
    found = tables(winners(histories(store, ["c", "b", "a"]), paper=True))
    assert [(row["layer"], row["run"], row["units"]) for row in found["winners"]] == [
        ("body", "c", 4), ("head", "b", 4), ("head", "a", 4), ("head", "all", 8), ("", "all", 12),
    ]  # fmt: skip
    assert [row["generated"] for row in found["winners-paper"]] == [13, 19, 37, 39, 16, 18, 66, 76]


def test_winners_appear_at_the_steps_of_the_histories(store):
    add(store, "a")
    found = tables(steps(histories(store, ["a"])))
    counted = {row["step"]: row["a (n = 4)"] for row in found["winner-steps"]}
    assert counted == {"0": 1, "1": 1, "2": 0, "3": 1, "S": 1}


def test_a_shorter_search_is_the_beginning_of_a_longer_one(store):
    longer = {0: (1.0, [0.0, 0.0, 0.0, 0.0, 0.0, 9.0], 0.0), 1: (1.0, [2.0, 0.0, 0.0, 0.0, 0.0, 0.0], 3.0)}
    add(store, "a", longer)
    found = tables(steps(histories(store, ["a"])))
    assert [(row["N"], row["summary"], row["mean"], row["generated"]) for row in found["lengths"]] == [
        (0, False, 1.0, 0.0),
        (5, False, 1.5, 0.5),
        (6, False, 5.5, 1.0),
        (6, True, 6.0, 1.0),
    ]
    assert [row["mean"] for row in found["best-by-step"]] == [1.0, 1.5, 1.5, 1.5, 1.5, 1.5, 5.5]


def test_a_gain_that_cannot_be_negative_has_no_test_and_asks_for_a_random_proposer(store):
    add(store, "a")
    report = steps(histories(store, ["a"]))
    assert set(tables(report)) == {"winner-steps", "lengths", "best-by-step"}
    assert not [heading for heading in tables(report)["lengths"][0] if heading.rpartition(" ")[2] == "p"]
    assert [row["gain mean"] for row in tables(report)["lengths"]] == [None, (2 + 0 + 0 + 0.5) / 4, 4.5 / 4]
    assert "--llm random" in report.notes[0]


def test_a_run_is_tested_against_the_random_proposer_after_as_many_iterations(store):
    scores = {unit: (1.0, [1.0 + unit] * 6, 0.0) for unit in range(4)}
    add(store, "a", scores)
    add(store, "b", {unit: (1.0, [0.0] * 5, 0.0) for unit in (0, 1, 2)}, llm="random", seed=3)
    report = steps(histories(store, ["a", "b"]))
    (row,) = tables(report)["lengths-tests"]
    expected = compare([1.0, 2.0, 3.0], [1.0, 1.0, 1.0])
    assert (row["N"], row["summary"], row["n"], row["difference"]) == (5, False, 3, 1.0)
    assert row["p"] == expected.p
    assert report.notes[0].endswith("differ in more than the proposer: seed.")


def test_two_random_proposers_differ_beyond_chance_about_as_often_as_chance_has_it(store):
    drawn = Random(7)
    significant = 0
    for sample in range(40):
        for name, llm in ((f"a{sample}", "embedded"), (f"b{sample}", "random")):
            noise = {
                unit: (drawn.gauss(0, 1), [drawn.gauss(0, 1) for _ in range(5)], drawn.gauss(0, 1))
                for unit in range(9)
            }
            add(store, name, noise, llm=llm)
        rows = tables(steps(histories(store, [f"a{sample}", f"b{sample}"])))["lengths-tests"]
        significant += any(row["p"] < 0.05 for row in rows if not row["summary"])
    assert significant <= 6


def test_a_restart_is_no_part_of_a_search_of_n_iterations(store):
    add(store, "a", restarts=1)
    (last,) = [step for step in store.steps("a", 2) if step.kind == "summary"]
    again = {**vars(last), "step": 5, "kind": "initial", "score": 50.0, "concept": "later"}
    store.put_steps([type(last)(**again), type(last)(**{**again, "step": 6, "kind": "iteration", "score": 60.0})])
    curve = tables(steps(histories(store, ["a"])))["best-by-step"]
    assert curve[-1]["mean"] == pytest.approx((3 + 2 + 5 + 1.5) / 4)


def test_runs_over_the_same_units_are_compared_pair_by_pair(store):
    add(store, "a", llm="random")
    better = {
        unit: (first, [score + 1 for score in scores], 0.0)
        for unit, (first, scores, _) in SEARCHES.items()
        if unit != 1
    }
    add(store, "b", {**better, 7: (1.0, [1.0, 1.0, 1.0], 1.0)}, llm="embedded")
    found = tables(comparison(histories(store, ["a", "b"])))
    assert {row["setting"]: (row["random"], row["embedded"]) for row in found["compare-settings"]}["llm"] == (
        "random", "embedded",
    )  # fmt: skip
    score = next(row for row in found["compare-tests"] if row["measure"] == "score")
    expected = compare([4.0, 5.0, 2.5], [3.0, 5.0, 1.5])
    assert (score["n"], score["difference"], score["p"]) == (3, pytest.approx(2 / 3), expected.p)
    assert score["Holm p"] >= score["p"]
    labels = found["compare-labels"][1]
    assert (labels["n"], labels["same label"], labels["scores higher"], labels["scores lower"]) == (3, 3, 2, 0)


@pytest.mark.parametrize(
    ("settings", "tested"),
    [({}, False), ({"summary": False}, False), ({"seed": 1}, True), ({"llm": "random"}, True)],
)
def test_a_search_is_not_tested_against_its_own_beginning(store, settings, tested):
    add(store, "a")
    longer = {unit: (first, [*scores, 9.0], summary) for unit, (first, scores, summary) in SEARCHES.items()}
    add(store, "b", longer, **settings)
    report = comparison(histories(store, ["a", "b"]))
    rows = tables(report)["compare-tests"]
    assert {row["test"] != "none" for row in rows} == {tested}
    assert all(row["difference"] is not None for row in rows)
    assert any("differs only in the length of its search" in note for note in report.notes) is not tested


def test_what_cannot_be_compared_is_refused_in_one_line(store):
    add(store, "a")
    add(store, "b", {9: (1.0, [1.0], 1.0)})
    add(store, "c", layer="body")
    for names, said in ((["a"], "one run"), (["a", "c"], "several layers"), (["a", "b"], "no unit in common")):
        with pytest.raises(UsageError, match=said):
            comparison(histories(store, names))


def test_runs_that_were_judged_on_other_images_of_the_same_name_are_not_compared_by_them(store):
    for name in ("a", "b"):
        add(store, name)

    def result(source, images, when):
        told = Evaluation("line", source, MODEL, LAYER, "photos:x", "x", "fixed", 0, 50, images_id=images)
        judged = [CosyScore(unit.unit, unit.label, 0.9, 1.0, 0.5, 2.0, 50, "") for unit in store.units(source)]
        return Result(told, tuple(judged), when)

    found = histories(store, ["a", "b"])
    before = [result("a", "before", 1.0), result("b", "before", 2.0)]
    for results, measured in ((before, True), ([before[0], result("b", "now", 3.0)], False)):
        measures = {row["measure"] for row in tables(comparison(found, results))["compare-means"]}
        assert ("CoSy AUC" in measures) is measured


def test_runs_are_put_together_by_layer_in_the_order_in_which_layers_are_named(store):
    for name, layer in (("a", "head"), ("b", "body"), ("c", "head")):
        add(store, name, layer=layer)
    assert by_layer(histories(store, ["a", "b", "c"])) == [[0, 2], [1]]


def test_runs_that_differ_in_nothing_that_can_be_said_go_by_their_ids(store):
    add(store, "a")
    add(store, "b")
    assert [row["run"] for row in tables(comparison(histories(store, ["a", "b"])))["compare-labels"]] == ["a", "b"]


def test_files_hold_every_digit_and_text_of_others_is_neither_formula_nor_markup(tmp_path):
    row = ("=1|`x`\n# y", 1 / 3, 2.0, 0.1, float("nan"))
    hostile = Table("t", "a *title*", ("label", "mean", "sd", "low", "high"), (row,))
    report = Report("r", "[t](x)", (hostile,))
    (row,) = csv.DictReader(io.StringIO(as_csv(hostile).decode()))
    assert (row["label"], float(row["mean"]), row["high"]) == ("'=1|`x` # y", 1 / 3, "")
    shown = as_markdown(report)
    assert "=1\\|\\`x\\` \\# y | 0.333 ± 2 [0.1, –] |" in shown  # noqa: RUF001
    assert "[t]\\(x)" in shown


def test_figures_are_written_with_the_same_bytes_each_time_whatever_the_labels_say(store, tmp_path):
    pytest.importorskip("matplotlib")
    add(store, "a", llm="ollama:$x_{1}$ 漢")
    add(store, "b", llm="random")
    report = steps(histories(store, ["a", "b"]))
    first = {path.name: path.read_bytes() for path in write_report(report, tmp_path / "one")}
    assert set(first) == {
        "winner-steps.csv", "lengths.csv", "lengths-tests.csv", "best-by-step.csv", "steps.png", "steps.svg",
        "steps.md",
    }  # fmt: skip
    assert first["steps.png"].startswith(b"\x89PNG")
    assert {path.name: path.read_bytes() for path in write_report(report, tmp_path / "two")} == first


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="--output"):
        write_report(Report("r", "t", ()), tmp_path / "file")


def test_the_commands_print_tables_and_json_and_write_files(line, tmp_path):
    runs = RunStore(tmp_path / "store")
    add(runs, "a")
    add(runs, "b", llm="random")
    for command in (["winners", "a"], ["steps", "a", "b"], ["compare", "a", "b"], ["trace", "a", "0"]):
        status, out, err = line("eval", *command, "-o", tmp_path / "out", "--json")
        assert (status, err) == (0, "")
        told = json.loads(out)
        assert all((tmp_path / path).is_file() for path in told["files"])
        assert line("eval", *command)[0] == 0


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["winners", "none"], "not a run of this store"),
        (["trace", "a", "77"], "run a has no unit '77'"),
        (["table1"], "no labels were evaluated"),
        (["compare", "a"], "one run cannot be compared"),
    ],
)
def test_unfit_input_is_one_line_with_its_remedy(line, tmp_path, command, said):
    add(RunStore(tmp_path / "store"), "a")
    status, out, err = line("eval", *command)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert said in err
