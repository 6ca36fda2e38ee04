"""What is known of the run under the cursor."""

from __future__ import annotations

from collections.abc import Iterator

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from line_neurons.agent.text import format_score
from line_neurons.tui.app.run_rows import SIGNS, RunRow
from line_neurons.tui.formatting import duration, plain, when

_SETTINGS = (
    "iterations", "images", "top", "random", "scorer", "patience", "restarts", "init", "control", "generator",
    "temperature", "max_concurrent_units", "revisit",
)  # fmt: skip


class RunDetail(VerticalScroll, can_focus=False):
    """A few lines where there is little room; else also settings, fingerprints and the command."""

    DEFAULT_CSS = """
    RunDetail {
        height: 5; padding: 0 1; background: $surface; border-top: solid $border;
        &.-roomy { height: 16; }
        & Static { height: auto; }
    }
    """

    def compose(self) -> ComposeResult:
        """One text."""
        yield Static()

    def show(self, row: RunRow | None, said: str, *, roomy: bool) -> None:
        """Tell about a run.

        Args:
            row: the run; None if there is none.
            said: what a command on it last said that failed.
            roomy: whether there is room for all.
        """
        self.set_class(roomy, "-roomy")
        if row is None:
            self.query_one(Static).update("")
            return
        lines = list(_lines(row, said))
        self.query_one(Static).update(Group(*lines, *(_more(row) if roomy else ())))


def _lines(row: RunRow, said: str) -> Iterator[Text]:
    run = row.run
    yield Text.assemble(
        (plain(run.id), "bold"), f"  {plain(run.target_name)}  {plain(run.layer)}  seed {run.seed}",
        overflow="ellipsis", no_wrap=True,
    )  # fmt: skip
    yield Text(
        f"{plain(run.settings.get('llm'))}  began {when(run.created)}"
        + (f", ended {when(run.finished)}" if run.finished else ""),
        overflow="ellipsis",
        no_wrap=True,
    )
    yield Text(f"{SIGNS[row.state]} {_told(row)}")
    if row.first_error:
        unit, why = row.first_error
        yield Text(f"! unit {unit}: {plain(why)}")
    remarks = [Text(f"! {plain(remark)}") for remark in row.remarks]
    if row.noted:
        yield from remarks
    if said:
        yield Text(f"! {said}")
    if row.labels:
        best = ", ".join(f"{plain(label)} +{format_score(margin)}" for label, margin in row.labels)
        yield Text(f"best by margin: {best}")
    if not row.noted:
        yield from remarks


def _told(row: RunRow) -> str:
    """A state with its reason and what to press."""
    made = row.made
    images = f"; {made.generated} images drawn, {made.reused} taken from the store" if made else ""
    rate = f", {row.rate:.1f} images/s" if row.rate is not None else ""
    left = f", about {duration(row.left)} left" if row.left is not None else ""
    again = "t takes the failed units again" if row.failed else "r resumes"
    return {
        "running": f"running, {plain(row.holder)}{images}{rate}{left}; x stops it",
        "stopping": f"stopping after the steps in hand, asked by {plain(row.stop)}",
        "process gone": f"{plain(row.holder)} is gone; r resumes, and nothing finished is lost",
        "interrupted": "interrupted, every finished step is kept; r resumes",
        "failed": f"failed: {plain(row.run.error) or 'no reason was written down'}; {again}",
        "not begun": "not begun; r begins",
        "finished": "finished; enter shows the labels",
    }[row.state]


def _more(row: RunRow) -> Iterator[RenderableType]:
    run = row.run
    yield Text()
    known = (
        f"{name.replace('_', ' ')} {plain(run.settings[name])}"
        for name in _SETTINGS
        if run.settings.get(name) not in {None, ""}
    )
    yield Columns([Text(one) for one in known], equal=True, padding=(0, 3))
    for part, fingerprint in run.fingerprints.items():
        yield Text(
            f"{plain(part).replace('_', ' ')}: {plain(fingerprint)}",
            overflow="ellipsis",
            no_wrap=True,
            style="dim",
        )
    if run.command:
        yield Text(f"$ {plain(run.command)}", overflow="ellipsis", no_wrap=True)
