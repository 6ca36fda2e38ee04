"""What a proposer contributes: whether its concepts score higher than the initial scoreboard's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from statistics import mean
from typing import TYPE_CHECKING

from line_neurons.agent.setting_groups.guidance import WITHOUT_LANGUAGE_MODEL
from line_neurons.eval.reports.histories import (
    LENGTH_SETTINGS,
    History,
    UnitSearch,
    by_layer,
    differences,
    distinguishing_names,
    steering_notes,
)
from line_neurons.eval.reports.statistics import Summary, compare, summarise
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
from line_neurons.tools.store.records import Step, Trial, Unit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEASURES = {
    "a proposal": "proposed",
    "share of the first board that it beats": "beaten",
    "share of proposals that take the lead": "leading",
}
"""Measures of a unit's proposals, by their names in tables."""
_FIRST = "best of the first board"


@dataclass(frozen=True)
class ProposerStats:
    """Outcomes of a proposer's requests over all units of a run.

    Args:
        requests: all requests, retries included; none where no language model is asked.
        valid: share of the proposals that were usable; of a request with one concept its reply.
        new: share of them that were usable and not tried before.
        drawable: share of them that could be generated, too.
        stalled: share of steps without any.
        best: mean of the best proposed score over the best initial one, minus one.
        won: share of units whose label was proposed.
    """

    requests: int
    valid: float
    new: float
    drawable: float
    stalled: float
    seconds: float
    best: float
    won: float


def proposer_stats(histories: Sequence[Sequence[Step]], units: Sequence[Unit]) -> ProposerStats:
    """Compute the outcomes of a proposer's requests from histories."""
    steps = [step for history in histories for step in history if step.step]
    proposed = [step for step in steps if step.outcome != "stalled"]
    # Further proposals of a request have no seed.
    requests = [step for step in proposed if step.seed is not None and step.model not in WITHOUT_LANGUAGE_MODEL]
    outcomes = Counter(step.outcome for step in proposed)
    total = max(1, len(proposed))
    gains = []
    for history in histories:
        initial = max(step.score for step in history if step.kind == "initial" and step.score is not None)
        scores = [step.score for step in history if step.step and step.score is not None]
        if scores and initial > 0:
            gains.append(max(scores) / initial - 1)
    rounds = len({(step.unit, step.step) for step in steps})
    return ProposerStats(
        requests=len(requests),
        valid=1 - outcomes["invalid"] / total,
        new=1 - (outcomes["invalid"] + outcomes["duplicate"]) / total,
        drawable=outcomes["scored"] / total,
        stalled=sum(step.outcome == "stalled" for step in steps) / max(1, rounds),
        seconds=mean(step.seconds or 0.0 for step in requests) if requests else 0.0,
        best=mean(gains) if gains else 0.0,
        won=mean(unit.origin != "predefined" for unit in units),
    )


@dataclass(frozen=True)
class ProposalStats:
    """How the proposals of a unit's search scored; nan where none could be generated.

    Args:
        initial: the best score of the initial scoreboard.
        proposed: mean score of the proposals.
        beaten: share of the initial scoreboard's concepts that score lower than a proposal, mean over the
            proposals.
        leading: share of the proposals that score higher than all before them.
    """

    initial: float
    proposed: float
    beaten: float
    leading: float


def proposal_stats(search: UnitSearch, most: int | None = None) -> ProposalStats:
    """Compute how the proposals of a unit's search scored.

    Args:
        most: number of iterations that count; None for all and the summary.
    """
    board = _scores(search, "initial")
    scores = [
        score
        for trial, score in _proposals(search)
        if most is None or (trial.kind == "iteration" and trial.step <= most)
    ]
    if not scores:
        return ProposalStats(max(board), nan, nan, nan)
    best, leading = max(board), 0
    for score in scores:
        leading += score > best
        best = max(best, score)
    beaten = mean(_beaten(score, board) for score in scores)
    return ProposalStats(max(board), mean(scores), beaten, leading / len(scores))


