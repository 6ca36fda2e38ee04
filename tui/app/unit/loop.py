"""Diagram of the loop with the current node highlighted, and the state of the unit as a sentence."""

from __future__ import annotations

import time

from rich.text import Text
from textual.widgets import Static

from line_neurons.agent.loop import BEGINNING, NODES
from line_neurons.tools.label_marks import ENDED, UNLABELLED, describe_marks
from line_neurons.tui.formatting import counted, duration, plain
from line_neurons.tui.unit_view import UnitView

_BOXED = tuple(name for name in NODES if name != BEGINNING)
_BOXES_WIDTH = 116
"""Terminal width from which each node has a box."""

_SIGNS = {
    "running": "▸",
    **dict.fromkeys(UNLABELLED, "∅"),
    "finished": "✓",
    "failed": "✗",
    "interrupted": "‖",
    "pending": "·",
}


class LoopView(Static):
    """The nodes of the loop after ``init``; the current one has a sign and heavy lines."""

    DEFAULT_CSS = """
    LoopView { height: auto; padding: 0 1; color: $text-muted; }
    """

    def __init__(self) -> None:
        super().__init__(markup=False)
        self._node = ""

    def highlight(self, node: str) -> None:
        """Highlight a node; none if the name is empty."""
        if node != self._node:
            self._node = node
            self.refresh(layout=True)

    def render(self) -> Text:
        """Draw the diagram that fits the width."""
        style = f"bold {self.app.theme_variables.get('accent', '')}"
        return _boxes(self._node, style) if self.app.size.width >= _BOXES_WIDTH else _line(self._node, style)


def _line(node: str, highlight: str) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    for index, name in enumerate((BEGINNING, *_BOXED)):
        text.append("" if not index else " → ")
        text.append(*((f"▐●{name}▌", f"{highlight} reverse") if name == node else (name, "")))
    return text


def _boxes(node: str, highlight: str) -> Text:
    rows = [Text(no_wrap=True) for _ in range(4)]
    boxes: dict[str, tuple[int, int]] = {}
    for text, row in zip(
        ("       ", "● init " if node == "init" else "  init ", "       ", "       "), rows, strict=True
    ):
        row.append(text, highlight if node == "init" else "")
    for box, name in enumerate(_BOXED):
        arrow = "─▶ " if box else "▶ "
        for index, row in enumerate(rows):
            row.append(arrow if index == 1 else " " * len(arrow))
        current, style = name == node, highlight if name == node else ""
        inside = f" {'●' if current else ' '} {name} "
        corners = ("┏━┓", "┃ ┃", "┗━┛") if current else ("╭─╮", "│ │", "╰─╯")
        boxes[name] = (rows[0].cell_len, len(inside) + 2)
        rows[0].append(corners[0][0] + corners[0][1] * len(inside) + corners[0][2], style)
        rows[1].append(corners[1][0] + inside + corners[1][2], style)
        rows[2].append(corners[2][0] + corners[2][1] * len(inside) + corners[2][2], style)
    begin = boxes["propose"][0] + boxes["propose"][1] // 2
    end = boxes["update"][0] + boxes["update"][1] // 2
    caption = " next step "
    dashes = end - begin - 1 - len(caption)
    rows[3] = Text(
        " " * begin + "▲" + "─" * (dashes // 2) + caption + "─" * (dashes - dashes // 2) + "╯", no_wrap=True
    )
    return Text("\n").join(rows)


class StateLine(Static):
    """The current node and its duration or, at rest, the state of the unit and the key to press."""

    DEFAULT_CSS = """
    StateLine { height: auto; max-height: 3; padding: 0 1; }
    StateLine.failed { color: $text-error; }
    StateLine.interrupted, StateLine.stale { color: $text-warning; }
    StateLine.dead, StateLine.constant, StateLine.undecided { color: $text-warning; }
    StateLine.finished { color: $text-success; }
    """

    def __init__(self) -> None:
        super().__init__(markup=False)
        self._view: UnitView | None = None

    def on_mount(self) -> None:
        """Update the duration every second."""
        self.set_interval(1, self._refresh_text)

    def show(self, view: UnitView) -> None:
        """Show the state of a unit."""
        self._view = view
        for name in (*_SIGNS, "stale"):
            self.set_class(name == ("stale" if view.stale and view.state not in ENDED else view.state), name)
        self._refresh_text()

    def _refresh_text(self) -> None:
        if self._view is not None:
            self.update(Text(state_text(self._view, time.time())))


def state_text(view: UnitView, now: float) -> str:
    """Describe the state of a unit in one line.

    Args:
        now: seconds since the epoch.
    """
    sign = _SIGNS.get(view.state, "!")
    if view.activity is not None:
        return f"{sign} {_activity_text(view, now)}"
    if view.stale and view.state not in ENDED:
        return f"! {plain(view.holder)} is gone; finished steps are saved — press r to resume"
    return f"{sign} {_resting_text(view)}"


def _resting_text(view: UnitView) -> str:
    unit, reached = view.unit, max((step.step for step in view.steps), default=0)
    # Older stores do not record the number of steps.
    after = f" after {counted(unit.steps, 'step')}" if unit.steps is not None else ""
    works = f"{plain(view.holder)} is working on the run" if view.is_active else "not active — press r to resume"
    nothing = f"no label: {plain(describe_marks(unit.marks))}"
    return {
        **dict.fromkeys(UNLABELLED, f"{nothing}; {duration(unit.seconds)}{_pending_text(view)}"),
        "finished": f"finished{after} in {duration(unit.seconds)}{_pending_text(view)}",
        "failed": f"failed: {plain(unit.error) or 'no reason was recorded'} — press t to retry",
        "pending": f"not started, {works}",
        "interrupted": f"stopped after step {reached}, {works}",
    }.get(view.state, f"{plain(view.state)}; {works}")


def _pending_text(view: UnitView) -> str:
    if view.is_active or all(command.taken is not None for command in view.commands):
        return ""
    return "; a steering command is pending — press r to resume"


def _activity_text(view: UnitView, now: float) -> str:
    activity = view.activity
    assert activity is not None
    concept = f"“{plain(activity.concept)}”" if activity.concept else "the concept"
    # The row may be of a version that has other nodes.
    node = NODES.get(activity.node)
    sentence = node.sentence.format(concept) if node else plain(activity.node) or "between two steps"
    where = {"initial": "initial board", "summary": "summary", "end": "done"}.get(
        activity.kind, f"step {activity.step} of {activity.steps}"
    )
    attempt = f", attempt {activity.attempt + 1}" if activity.attempt else ""
    stop = " · stopping at the next checkpoint" if view.stop_requested_by else ""
    return f"{where}{attempt} · {sentence} · {duration(max(0.0, now - activity.since))}{stop}"
