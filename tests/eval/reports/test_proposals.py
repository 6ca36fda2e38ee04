"""What proposals were worth, in histories that were made up, against what was worked out by hand."""

import pytest

from line_neurons.eval.reports.histories import histories
from line_neurons.eval.reports.proposals import proposals, proposer_stats
from line_neurons.eval.reports.statistics import compare
from line_neurons.eval.reports.table import write_report
from line_neurons.tools.store.records import Step, Unit
from line_neurons.tools.store.runs import RunStore
from support.table_runs import add, steer, tables

# The first board of a made-up unit is its best score, and that less one.
GOOD = {0: (1.0, [0.5, 2.0, 3.0], 0.1), 1: (2.0, [1.0, 1.5, 4.0], 1.2), 2: (5.0, [4.5, 6.0, 4.0], 5.5)}
POOR = {unit: (initial, [0.0, 0.0, 0.0], 0.0) for unit, (initial, _, _) in GOOD.items()}


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "store")


def told(store, *names):
    found = histories(store, names)
    return proposals(
        found, {one.run.id: [store.steps(one.run.id, unit) for unit in one.searches] for one in found}
    )


def test_the_proposers_shares_are_read_off_the_history():
    history = [
        Step("r", 0, 0, 0, "initial", "scored", "a", 2.0),
        Step("r", 0, 1, 0, "iteration", "invalid", seconds=1.0, seed=1),
        Step("r", 0, 1, 1, "iteration", "duplicate", "a", seconds=1.0, seed=2),
        Step("r", 0, 1, 2, "iteration", "not_drawable", "b", seconds=1.0, seed=3),
        Step("r", 0, 1, 3, "iteration", "scored", "c", 3.0, seconds=3.0, seed=4),
        Step("r", 0, 2, 1, "iteration", "stalled", seconds=0.0),
    ]
    read = proposer_stats([history], [Unit("r", 0, 0, origin="proposed")])
    assert (read.requests, read.valid, read.new, read.drawable) == (4, 0.75, 0.5, 0.25)
    assert (read.stalled, read.seconds, read.best, read.won) == (0.5, 1.5, 0.5, 1.0)


def test_proposals_are_held_against_the_first_board_and_all_before_them(store):
    add(store, "a", {0: GOOD[0]})
    rows = {row["measure"]: row["mean"] for row in tables(told(store, "a"))["proposals"]}
    assert rows == {
        "best of the first board": 1.0,
        "a proposal": pytest.approx(5.6 / 4),
        "share of the first board that it beats": pytest.approx((0.5 + 1 + 1 + 0.5) / 4),
        "share of proposals that take the lead": 0.5,
    }


def test_runs_are_held_against_the_first_of_their_layer_unit_by_unit(store, tmp_path):
    add(store, "poor", POOR)
    add(store, "elsewhere", GOOD, layer="body")
    add(store, "good", GOOD)
    report = told(store, "poor", "elsewhere", "good")
    rows = tables(report)["proposal-tests"]
    assert {(row["layer"], row["n"]) for row in rows} == {("head", 3)}
    (proposed,) = (row for row in rows if row["measure"] == "a proposal")
    own = [(sum(scores) + summary) / 4 for _, scores, summary in GOOD.values()]
    assert proposed["difference"] == pytest.approx(sum(own) / 3)
    assert proposed["p"] == pytest.approx(compare(own, [0.0] * 3).p)
    assert {path.suffix for path in write_report(report, tmp_path / "out")} == {".csv", ".md", ".png", ".svg"}


def test_runs_of_different_lengths_are_held_against_each_other_over_as_many_iterations(store):
    add(store, "short", GOOD)
    longer = {unit: (first, [*scores, *[0.0] * 20], summary) for unit, (first, scores, summary) in GOOD.items()}
    add(store, "long", longer)
    rows = tables(told(store, "short", "long"))["proposal-tests"]
    assert {row["measure"]: row["difference"] for row in rows} == dict.fromkeys(
        (row["measure"] for row in rows), 0.0
    )


def test_a_search_without_proposals_counts_for_its_first_board_alone(store):
    add(store, "a", {0: GOOD[0]})
    add(store, "none", {0: (1.0, [], 0.1)}, summary=False)
    store.put_steps([Step("none", 0, 1, 0, "summary", "stalled", score=None)])
    rows = {row["measure"]: row["n"] for row in tables(told(store, "none"))["proposals"]}
    assert rows == {"best of the first board": 1, "a proposal": 0} | dict.fromkeys(
        ["share of the first board that it beats", "share of proposals that take the lead"], 0
    )


def test_searches_that_people_steered_are_left_out(store):
    add(store, "a", GOOD)
    steer(store, "a", 1, "try", "owl")
    report = told(store, "a")
    assert set(tables(report)) == {"questions", "proposals"}
    assert {row["n"] for row in tables(report)["proposals"]} == {2}
    assert [row["n"] for row in tables(report)["questions"]] == [2]
    assert report.notes == ("Steered units of run a: 1 (try).",)
