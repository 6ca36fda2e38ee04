"""The loop of one unit, drawn as its nodes with the one at work lit, and how the unit stands in words."""

from __future__ import annotations

import time

from rich.text import Text
from textual.widgets import Static

from line_neurons.agent.loop import BEGINNING, NODES
from line_neurons.tools.label_marks import ENDED, UNLABELLED, describe_marks
from line_neurons.tui.formatting import counted, duration, plain
from line_neurons.tui.unit_view import UnitView

_BOXED = tuple(name for name in NODES if name != BEGINNING)
_BOXES = 116
"""So wide a terminal has room for a box around each node."""

_SIGNS = {
    "running": "▸",
    **dict.fromkeys(UNLABELLED, "∅"),
    "finished": "✓",
    "failed": "✗",
    "interrupted": "‖",
    "pending": "·",
}


class LoopView(Static):
    """The six nodes of the loop, with ``init`` as the way in; the lit one has a sign and heavy lines."""

    DEFAULT_CSS = """
    LoopView { height: auto; padding: 0 1; color: $text-muted; }
    """

    def __init__(self) -> None:
        super().__init__(markup=False)
        self._node = ""

    def light(self, node: str) -> None:
        """Light a node; none where the name is empty."""
        if node != self._node:
            self._node = node
            self.refresh(layout=True)

    def render(self) -> Text:
        """The drawing that fits the width."""
        lit = f"bold {self.app.theme_variables.get('accent', '')}"
        return _boxes(self._node, lit) if self.app.size.width >= _BOXES else _line(self._node, lit)


def _line(node: str, lit: str) -> Text:
    drawn = Text(no_wrap=True, overflow="ellipsis")
    for place, name in enumerate((BEGINNING, *_BOXED)):
        drawn.append("" if not place else " → ")
        drawn.append(*((f"▐●{name}▌", f"{lit} reverse") if name == node else (name, "")))
    return drawn


def _boxes(node: str, lit: str) -> Text:
    rows = [Text(no_wrap=True) for _ in range(4)]
    at: dict[str, tuple[int, int]] = {}
    for text, row in zip(
        ("       ", "● init " if node == "init" else "  init ", "       ", "       "), rows, strict=True
    ):
        row.append(text, lit if node == "init" else "")
    for place, name in enumerate(_BOXED):
        arrow = "─▶ " if place else "▶ "
        for index, row in enumerate(rows):
            row.append(arrow if index == 1 else " " * len(arrow))
        here, style = name == node, lit if name == node else ""
        inside = f" {'●' if here else ' '} {name} "
        corners = ("┏━┓", "┃ ┃", "┗━┛") if here else ("╭─╮", "│ │", "╰─╯")
        at[name] = (rows[0].cell_len, len(inside) + 2)
        rows[0].append(corners[0][0] + corners[0][1] * len(inside) + corners[0][2], style)
        rows[1].append(corners[1][0] + inside + corners[1][2], style)
        rows[2].append(corners[2][0] + corners[2][1] * len(inside) + corners[2][2], style)
    begin = at["propose"][0] + at["propose"][1] // 2
    end = at["update"][0] + at["update"][1] // 2
    says = " next step "
    dashes = end - begin - 1 - len(says)
    rows[3] = Text(
        " " * begin + "▲" + "─" * (dashes // 2) + says + "─" * (dashes - dashes // 2) + "╯", no_wrap=True
    )
    return Text("\n").join(rows)


class StateLine(Static):
    """What the unit does now and for how long, or why nothing goes on and what to press."""

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
        """Count the seconds."""
        self.set_interval(1, self._tell)

    def show(self, view: UnitView) -> None:
        """Tell of another state of the unit."""
        self._view = view
        for name in (*_SIGNS, "stale"):
            self.set_class(name == ("stale" if view.stale else view.state), name)
        self._tell()

    def _tell(self) -> None:
        if self._view is not None:
            self.update(Text(state_text(self._view, time.time())))


def state_text(view: UnitView, now: float) -> str:
    """How a unit stands, in one line.

    Args:
        view: the unit.
        now: seconds since the epoch.
    """
    sign = _SIGNS.get(view.state, "!")
    if view.doing is not None:
        return f"{sign} {_doing_text(view, now)}"
    if view.stale and view.state not in ENDED:
        return f"! {plain(view.holder)}, which worked on it, is gone; nothing is lost — press r to resume"
    return f"{sign} {_resting_text(view)}"


def _resting_text(view: UnitView) -> str:
    unit, reached = view.unit, max((one.step for one in view.steps), default=0)
    # Of an older store the number of steps is not known.
    after = f" after {counted(unit.steps, 'step')}" if unit.steps is not None else ""
    works = (
        f"{plain(view.holder)} works on the run" if view.worked_on else "nobody works on it — press r to resume"
    )
    nothing = f"no label: {plain(describe_marks(unit.marks))}"
    return {
        **dict.fromkeys(UNLABELLED, f"{nothing}; {duration(unit.seconds)}{_steered_on(view)}"),
        "finished": f"finished{after} in {duration(unit.seconds)}{_steered_on(view)}",
        "failed": f"failed: {plain(unit.error) or 'no reason was recorded'} — press t to try it again",
        "pending": f"not begun, {works}",
        "interrupted": f"stopped after step {reached}, {works}",
    }.get(view.state, f"{plain(view.state)}; {works}")


def _steered_on(view: UnitView) -> str:
    if view.worked_on or all(command.taken is not None for command in view.commands):
        return ""
    return "; something was asked of it, and nobody works on the run — press r to resume"


def _doing_text(view: UnitView, now: float) -> str:
    doing = view.doing
    assert doing is not None
    concept = f"“{plain(doing.concept)}”" if doing.concept else "the concept"
    # The row may be of a version that has other nodes.
    node = NODES.get(doing.node)
    said = node.sentence.format(concept) if node else plain(doing.node) or "between two steps"
    where = {"initial": "first board", "summary": "summary", "end": "done"}.get(
        doing.kind, f"step {doing.step} of {doing.steps}"
    )
    again = f", asked again ({counted(doing.attempt, 'refusal')})" if doing.attempt else ""
    stop = " · stopping at the next checkpoint" if view.stopping else ""
    return f"{where}{again} · {said} · {duration(max(0.0, now - doing.since))}{stop}"
