"""Panes around the table of units: the state of the run above it, the selected unit below it."""

from __future__ import annotations

from rich.cells import cell_len
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Static

from line_neurons.agent.text import clean_text, short_score
from line_neurons.tools.label_marks import UNLABELLED
from line_neurons.tools.store.activity import Activity
from line_neurons.tui.app.chrome import Flow
from line_neurons.tui.app.run_rows import SIGNS, RunRow
from line_neurons.tui.app.units.columns import number, state_text
from line_neurons.tui.app.units.model import STATES, RunSnapshot, UnitLine, UnitStatistics
from line_neurons.tui.formatting import counted, duration, phase_text, workers_text

_MARGIN = 3
"""Cells between the state and the distribution, as in the style of the header."""
_WIDE = 120
"""Terminal width from which the distribution of the scores is shown."""

_COLOURS = {
    "running": "$text-success",
    "stopping": "$text-warning",
    "process gone": "$text-error",
    "failed": "$text-error",
    "interrupted": "$text-warning",
    "finished": "$text-primary",
}


def _state_sentence(row: RunRow) -> str:
    """Describe the state of a run: the process that works on it, or the key to press."""
    holder = clean_text(row.holder, 60)
    return {
        "running": f"running in {holder}",
        "starting": f"starting in {holder}",
        "stopping": f"stopping in {holder} after the current steps",
        "process gone": f"{holder} is gone, r resumes",
        "interrupted": "stopped, r resumes" if row.run.status == "interrupted" else "interrupted, r resumes",
        "failed": f"failed: {clean_text(row.run.error, 200)}" if row.run.error else "failed",
    }.get(row.state, row.state)


