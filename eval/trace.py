"""Tables 3, 6 and 7: the way of one unit's search, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from line_neurons.agent.errors import UsageError
from line_neurons.eval.tables import Report, Table, number
from line_neurons.tools.run_store import Run, RunStore, Step, Unit
from line_neurons.tools.targets.registry import short_spec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_OUTCOMES = {"duplicate": "repeated", "invalid": "unusable", "not_drawable": "not drawable", "stalled": "stalled"}
_BOARDS = ("board before", "board after")
_Board = Sequence[tuple[str, float]]


def step_name(step: Step) -> str:
    """How papers call a step: S for the summary, R for a revisit, 0 for the first board."""
    return {"summary": "S", "revisit": "R"}.get(step.kind, str(step.step))


def trace(runs: RunStore, run_name: str, unit_name: str) -> Report:
    """The trace of a unit: first board, every step, last board.

    Args:
        runs: the store.
        run_name: the run, or the beginning of its name.
        unit_name: the unit's number or class name.

    Raises:
        UsageError: there is no such run or unit, or nothing was scored for it yet.
    """
    run = runs.run(run_name)
    units = runs.units(run.id)
    found = [one for one in units if unit_name == str(one.unit)] or [
        one for one in units if one.name and one.name.casefold() == unit_name.casefold()
    ]
    if not found:
        known = ", ".join(str(one.unit) for one in units[:5])
        raise UsageError(f"{unit_name!r:.60} is no unit of run {run.id}", f"it has {known} ...")
    unit = found[0]
    steps = runs.steps(run.id, unit.unit)
    if not any(step.score is not None for step in steps):
        raise UsageError(f"nothing was scored for unit {unit.unit} of run {run.id} yet", f"line resume {run.id}")
    return report(run, unit, steps)


def report(run: Run, unit: Unit, steps: Sequence[Step]) -> Report:
    """The trace of a unit from its history."""
    scored = [step for step in steps if step.score is not None]
    winner = max(scored, key=lambda step: step.score or 0.0)
    first = [step for step in scored if step.kind == "initial" and step.step == 0]
    name = f" ({unit.name})" if unit.name else ""
    title = f"Unit {unit.unit}{name} of {short_spec(run.model)} {run.layer}, run {run.id}"
    board = Table(
        "trace-first-board",
        "First board",
        ("concept", "score", "winner"),
        tuple((step.concept, step.score, _mark(step, winner)) for step in first),
    )
    rows = []
    before: _Board = first[-1].board if first else ()
    for step in steps:
        if step in first:
            continue
        after = step.board or before
        rows.append(
            (
                step_name(step), step.concept, step.score, _outcome(step), step.removed,
                _board(before), _board(after), step.reasoning, _mark(step, winner),
            )
        )  # fmt: skip
        before = after
    headings = (
        "step", "concept", "score", "outcome", "replaced", *_BOARDS, "reasoning", "winner",
    )  # fmt: skip
    walk = Table("trace-steps", "Steps", headings, tuple(rows), "S: summary; R: found by a revisit.", _BOARDS)
    origins = {step.concept: step for step in reversed(scored)}
    last = Table(
        "trace-last-board",
        "Last board",
        ("concept", "generated", "step", "score", "winner"),
        tuple(
            (concept, origins[concept].kind != "initial", step_name(origins[concept]), score,
             "*" if concept == winner.concept else "")
            for concept, score in before
            if concept in origins
        ),
    )  # fmt: skip
    said = f"Label: {winner.concept}, score {number(winner.score)}, step {step_name(winner)}."
    return Report("trace", title, (board, walk, last), {"trace": lambda: _draw(scored, winner)}, (said,))


def _mark(step: Step, winner: Step) -> str:
    return "*" if step is winner else ""


def _outcome(step: Step) -> str:
    return _OUTCOMES.get(step.outcome, "")


def _board(board: _Board) -> str:
    return "; ".join(f"{concept} {number(score)}" for concept, score in board)


def _draw(scored: Sequence[Step], winner: Step) -> Figure:
    from line_neurons.eval.figures import COLOURS, name_of, panels

    walked = [step for step in scored if not (step.kind == "initial" and step.step == 0)]
    first = [step for step in scored if step.kind == "initial" and step.step == 0]
    figure, ((axes,),) = panels(1, 1, 2.9)
    axes.plot([0] * len(first), [step.score or 0.0 for step in first], "o", color=COLOURS[1], label="first board")
    places = list(range(1, len(walked) + 1))
    axes.plot(places, [step.score or 0.0 for step in walked], "s", color=COLOURS[0], label="generated")
    best = max((step.score or 0.0 for step in first), default=float("-inf"))
    running = [best]
    for step in walked:
        running.append(max(running[-1], step.score or 0.0))
    axes.step([0, *places], running, where="post", color="#555555", linewidth=1, label="best so far")
    at = 0 if winner in first else places[walked.index(winner)]
    axes.plot(
        [at], [winner.score or 0.0], "o", markersize=10, markerfacecolor="none", color="#000000", label="label"
    )
    names = [f"{step_name(step)}  {name_of(step.concept or '', 24)}" for step in walked]
    axes.set_xticks([0, *places], ["first board", *names], rotation=35, ha="right")
    axes.set_ylabel("score")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure
