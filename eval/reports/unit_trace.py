"""Tables 3, 6 and 7: the trace of one unit's search, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from line_neurons.agent.concepts import find_duplicate
from line_neurons.agent.errors import UsageError
from line_neurons.eval.reports.histories import steering_notes
from line_neurons.eval.reports.table import Report, Table, number
from line_neurons.tools.steering.outcomes import CommandOutcome, outcomes
from line_neurons.tools.store.records import Run, Step, Unit
from line_neurons.tools.store.runs import RunStore, find_unit
from line_neurons.tools.store.steering_queue import SteeringCommand, banned_concepts, commands

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_OUTCOMES = {"duplicate": "repeated", "invalid": "unusable", "not_drawable": "not drawable", "stalled": "stalled",
             "withdrawn": "given up"}  # fmt: skip
_BOARDS = ("board before", "board after")
_Board = Sequence[tuple[str, float]]


def trace(runs: RunStore, run_name: str, unit_name: str) -> Report:
    """Report a unit's trace: initial scoreboard, every step, last scoreboard.

    Args:
        unit_name: the unit's number or class name.

    Raises:
        UsageError: there is no such run or unit, or nothing was scored for it yet.
    """
    run = runs.run(run_name)
    units = runs.units(run.id)
    unit = find_unit(run, units, unit_name)
    steps = runs.steps(run.id, unit.unit)
    if not any(step.score is not None for step in steps):
        raise UsageError(f"nothing was scored for unit {unit.unit} of run {run.id} yet", f"line resume {run.id}")
    return report(run, unit, steps, commands(runs, run.id, unit.unit))


def report(run: Run, unit: Unit, steps: Sequence[Step], steering: Sequence[SteeringCommand] = ()) -> Report:
    """Report a unit's trace from its history.

    Args:
        steps: its history, with at least one score.
        steering: its steering commands, in order.
    """
    scored = [step for step in steps if step.score is not None]
    banned = banned_concepts((command.kind, command.concept) for command in steering if command.applied)
    may_win = [step for step in scored if not find_duplicate(step.concept or "", banned)]
    winner = max(may_win or scored, key=lambda step: step.score or 0.0)
    first = [step for step in scored if step.kind == "initial" and step.step == 0]
    name = f" ({unit.name})" if unit.name else ""
    title = f"Unit {unit.unit}{name} of {run.target_name} {run.layer}, run {run.id}"
    step_table, last = _steps_table([step for step in steps if step not in first], first, winner)
    tables = [_first_table(first, winner), step_table, _last_table(last, scored, winner)]
    if steering:
        tables.append(_steering_table(outcomes(steering, steps)))
    label = f"Label: {winner.concept}, score {number(winner.score)}, step {winner.name}."
    notes = (label, *steering_notes([(run, {})]))
    return Report("trace", title, tuple(tables), {"trace": lambda: _draw(scored, winner)}, notes)


def _first_table(first: Sequence[Step], winner: Step) -> Table:
    return Table(
        "trace-first-board",
        "Initial scoreboard",
        ("concept", "score", "winner"),
        tuple((step.concept, step.score, _mark(step, winner)) for step in first),
    )


def _steps_table(steps: Sequence[Step], first: Sequence[Step], winner: Step) -> tuple[Table, _Board]:
    """Return the table of the steps after the initial scoreboard, and the last scoreboard."""
    rows = []
    before: _Board = first[-1].board if first else ()
    for step in steps:
        after = step.board or before
        rows.append(
            (
                step.name, step.concept, step.origin, step.score, _outcome(step), step.removed,
                _board(before), _board(after), step.reasoning, _mark(step, winner),
            )
        )  # fmt: skip
        before = after
    table = Table(
        "trace-steps",
        "Steps",
        ("step", "concept", "origin", "score", "outcome", "replaced", *_BOARDS, "reasoning", "winner"),
        tuple(rows),
        "S: summary; R: found by a revisit. Origin: proposed or summed up by the language model, predefined, or "
        "typed by the user, which is not generated.",
        _BOARDS,
    )
    return table, before


def _last_table(board: _Board, scored: Sequence[Step], winner: Step) -> Table:
    origins = {step.concept: step for step in reversed(scored)}
    return Table(
        "trace-last-board",
        "Last scoreboard",
        ("concept", "generated", "origin", "step", "score", "winner"),
        tuple(
            (concept, _generated(origins[concept]), origins[concept].origin, origins[concept].name, score,
             "*" if concept == winner.concept else "")
            for concept, score in board
            if concept in origins
        ),
    )  # fmt: skip


def _steering_table(commands: Sequence[CommandOutcome]) -> Table:
    return Table(
        "trace-asked",
        "Steering commands",
        ("step", "asked", "concept", "what came of it"),
        tuple((row.command.step, row.command.kind, row.command.concept, str(row)) for row in commands),
        "Step: the current one when the command was applied. Settings and seed alone do not reproduce the search.",
    )


def _generated(step: Step) -> bool:
    """Return whether the language model or another unit's search proposed a concept."""
    return step.kind != "initial" and step.origin != "typed"


def _mark(step: Step, winner: Step) -> str:
    return "*" if step is winner else ""


def _outcome(step: Step) -> str:
    return _OUTCOMES.get(step.outcome, "")


def _board(board: _Board) -> str:
    return "; ".join(f"{concept} {number(score)}" for concept, score in board)


def _draw(scored: Sequence[Step], winner: Step) -> Figure:
    from line_neurons.eval.reports.figures import COLOURS, panels, shortened

    walked = [step for step in scored if not (step.kind == "initial" and step.step == 0)]
    first = [step for step in scored if step.kind == "initial" and step.step == 0]
    figure, ((axes,),) = panels(1, 1, 2.9)
    axes.plot(
        [0] * len(first), [step.score or 0.0 for step in first], "o", color=COLOURS[1], label="initial scoreboard"
    )
    places = list(range(1, len(walked) + 1))
    for typed, name, mark, colour in (
        (False, "generated", "s", COLOURS[0]),
        (True, "typed by the user", "D", COLOURS[3]),
    ):
        own = [
            (at, step.score or 0.0)
            for at, step in zip(places, walked, strict=True)
            if (step.origin == "typed") is typed
        ]
        if own:
            axes.plot(*zip(*own, strict=True), mark, color=colour, label=name)
    best = max((step.score or 0.0 for step in first), default=float("-inf"))
    running = [best]
    for step in walked:
        running.append(max(running[-1], step.score or 0.0))
    axes.step([0, *places], running, where="post", color="#555555", linewidth=1, label="best so far")
    at = 0 if winner in first else places[walked.index(winner)]
    axes.plot(
        [at], [winner.score or 0.0], "o", markersize=10, markerfacecolor="none", color="#000000", label="label"
    )
    names = [f"{step.name}  {shortened(step.concept or '', 24)}" for step in walked]
    axes.set_xticks([0, *places], ["initial", *names], rotation=35, ha="right")
    axes.set_ylabel("score")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure
