"""Figure 5: at which step the winner appears, and how the best score grows with the iterations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from line_neurons.eval.reports.histories import (
    LENGTH_SETTINGS,
    History,
    by_layer,
    differences,
    distinguishing_names,
    steering_notes,
)
from line_neurons.eval.reports.statistics import PairedTest, Summary, compare, summarise
from line_neurons.eval.reports.table import (
    INTERVAL_NOTE,
    SUMMARY_COLUMNS,
    TEST_COLUMNS,
    Report,
    Row,
    Table,
    summary_cells,
    tested_rows,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LENGTHS = (0, 5, 10, 20)
"""Numbers of iterations that are read off longer searches."""
MOST = 20
"""Last iteration in the figure."""
_RANDOM = "random"


def winning_step(history: History, unit: int, most: int = MOST) -> str:
    """Return the step of a unit's winner: 0 for the initial scoreboard, S for the summary."""
    trial = history.searches[unit].best_within(most, summary=True)
    return "S" if trial.kind == "summary" else str(trial.step)


def best_scores(history: History, iterations: int, *, summary: bool = False) -> dict[int, float]:
    """Return the best score of each unit within a number of iterations, by unit."""
    found = {unit: search.best_within(iterations, summary=summary) for unit, search in history.searches.items()}
    return {unit: float(trial.score or 0.0) for unit, trial in found.items()}


def step_names(histories: Sequence[History]) -> list[str]:
    """Return the steps that runs have, from the initial scoreboard to the summary."""
    longest = min(MOST, max(history.iterations for history in histories))
    return [*map(str, range(longest + 1)), "S"]


def steps(histories: Sequence[History]) -> Report:
    """Report at which step winners appear, and what shorter searches and a random proposer find.

    The best of more concepts never scores less, whoever proposes them. So the gain over the initial scoreboard has
    no test; a run is tested against the first of the same layer that proposes random concepts (``--llm random``).
    Steered searches do not follow the method alone, and are left out.

    Raises:
        UsageError: of a run no search is left.
    """
    notes = steering_notes([(history.run, history.steered) for history in histories])
    histories = [history.unsteered() for history in histories]
    labels = distinguishing_names([history.run for history in histories])
    names = step_names(histories)
    counted = {label: dict.fromkeys(names, 0) for label in labels}
    for label, history in zip(labels, histories, strict=True):
        for unit in history.searches:
            counted[label][winning_step(history, unit)] += 1
    tests, random_notes = _against_random(histories, labels)
    tables = (
        _winner_steps_table(histories, labels, names, counted),
        _lengths_table(histories, labels),
        *([_tests_table(tests)] if tests else []),
        _curve_table(histories, labels),
    )
    figures = {"steps": lambda: _draw(histories, labels, names, counted)}
    return Report("steps", "Gain of iterations", tables, figures, (*random_notes, *notes))


def _winner_steps_table(
    histories: Sequence[History],
    labels: Sequence[str],
    names: Sequence[str],
    counted: Mapping[str, Mapping[str, int]],
) -> Table:
    sizes = [f"{label} (n = {len(own.searches)})" for label, own in zip(labels, histories, strict=True)]
    return Table(
        "winner-steps",
        "Step of the winner",
        ("step", *sizes),
        tuple((name, *(counted[label][name] for label in labels)) for name in names),
        "Units by the step of their best concept; 0: initial scoreboard, S: summary. Steps of the search before "
        f"its first restart and up to {MOST}; steered searches are left out of all tables.",
    )


def _lengths_table(histories: Sequence[History], labels: Sequence[str]) -> Table:
    rows = [row for label, history in zip(labels, histories, strict=True) for row in _lengths(label, history)]
    return Table(
        "lengths",
        "Best scores after N iterations",
        ("run", "N", "summary", "n", *SUMMARY_COLUMNS, "generated", *(f"gain {name}" for name in SUMMARY_COLUMNS)),
        tuple(rows),
        "Best score of a unit: mean and standard deviation; generated: share of units with a best concept that "
        "was not on the initial scoreboard. Gain: over N = 0 of the same run. It cannot be negative, and any "
        f"proposer gains by proposing more, so it has no test. {INTERVAL_NOTE} Shorter searches are the beginning "
        "of the run's own; the summary belongs to the whole search.",
    )


def _tests_table(tests: Sequence[tuple[tuple[object, ...], PairedTest]]) -> Table:
    return Table(
        "lengths-tests",
        "Against a random proposer, after as many iterations",
        ("model", "layer", "run", "N", "summary", *TEST_COLUMNS),
        tuple(tested_rows(tests)),
        "Best score, run minus the run with --llm random, over the units of both, pair by pair: Shapiro-Wilk at "
        ".05, then paired t test (effect: d_z) or Wilcoxon (rank-biserial correlation); Holm's correction over "
        "the table.",
    )


def _curve_table(histories: Sequence[History], labels: Sequence[str]) -> Table:
    return Table(
        "best-by-step",
        "Mean best score by iteration",
        ("run", "iteration", "n", *SUMMARY_COLUMNS),
        tuple(
            (label, step, summary.n, *summary_cells(summary))
            for label, history in zip(labels, histories, strict=True)
            for step, summary in enumerate(_curve(history))
        ),
    )


