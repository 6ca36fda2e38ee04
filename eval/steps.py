"""Figure 5: at which step the winner appears, and how the best score grows with the iterations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from line_neurons.eval.histories import History, by_layer, told_apart, told_steering
from line_neurons.eval.statistics import Summary, compare, holm, summarise
from line_neurons.eval.tables import PAIRED, SUMMARY, Report, Table, paired_cells, summary_cells

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LENGTHS = (0, 5, 10, 20)
"""Searches of so many iterations are read off longer ones."""
MOST = 20
"""Iterations that are drawn."""


def winning_step(history: History, unit: int, most: int = MOST) -> str:
    """The step of a unit's winner: 0 for the first board, S for the summary."""
    trial = history.searches[unit].best_within(most, summary=True)
    return "S" if trial.kind == "summary" else str(trial.step)


def best_scores(history: History, iterations: int, *, summary: bool = False) -> list[float]:
    """The best score of each unit within so many iterations, in the order of the units."""
    found = (search.best_within(iterations, summary=summary) for search in history.searches.values())
    return [float(trial.score or 0.0) for trial in found]


def step_names(histories: Sequence[History]) -> list[str]:
    """The steps that runs have, the first board before and the summary behind."""
    longest = min(MOST, max(history.iterations for history in histories))
    return [*map(str, range(longest + 1)), "S"]


def steps(histories: Sequence[History]) -> Report:
    """At which step winners appear, and what shorter searches would have found.

    Searches that people steered say nothing of how the method goes, and are left out.

    Raises:
        UsageError: of a run no search is left.
    """
    notes = told_steering([(one.run, one.steered) for one in histories])
    histories = [one.unsteered() for one in histories]
    labels = told_apart([one.run for one in histories])
    names = step_names(histories)
    counted = {label: dict.fromkeys(names, 0) for label in labels}
    for label, one in zip(labels, histories, strict=True):
        for unit in one.searches:
            counted[label][winning_step(one, unit)] += 1
    appears = Table(
        "winner-steps",
        "At which step the winner appears",
        ("step", *(f"{label} (n = {len(one.searches)})" for label, one in zip(labels, histories, strict=True))),
        tuple((name, *(counted[label][name] for label in labels)) for name in names),
        "Units by the step of their best concept; 0: the first board, S: the summary. Steps of the search before "
        f"its first restart and up to {MOST}; searches that people steered are left out of all tables.",
    )
    rows = []
    for label, one in zip(labels, histories, strict=True):
        rows += _lengths(label, one)
    lengths = Table(
        "lengths",
        "What searches of N iterations find",
        ("run", "N", "summary", "n", *SUMMARY, "generated", *(f"gain {name}" for name in PAIRED), "Holm p"),
        tuple(rows),
        "Best score of a unit: mean, standard deviation, 95 % bootstrap interval of the mean; generated: share of "
        "units whose best concept was not on the first board. Gain: against N = 0 of the same run, pair by pair "
        "(Shapiro-Wilk, then paired t-test or Wilcoxon), with Holm's correction over the rows of the run. Shorter "
        "searches are the beginnings of the run's own; the summary belongs to the whole.",
    )
    curves = Table(
        "best-by-step",
        "Mean best score by iteration",
        ("run", "iteration", "n", *SUMMARY),
        tuple(
            (label, step, found.n, *summary_cells(found))
            for label, one in zip(labels, histories, strict=True)
            for step, found in enumerate(_curve(one))
        ),
    )
    return Report(
        "steps",
        "How many iterations are worth it",
        (appears, lengths, curves),
        {"steps": lambda: _draw(histories, labels, names, counted)},
        notes,
    )


def _curve(history: History) -> list[Summary]:
    last = min(MOST, history.iterations)
    return [summarise(best_scores(history, step)) for step in range(last + 1)]


def _lengths(label: str, history: History) -> list[tuple[object, ...]]:
    kept = [length for length in LENGTHS if length <= history.iterations]
    wanted = [(length, False) for length in dict.fromkeys([*kept, history.iterations])]
    if any(trial.kind == "summary" for search in history.searches.values() for trial in search.trials):
        wanted.append((history.iterations, True))
    start = best_scores(history, 0)
    found = [(length, summary, best_scores(history, length, summary=summary)) for length, summary in wanted]
    gains = [compare(scores, start) for _, _, scores in found[1:]]
    corrected = holm([gain.p for gain in gains])
    rows = []
    for place, (length, summary, scores) in enumerate(found):
        told = summarise(scores)
        winners = [one.best_within(length, summary=summary) for one in history.searches.values()]
        generated = sum(winner.kind != "initial" for winner in winners) / len(winners)
        gain = (*paired_cells(gains[place - 1]), corrected[place - 1]) if place else (None,) * (len(PAIRED) + 1)
        rows.append((label, length, summary, told.n, *summary_cells(told), generated, *gain))
    return rows


def _draw(
    histories: Sequence[History],
    labels: Sequence[str],
    names: Sequence[str],
    counted: dict[str, dict[str, int]],
) -> Figure:
    from line_neurons.eval.figures import COLOURS, MARKS, curve, name_of, panels

    groups = by_layer(histories)
    figure, grid = panels(len(groups), 2, 2.5)
    for group, (left, right) in zip(groups, grid, strict=True):
        place = " ".join(histories[group[0]].place)
        width = 0.8 / len(group)
        for nth, at in enumerate(group):
            colour, label = COLOURS[nth % len(COLOURS)], name_of(labels[at])
            units = len(histories[at].searches)
            shares = [counted[labels[at]][name] / units for name in names]
            offsets = [x + (nth - (len(group) - 1) / 2) * width for x in range(len(names))]
            left.bar(offsets, shares, width, color=colour, label=f"{label} (n = {units})")
            curve(right, _curve(histories[at]), nth)
            whole = summarise(best_scores(histories[at], histories[at].iterations, summary=True))
            if any(trial.kind == "summary" for one in histories[at].searches.values() for trial in one.trials):
                end = len(names) - 1
                right.errorbar(
                    [end + (nth - (len(group) - 1) / 2) * 0.3], [whole.mean],
                    [[whole.mean - whole.low], [whole.high - whole.mean]],
                    marker=MARKS[nth % len(MARKS)], color=colour, capsize=2,
                )  # fmt: skip
        ticks = [x for x in range(len(names) - 1) if len(names) <= 13 or x % 2 == 0] + [len(names) - 1]
        for axes in (left, right):
            axes.set_xticks(ticks, [names[x] for x in ticks])
            axes.set_xlabel("step (0: first board, S: with the summary)")
        left.grid(visible=False, axis="x")
        left.set_ylabel("share of units")
        left.set_title(f"Winners, {place}")
        right.set_ylabel("mean best score")
        right.set_title("Best so far (95 % interval)")
        left.legend()
    return figure
