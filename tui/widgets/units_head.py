"""How a run stands, above the table of its units: its state, how far it is, and how its labels are distributed."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Static

from line_neurons.agent.prompts import format_score
from line_neurons.agent.proposal import clean_text
from line_neurons.tools.live import Doing
from line_neurons.tools.targets.registry import short_spec
from line_neurons.tui.terminal import counted
from line_neurons.tui.widgets.units_columns import duration, state_text
from line_neurons.tui.widgets.units_lines import STATES, Seen, Tally, UnitLine

_SAMPLE_SECONDS = 5.0
_SAMPLES = 60
"""Rates are those of the last five minutes."""

_WIDE = 120
"""From so many cells on the distribution of the scores is shown beside."""

_COLOURS = {
    "running": "$text-accent",
    "finished": "$text-success",
    "failed": "$text-error",
    "damaged": "$text-error",
    "interrupted": "$text-warning",
    "pending": "$text-muted",
}
_REASON_CHARACTERS = 200


def run_state(seen: Seen) -> tuple[str, str]:
    """A run's state as one of those of a unit, and in words: who works on it, or why nobody does."""
    standing, run, states = seen.standing, seen.run, seen.tally.states
    if seen.worked_on and standing:
        asked = ", asked to stop" if standing.holder.stop else ""
        return "running", f"running in {clean_text(standing.holder.name, 60)}{asked}"
    if standing:
        return "interrupted", f"stale: {clean_text(standing.holder.name, 60)} is gone"
    if run.status == "failed" or run.error:
        return "failed", f"failed: {clean_text(run.error, _REASON_CHARACTERS)}" if run.error else "failed"
    if run.status == "finished":
        return "finished", "finished"
    left = sum(count for state, count in states.items() if state not in {"finished", "failed"})
    return (
        "interrupted",
        f"{'drained' if run.status == 'interrupted' else 'interrupted'}, {counted(left, 'unit')} left",
    )


def time_left(seen: Seen) -> float | None:
    """Seconds until all units are done with, at the mean time of those that are; None where nobody can say."""
    tally, running = seen.tally, len(seen.doing)
    if not running or not tally.unit_seconds:
        return None
    left = sum(count for state, count in tally.states.items() if state not in {"finished", "failed", "damaged"})
    begun = sum(min(one.step / max(one.steps, 1), 1.0) for one in seen.doing.values())
    return max(left - begun, 0.0) * tally.unit_seconds / running


class RunHead(Horizontal):
    """A run's state, progress and units in flight and, where there is room, the distribution of its labels."""

    DEFAULT_CSS = """
    RunHead { height: auto; max-height: 4; padding: 0 1; background: $surface; color: $foreground; }
    RunHead > #stands { width: 1fr; height: auto; }
    RunHead > #labels { width: auto; height: 4; margin-left: 3; display: none; }
    """

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._seen: Seen | None = None
        self._samples: deque[tuple[float, int]] = deque(maxlen=_SAMPLES)
        self._since = 0.0

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
        lines = [self._title(seen), self._progress(seen, room)]
        if seen.doing:
            lines.append(_in_flight(list(seen.doing.values()), seen, room))
        self.query_one("#stands", Static).update(
            Content("\n").join(line.truncate(room, ellipsis=True) for line in lines)
        )

    def _title(self, seen: Seen) -> Content:
        state, words = run_state(seen)
        place = clean_text(f"{short_spec(seen.run.model)} {seen.run.layer}", 80)
        return Content.assemble((f"{STATES[state]} {words}", f"bold {_COLOURS[state]}"), "  ", place)

    def _progress(self, seen: Seen, room: int) -> Content:
        states = seen.tally.states
        units, failed = len(seen.lines), states.get("failed", 0) + states.get("damaged", 0)
        done = states.get("finished", 0)
        said = f" {done}/{units} units"
        facts: list[str] = []
        if (rate := self._rate(seen)) is not None:
            facts.append(f"{rate:.1f} pictures/s")
        if (left := time_left(seen)) is not None:
            facts.append(f"about {duration(left)} left")
        more = "".join(f" · {fact}" for fact in facts)
        lost = f" · ✗ {failed} failed" if failed else ""
        bar = max(min(40, room - len(said) - len(lost) - len(more)), 8)
        finished = round(bar * done / max(units, 1))
        broken = min(-(-bar * failed // max(units, 1)), bar - finished)
        return Content.assemble(
            ("━" * finished, "$success"),
            ("╍" * broken, "$error"),
            ("─" * (bar - finished - broken), "$text-muted"),
            said,
            (lost, "$text-error"),
            more,
        )

    def _rate(self, seen: Seen) -> float | None:
        """Pictures drawn in a second of late; at first since the process took the run."""
        if seen.made is None:
            return None
        if seen.made.since != self._since:
            self._since = seen.made.since
            self._samples.clear()
            self._samples.append((seen.made.since, 0))
        now = time.time()
        if now - self._samples[-1][0] >= _SAMPLE_SECONDS:
            self._samples.append((now, seen.made.drawn))
        since, drawn = self._samples[0]
        return max(seen.made.drawn - drawn, 0) / max(now - since, 1.0)


def _in_flight(doing: Sequence[Doing], seen: Seen, room: int) -> Content:
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
