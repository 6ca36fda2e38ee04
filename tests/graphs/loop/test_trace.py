"""The paper's trace of ResNet50 layer4 unit 252 (appendix E, tables 6 and 7), replayed."""

import pytest

from line_neurons.eval.reports.unit_trace import report
from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.tools.store.records import Run
from support.fakes import LAYER, ScriptedModel, ScriptedTarget, scripted_components

INITIAL = {
    "harvester": 0.88,
    "hartebeest": 0.78,
    "thresher": 0.74,
    "wreck": 0.51,
    "trailer truck": 0.43,
    "capuchin": 0.29,
    "ant": 0.17,
    "hard disc": 0.12,
    "hoopskirt": 0.10,
    "oil filter": 0.06,
}
STEPS = [
    ("harvesting machine", 1.09),
    ("reaper", 0.37),
    ("cutting tool", 0.39),
    ("reap", 0.43),
    ("harvest", 0.33),
    ("gatherer", 1.33),
    ("separation", 0.39),
    ("threshing", 0.98),
    ("debris removal", 0.71),
    ("separation", 0.32),
    ("farming", 0.52),
]
# Who leaves at each step by the rule "a score above the lowest replaces the lowest", worked out by hand.
LEAVERS = [
    "oil filter",
    "hoopskirt",
    "hard disc",
    "ant",
    "capuchin",
    "harvest",
    "reaper",
    "separation",
    "cutting tool",
]


@pytest.fixture(scope="module")
def replayed(tmp_path_factory):
    scores = {**INITIAL, **dict(STEPS), "separation": [0.39, 0.32]}
    model = ScriptedModel([concept for concept, _ in STEPS])
    components = scripted_components(
        tmp_path_factory.mktemp("store"),
        model,
        target=ScriptedTarget(scores),
        classes=list(INITIAL),
        duplicates="accept",
        seed=0,
    )
    run = work(components, start(components, LAYER, ["0"]))
    return components.runs.units(run.id)[0], components.runs.steps(run.id, 0), model


def test_the_first_board_is_the_papers(replayed):
    _, steps, _ = replayed
    board = steps[0].board
    assert [concept for concept, _ in board] == list(INITIAL)
    assert [score for _, score in board] == pytest.approx(list(INITIAL.values()))


def test_the_history_is_the_papers_with_the_duplicate_scored_again(replayed):
    _, steps, _ = replayed
    walked = [(step.concept, step.score) for step in steps if step.step]
    assert [concept for concept, _ in walked] == [concept for concept, _ in STEPS]
    assert [score for _, score in walked] == pytest.approx([score for _, score in STEPS])
    assert [step.step for step in steps if step.step] == list(range(1, 12))
    assert steps[-1].kind == "summary"


def test_the_board_walks_as_the_rule_says(replayed):
    _, steps, _ = replayed
    board = dict(INITIAL)
    for step, leaver, (concept, score) in zip(
        [s for s in steps if s.step], LEAVERS, STEPS[: len(LEAVERS)], strict=False
    ):
        del board[leaver]
        board[concept] = score
        assert step.removed == leaver
        assert dict(step.board) == pytest.approx(board)


def test_a_low_score_takes_the_place_of_one_that_is_not_the_best(replayed):
    _, steps, _ = replayed
    before, after = steps[-3].board, steps[-2].board
    assert steps[-2].removed in dict(before)
    assert steps[-2].removed != "gatherer"
    assert len(after) == 10
    assert dict(after)["separation"] == pytest.approx(0.32)


def test_the_label_is_gatherer_of_step_6(replayed):
    unit, _, _ = replayed
    assert (unit.label, unit.label_step, unit.origin, unit.discovered) == ("gatherer", 6, "proposed", True)
    assert unit.score == pytest.approx(1.33)
    assert unit.margin == pytest.approx(1.33 - 0.88)


def test_the_summary_was_asked_over_the_top_three(replayed):
    _, _, model = replayed
    request = model.asked[-1][0].messages[-1].content
    for concept in ("1.33 gatherer", "1.09 harvesting machine", "0.98 threshing"):
        assert concept in request
    assert "0.88 harvester" not in request


def test_every_question_forbids_what_was_proposed_and_fell_off_the_board(replayed):
    _, _, model = replayed
    request = model.asked[8][0].messages[-1].content
    forbidden = next(line for line in request.splitlines() if line.startswith("Forbidden"))
    assert {"reaper", "harvest", "separation"} <= set(forbidden.removeprefix("Forbidden: ").split(", "))


def test_the_tables_of_the_trace_are_the_papers(replayed):
    unit, steps, _ = replayed
    run = Run(unit.run, "torchvision:resnet50", "layer4", 0, "finished", 0.0, {}, {}, {})
    first, walk, last = report(run, unit, steps).tables
    assert {concept: (score, winner) for concept, score, winner in first.rows} == {
        concept: (pytest.approx(score), "") for concept, score in INITIAL.items()
    }
    rows = [dict(zip(walk.headings, row, strict=True)) for row in walk.rows]
    assert [(row["step"], row["concept"]) for row in rows] == [
        (str(step) if step < 11 else "S", concept) for step, (concept, _) in enumerate(STEPS, 1)
    ]
    assert [row["score"] for row in rows] == pytest.approx([score for _, score in STEPS])
    assert [row["step"] for row in rows if row["winner"]] == ["6"]
    assert [row["replaced"] for row in rows[: len(LEAVERS)]] == LEAVERS
    assert rows[0]["board before"].startswith("harvester 0.88; hartebeest 0.78")
    assert rows[0]["board after"].startswith("harvesting machine 1.09; harvester 0.88")
    assert rows[5]["reasoning"] == "because of gatherer"
    assert last.rows[0] == ("gatherer", True, "proposed", "6", pytest.approx(1.33), "*")