class RunHeader(Horizontal):
    """State, progress and current units of a run; on a wide terminal also the distribution of its scores."""

    DEFAULT_CSS = """
    RunHeader { height: auto; max-height: 3; padding: 0 1; background: $surface; color: $foreground; }
    RunHeader > #state { width: 1fr; height: auto; }
    RunHeader > #labels { width: auto; height: 3; margin-left: 3; display: none; }
    """

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._snapshot: RunSnapshot | None = None

    def compose(self) -> ComposeResult:
        """Lay out the text and the distribution beside it."""
        yield Static(id="state")
        yield Static(id="labels")

    def show(self, snapshot: RunSnapshot) -> None:
        """Show a run."""
        self._snapshot = snapshot
        self._update()

    def on_resize(self) -> None:
        """Fit the text into the new width."""
        self._update()

    def _update(self) -> None:
        snapshot, width = self._snapshot, self.size.width
        if snapshot is None or not width:
            return
        statistics = snapshot.statistics
        beside = self.app.size.width >= _WIDE and any(statistics.scores)
        labels = self.query_one("#labels", Static)
        labels.display = beside
        room = width
        if beside:
            distribution = _distribution(statistics)
            labels.update(distribution)
            room -= max(map(cell_len, distribution.plain.splitlines())) + _MARGIN
        lines = [self._title(snapshot.row), self._progress(snapshot.row, room)]
        if snapshot.row.phase is not None:
            text = phase_text(snapshot.row.phase, snapshot.row.beat)
            lines.append(Content.assemble(("current ", "$text-muted"), clean_text(text, 200)))
        elif snapshot.activities:
            lines.append(_activities(snapshot, room))
        self.query_one("#state", Static).update(
            Content("\n").join(line.truncate(room, ellipsis=True) for line in lines)
        )

    def _title(self, row: RunRow) -> Content:
        return Content.styled(f"{SIGNS[row.state]} {_state_sentence(row)}", f"bold {_COLOURS.get(row.state, '')}")

    def _progress(self, row: RunRow, room: int) -> Content:
        count = f" {row.finished}/{counted(row.units, 'unit')}"
        failed = f" · {SIGNS['failed']} {row.failed} failed" if row.failed else ""
        more = f" · ! {clean_text(row.short_remarks, 120)}" if row.short_remarks else ""
        more += f" · {row.images_per_second:.1f} images/s" if row.images_per_second is not None else ""
        if row.work_counts and row.work_counts.workers:
            more += f" · {workers_text(row.work_counts.workers).rpartition(', ')[0]}"
        more += f" · about {duration(row.seconds_left)} left" if row.seconds_left is not None else ""
        bar = max(min(40, room - len(count) - len(failed) - len(more)), 8)
        finished = round(bar * row.finished / max(row.units, 1))
        failed_bar = min(-(-bar * row.failed // max(row.units, 1)), bar - finished)
        return Content.assemble(
            ("━" * finished, "$success"),
            ("╍" * failed_bar, "$error"),
            ("─" * (bar - finished - failed_bar), "$text-muted"),
            count,
            (failed, "$text-error"),
            more,
        )


def _activities(snapshot: RunSnapshot, room: int) -> Content:
    activities = snapshot.activities
    names = {line.unit: line.name for line in snapshot.lines if line.unit in activities}
    text, shown = "", 0
    for activity in sorted(activities.values(), key=lambda activity: activity.since):
        name = f" {names[activity.unit]:.20}" if names.get(activity.unit) else ""
        item = f"{activity.unit}{name} {state_text(_RUNNING, activity)}"
        if text and len(text) + len(item) + 16 > room:
            break
        text += (" · " if text else "") + item
        shown += 1
    more = f" and {len(activities) - shown} more" if shown < len(activities) else ""
    return Content.assemble(("current ", "$text-muted"), clean_text(text, 400) + more)


_RUNNING = UnitLine(0, "", "", None, None, None, None, "", "", None, None, "running", "", "", "")

_LEVELS = " ▁▂▃▄▅▆▇█"
_ROWS = 2


def _distribution(statistics: UnitStatistics) -> Content:
    """Draw a histogram of the scores over its scale, beside the share of each kind of label."""
    most, width = max(statistics.scores), len(statistics.scores)
    heights = [-(-count * _ROWS * 8 // most) for count in statistics.scores]
    rows = [
        "".join(_LEVELS[min(max(height - 8 * below, 0), 8)] for height in heights)
        for below in reversed(range(_ROWS))
    ]
    low, high = short_score(statistics.lowest), short_score(statistics.highest)
    scale = low + "score".center(width - len(low) - len(high)) + high
    labelled = max(sum(statistics.kinds.values()), 1)
    shares = [
        f"  {kind:<10} {statistics.kinds[kind]:>6} {statistics.kinds[kind] / labelled:>4.0%}"
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


class UnitDetail(Vertical):
    """Three lines on the selected unit."""

    DEFAULT_CSS = """
    UnitDetail { height: 3; padding: 0 1; background: $panel; color: $foreground; }
    """

    def compose(self) -> ComposeResult:
        """Lay out the title over the facts."""
        yield Static(id="title")
        yield Static(id="facts")

    def show(self, line: UnitLine | None, activity: Activity | None, spread: str, *, is_active: bool) -> None:
        """Show a unit with the spread of its score, once it is read; None: no unit matches the filter."""
        if line is None:
            self._show_lines("", "No unit matches the filter", "$text-muted", "escape clears it", "")
            return
        title = f"unit {line.unit}{f' ({line.name})' if line.name else ''}"
        if line.state == "failed":
            press = f"{'x stops the run, then t' if is_active else 't'} retries, enter shows its history"
            more = "; ".join(part for part in (line.error, line.best_so_far) if part)
            self._show_lines(title, f"{STATES['failed']} failed", "$text-error", press, more)
        elif line.state == "damaged":
            self._show_lines(title, f"{STATES['damaged']} {line.error}", "$text-error", "", "see `line doctor`")
        elif activity is not None and line.state == "running":
            best = (
                f"best so far {activity.best} {number(activity.best_score)}"
                if activity.best
                else "nothing scored yet"
            )
            concept = f", now {activity.concept}" if activity.concept else ""
            self._show_lines(
                title, state_text(line, activity), "$text-accent", "", clean_text(best + concept, 400)
            )
        elif line.label:
            margin = f", {number(line.margin)} above {line.initial}" if line.initial and line.margin else ""
            facts = [f"score {number(line.score)}{f' {spread}' if spread else ''}{margin}"]
            if line.auc is not None:
                facts.append(f"AUC {line.auc:.3f}")
            if line.mad is not None:
                facts.append(f"MAD {number(line.mad)}")
            marked = [f"! {line.condition}"] if line.condition else []
            self._show_lines(title, line.label, "bold", "", *marked, *facts, line.origin)
        elif line.state in UNLABELLED:
            hint = "no concept can be its label; --label-dead in a new run labels it anyway"
            self._show_lines(title, f"{STATES[line.state]} {line.condition}", "$text-warning", "", hint)
        else:
            hint = "pending" if is_active else "r resumes the run"
            more = "; ".join(part for part in (line.best_so_far, hint) if part)
            self._show_lines(title, f"{STATES[line.state]} {line.state}", "$text-muted", "", more)

    def _show_lines(self, title: str, state: str, style: str, hint: str, *facts: str) -> None:
        """Show title, state and a hint on one line, and facts below; texts are clean."""
        first = [part for part in ((title, "bold"), (state, style), (hint, "$text-muted")) if part[0]]
        parts = [piece for part in first for piece in ("  ", part)][1:]
        self.query_one("#title", Static).update(Content.assemble(*parts))
        self.query_one("#facts", Static).update(Flow([Text(fact) for fact in facts]))