def _curve(history: History) -> list[Summary]:
    last = min(MOST, history.iterations)
    return [summarise(list(best_scores(history, step).values())) for step in range(last + 1)]


def _wanted(history: History) -> list[tuple[int, bool]]:
    """Return the lengths that are read off a run, and whether with the summary."""
    lengths = [length for length in LENGTHS if length <= history.iterations]
    wanted = [(length, False) for length in dict.fromkeys([*lengths, history.iterations])]
    return [*wanted, (history.iterations, True)] if _has_summary(history) else wanted


def _has_summary(history: History) -> bool:
    return any(trial.kind == "summary" for search in history.searches.values() for trial in search.trials)


def _lengths(label: str, history: History) -> list[Row]:
    start = best_scores(history, 0)
    rows: list[Row] = []
    for length, summary in _wanted(history):
        scores = best_scores(history, length, summary=summary)
        best = summarise(list(scores.values()))
        winners = [search.best_within(length, summary=summary) for search in history.searches.values()]
        generated = sum(winner.kind != "initial" for winner in winners) / len(winners)
        gain = summarise([score - start[unit] for unit, score in scores.items()])
        gained = summary_cells(gain) if (length, summary) != (0, False) else (None,) * len(SUMMARY_COLUMNS)
        rows.append((label, length, summary, best.n, *summary_cells(best), generated, *gained))
    return rows


def _against_random(
    histories: Sequence[History], labels: Sequence[str]
) -> tuple[list[tuple[tuple[object, ...], PairedTest]], list[str]]:
    """Compare runs with the first of their layer that proposes random concepts; return the tests and notes."""
    compared: list[tuple[tuple[object, ...], PairedTest]] = []
    notes = []
    for group in by_layer(histories):
        random_runs = [at for at in group if histories[at].run.settings.get("llm") == _RANDOM]
        rest = [at for at in group if at not in random_runs]
        if rest and not random_runs:
            place = " ".join(histories[group[0]].place)
            notes.append(
                f"Without a run of a random proposer over {place} (--llm random) the contribution of the language "
                "model cannot be measured: name one as well."
            )
        for at in rest if random_runs else ():
            one, other = histories[at], histories[random_runs[0]]
            for length, summary in _wanted(one):
                if length and (length, summary) in _wanted(other):
                    own, others = (best_scores(run, length, summary=summary) for run in (one, other))
                    units = sorted(set(own) & set(others))
                    paired = compare([own[unit] for unit in units], [others[unit] for unit in units])
                    compared.append(((*one.place, labels[at], length, summary), paired))
            unlike = sorted(set(differences([one.run, other.run])) - {"llm", *LENGTH_SETTINGS})
            if unlike:
                notes.append(
                    f"{labels[at]} and {labels[random_runs[0]]} differ in more than the proposer: "
                    f"{', '.join(unlike)}."
                )
    return compared, notes


def _draw(
    histories: Sequence[History],
    labels: Sequence[str],
    names: Sequence[str],
    counted: dict[str, dict[str, int]],
) -> Figure:
    from line_neurons.eval.reports.figures import COLOURS, MARKS, curve, panels, shortened

    groups = by_layer(histories)
    figure, grid = panels(len(groups), 2, 2.5)
    for group, (left, right) in zip(groups, grid, strict=True):
        place = " ".join(histories[group[0]].place)
        width = 0.8 / len(group)
        for nth, at in enumerate(group):
            colour, label = COLOURS[nth % len(COLOURS)], shortened(labels[at])
            units = len(histories[at].searches)
            shares = [counted[labels[at]][name] / units for name in names]
            offsets = [x + (nth - (len(group) - 1) / 2) * width for x in range(len(names))]
            left.bar(offsets, shares, width, color=colour, label=f"{label} (n = {units})")
            curve(right, _curve(histories[at]), nth)
            best = best_scores(histories[at], histories[at].iterations, summary=True)
            whole = summarise(list(best.values()))
            if _has_summary(histories[at]):
                end = len(names) - 1
                right.errorbar(
                    [end + (nth - (len(group) - 1) / 2) * 0.3], [whole.mean],
                    [[whole.mean - whole.low], [whole.high - whole.mean]],
                    marker=MARKS[nth % len(MARKS)], color=colour, capsize=2,
                )  # fmt: skip
        ticks = [x for x in range(len(names) - 1) if len(names) <= 13 or x % 2 == 0] + [len(names) - 1]
        for axes in (left, right):
            axes.set_xticks(ticks, [names[x] for x in ticks])
            axes.set_xlabel("step (0: initial scoreboard, S: with the summary)")
        left.grid(visible=False, axis="x")
        left.set_ylabel("share of units")
        left.set_title(f"Winners, {place}")
        right.set_ylabel("mean best score")
        right.set_title("Best so far (95 % interval)")
        left.legend()
    return figure
