"""How a run stands, above the table of its units: its state, how far it is, and how its labels are distributed."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Static

from line_neurons.agent.text import clean_text, format_score
from line_neurons.tools.store.activity import Activity
from line_neurons.tui.app.run_rows import SIGNS, RunRow
from line_neurons.tui.app.units.columns import state_text
from line_neurons.tui.app.units.model import Seen, Tally, UnitLine
from line_neurons.tui.formatting import counted, duration

_WIDE = 120
"""From so many cells on the distribution of the scores is shown beside."""

_COLOURS = {
    "running": "$text-success",
    "stopping": "$text-warning",
    "process gone": "$text-error",
    "failed": "$text-error",
    "interrupted": "$text-warning",
    "finished": "$text-primary",
}


def _stands(row: RunRow) -> str:
    """A run's state in words: who works on it, or why nobody does."""
    holder = clean_text(row.holder, 60)
    return {
        "running": f"running in {holder}",
        "stopping": f"stopping in {holder}, after the steps in hand",
        "process gone": f"stale: {holder} is gone, r resumes",
        "interrupted": "drained, r resumes" if row.run.status == "interrupted" else "interrupted, r resumes",
        "failed": f"failed: {clean_text(row.run.error, 200)}" if row.run.error else "failed",
    }.get(row.state, row.state)


class RunHead(Horizontal):
    """A run's state, progress and units in flight and, where there is room, the distribution of its labels."""

    DEFAULT_CSS = """
    RunHead { height: auto; max-height: 3; padding: 0 1; background: $surface; color: $foreground; }
    RunHead > #stands { width: 1fr; height: auto; }
    RunHead > #labels { width: auto; height: 3; margin-left: 3; display: none; }
    """

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._seen: Seen | None = None

    def compose(self) -> ComposeResult:
        """The text, and the distribution beside it."""
        yield Static(id="stands")
        yield Static(id="labels")

    def show_run(self, seen: Seen) -> None:
        """Show how a run stands now."""
        self._seen = seen
        self._show()

    def on_resize(self) -> None:
        """Lines hold more or less."""
        self._show()

    def _show(self) -> None:
        seen, width = self._seen, self.size.width
        if seen is None or not width:
            return
        beside = self.app.size.width >= _WIDE and any(seen.tally.scores)
        labels = self.query_one("#labels", Static)
        labels.display = beside
        if beside:
            labels.update(_distribution(seen.tally))
        room = width - (max(len(seen.tally.scores), 1) + 23 if beside else 0)
        lines = [self._title(seen.row), self._progress(seen.row, room)]
        if seen.doing:
            lines.append(_in_flight(list(seen.doing.values()), seen, room))
        self.query_one("#stands", Static).update(
            Content("\n").join(line.truncate(room, ellipsis=True) for line in lines)
        )

    def _title(self, row: RunRow) -> Content:
        place = clean_text(f"{row.run.target_name} {row.run.layer}", 80)
        look = f"bold {_COLOURS.get(row.state, '')}"
        return Content.assemble((f"{SIGNS[row.state]} {_stands(row)}", look), "  ", place)

    def _progress(self, row: RunRow, room: int) -> Content:
        said = f" {row.finished}/{counted(row.units, 'unit')}"
        lost = f" · {SIGNS['failed']} {row.failed} failed" if row.failed else ""
        more = f" · ! {clean_text(row.noted, 120)}" if row.noted else ""
        more += f" · {row.rate:.1f} images/s" if row.rate is not None else ""
        more += f" · about {duration(row.left)} left" if row.left is not None else ""
        bar = max(min(40, room - len(said) - len(lost) - len(more)), 8)
        finished = round(bar * row.finished / max(row.units, 1))
        broken = min(-(-bar * row.failed // max(row.units, 1)), bar - finished)
        return Content.assemble(
            ("━" * finished, "$success"),
            ("╍" * broken, "$error"),
            ("─" * (bar - finished - broken), "$text-muted"),
            said,
            (lost, "$text-error"),
            more,
        )


def _in_flight(doing: Sequence[Activity], seen: Seen, room: int) -> Content:
    names = {line.unit: line.name for line in seen.lines if line.unit in seen.doing}
    text, shown = "", 0
    for one in sorted(doing, key=lambda one: one.since):
        name = f" {names[one.unit]:.20}" if names.get(one.unit) else ""
        told = f"{one.unit}{name} {state_text(_RUNNING, one)}"
        if text and len(text) + len(told) + 16 > room:
            break
        text += (" · " if text else "") + told
        shown += 1
    more = f" and {len(doing) - shown} more" if shown < len(doing) else ""
    return Content.assemble(("in flight ", "$text-muted"), clean_text(text, 400) + more)


_RUNNING = UnitLine(0, "", "", None, None, None, None, "", "", None, None, "running", "", "", "")

_LEVELS = " ▁▂▃▄▅▆▇█"
_ROWS = 2


def _distribution(tally: Tally) -> Content:
    """A histogram of the scores over its scale, and beside it what share of the labels came from where."""
    most, width = max(tally.scores), len(tally.scores)
    heights = [-(-count * _ROWS * 8 // most) for count in tally.scores]
    rows = [
        "".join(_LEVELS[min(max(height - 8 * below, 0), 8)] for height in heights)
        for below in reversed(range(_ROWS))
    ]
    low, high = format_score(tally.lowest), format_score(tally.highest)
    scale = low + "score".center(width - len(low) - len(high)) + high
    labelled = max(sum(tally.kinds.values()), 1)
    shares = [
        f"  {kind:<10} {tally.kinds[kind]:>6} {tally.kinds[kind] / labelled:>4.0%}"
        for kind in ("discovered", "proposed", "predefined")
    ]
    return Content.assemble(
        (rows[0], "$primary"),
        shares[0],
        "\n",
        (rows[1], "$primary"),
        shares[1],
        "\n",
        (scale, "$text-muted"),
        shares[2],
    )
