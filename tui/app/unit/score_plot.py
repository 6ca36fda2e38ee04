"""Plot of a unit's scores by step."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from textual.color import Color
from textual_plotext import PlotextPlot

from line_neurons.tools.store.records import Step

LEGEND = "● proposal  ── best so far  ╌╌ best of initial board"


class ScorePlot(PlotextPlot):
    """Scored proposals as points, the best so far as a line, the best of the initial board as a level."""

    DEFAULT_CSS = """
    ScorePlot { height: 1fr; min-height: 6; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._steps: tuple[Step, ...] = ()
        self._until: int | None = None

    def on_mount(self) -> None:
        """Redraw when the theme changes."""
        super().on_mount()
        self.app.theme_changed_signal.subscribe(self, lambda _: self._draw())

    def show(self, steps: Sequence[Step], until: int | None = None) -> None:
        """Plot a history.

        Args:
            until: a step to mark by a vertical line; None: no mark.
        """
        if (tuple(steps), until) != (self._steps, self._until):
            self._steps, self._until = tuple(steps), until
            self._draw()

    def on_resize(self) -> None:
        """Draw for the new size."""
        self._draw()

    def _draw(self) -> None:
        plot = self.plt
        plot.clear_figure()
        scored = [step for step in self._steps if step.score is not None and step.kind != "revisit"]
        if scored:
            last = scored[-1].step
            first = max((step.score or 0.0 for step in scored if step.step == scored[0].step), default=0.0)
            plot.plot([-0.5, max(last, 1) + 0.5], [first, first], marker="╌", color=self._colour("warning"))
            for xs, ys in best_so_far(scored):
                plot.plot(xs, ys, marker="│" if xs[0] == xs[1] else "─", color=self._colour("success"))
            plot.scatter(
                [step.step for step in scored],
                [step.score for step in scored],
                marker="●",
                color=self._colour("primary"),
            )
            if self._until is not None:
                plot.vline(self._until, color=self._colour("accent"))
            every = max(1, -(-(last + 1) // max(2, self.size.width // 6)))
            plot.xlim(-0.5, max(last, 1) + 0.5)
            plot.xticks(list(range(0, last + 1, every)))
            scores = [0.0, *(step.score for step in scored if step.score is not None)]
            # Of a dead unit all scores are 0, and plotext divides by the height of the axis.
            plot.ylim(min(scores), max(scores) if any(scores) else 1.0)
            plot.yfrequency(max(2, min(6, self.size.height // 3)))
        self.refresh()

    def _colour(self, name: str) -> tuple[int, int, int]:
        return Color.parse(self.app.theme_variables[name]).rgb


def best_so_far(scored: Sequence[Step]) -> list[tuple[list[int], list[float]]]:
    """Return the best score after each step as horizontal and vertical lines, each as its xs and ys."""
    best: dict[int, float] = {}
    high = float("-inf")
    for step in scored:
        high = best[step.step] = max(high, high if step.score is None else step.score)
    lines: list[tuple[list[int], list[float]]] = []
    for (start, low), (end, high) in pairwise(best.items()):
        lines.append(([start, end], [low, low]))
        if high > low:
            lines.append(([end, end], [low, high]))
    return lines