def proposals(histories: Sequence[History], steps: Mapping[str, Sequence[Sequence[Step]]]) -> Report:
    """Report how the proposals of runs scored, each run against the first over the same layer.

    Steered searches are left out: a typed concept is no proposal.

    Raises:
        UsageError: of a run no search is left.
    """
    notes = steering_notes([(history.run, history.steered) for history in histories])
    histories = [history.unsteered() for history in histories]
    labels = distinguishing_names([history.run for history in histories])
    found = [{unit: proposal_stats(search) for unit, search in history.searches.items()} for history in histories]
    tables: tuple[Table, ...] = (
        Table(
            "questions",
            "Outcomes of requests",
            ("run", "n", "questions", "usable", "new", "drawable", "steps without any", "seconds of a question"),
            tuple(_requests(label, history, steps) for label, history in zip(labels, histories, strict=True)),
            "Shares of the proposals: usable; new as well; generated as well. A request proposes one concept, or "
            "as many as --proposals says. The summary is included.",
        ),
        Table(
            "proposals",
            "Scores of proposals",
            ("run", "measure", "n", *SUMMARY_COLUMNS),
            tuple(
                (label, name, summary.n, *summary_cells(summary))
                for label, own in zip(labels, found, strict=True)
                for name, column in ({_FIRST: "initial"} | MEASURES).items()
                for summary in [summarise([getattr(stats, column) for stats in own.values()])]
            ),
            f"Over units: mean and standard deviation. {INTERVAL_NOTE} The first two are scores. What a "
            "proposer contributes shows in a comparison with random words (--llm random).",
        ),
    )
    if against := _tests(histories, labels):
        tables += (
            Table(
                "proposal-tests",
                "Against the first run of the layer",
                ("model", "layer", "measure", "run", *TEST_COLUMNS),
                tuple(against),
                "Run minus the first, over the units of both and as many iterations, as later proposals take the "
                "lead less often; pair by pair: Shapiro-Wilk at .05, then paired t test (effect: d_z) or Wilcoxon "
                "(rank-biserial correlation); Holm's correction over the table.",
            ),
        )
    return Report(
        "proposals",
        "What the proposer contributes",
        tables,
        {"proposals": lambda: _draw(histories, labels)},
        notes,
    )


def _scores(search: UnitSearch, kind: str) -> list[float]:
    return [float(trial.score) for trial in search.trials if trial.kind == kind and trial.score is not None]


def _proposals(search: UnitSearch) -> list[tuple[Trial, float]]:
    kinds = {"iteration", "summary"}
    return [
        (trial, float(trial.score)) for trial in search.trials if trial.kind in kinds and trial.score is not None
    ]


def _beaten(score: float, board: Sequence[float]) -> float:
    return sum(score > other for other in board) / len(board)


def _requests(label: str, history: History, steps: Mapping[str, Sequence[Sequence[Step]]]) -> tuple[object, ...]:
    own = [unit for unit in steps[history.run.id] if unit and unit[0].unit in history.searches]
    summary = proposer_stats(own, [search.unit for search in history.searches.values()])
    columns = ("requests", "valid", "new", "drawable", "stalled", "seconds")
    return (label, len(own), *(getattr(summary, column) for column in columns))


def _tests(histories: Sequence[History], labels: Sequence[str]) -> list[Row]:
    compared = []
    for first, *rest in by_layer(histories):
        for name, column in MEASURES.items():
            for at in rest:
                both = histories[at], histories[first]
                most = None
                if LENGTH_SETTINGS & set(differences([history.run for history in both])):
                    most = min(history.iterations for history in both)
                own, others = (
                    {
                        unit: getattr(proposal_stats(search, most), column)
                        for unit, search in history.searches.items()
                    }
                    for history in both
                )
                units = sorted(set(own) & set(others))
                paired = compare([own[unit] for unit in units], [others[unit] for unit in units])
                compared.append(((*histories[at].place, name, labels[at]), paired))
    return tested_rows(compared)


def _by_iteration(history: History) -> list[Summary]:
    """Return the share of the initial scoreboard that proposals beat, by iteration."""
    # Corrupt step numbers must not allocate more than there are entries.
    entries = sum(len(search.trials) for search in history.searches.values())
    values: list[list[float]] = [[] for _ in range(min(history.iterations, entries))]
    for search in history.searches.values():
        board = _scores(search, "initial")
        for trial, score in _proposals(search):
            if trial.kind == "iteration" and 1 <= trial.step <= len(values):
                values[trial.step - 1].append(_beaten(score, board))
    return [summarise(own) for own in values]


def _draw(histories: Sequence[History], labels: Sequence[str]) -> Figure:
    from matplotlib.ticker import MaxNLocator

    from line_neurons.eval.reports.figures import curve, panels, shortened

    layers = by_layer(histories)
    figure, grid = panels(len(layers), 1, 2.5)
    for group, (axes,) in zip(layers, grid, strict=True):
        for nth, at in enumerate(group):
            label = f"{shortened(labels[at])} (n = {len(histories[at].searches)})"
            curve(axes, _by_iteration(histories[at]), nth, start=1, label=label)
        axes.set_ylim(0, 1)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("iteration")
        axes.set_ylabel("share of the initial scoreboard")
        axes.set_title(f"What a proposal beats, {' '.join(histories[group[0]].place)} (95 % interval)")
        axes.legend()
    return figure
