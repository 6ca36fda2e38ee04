"""Details of the selected run."""

from __future__ import annotations

from collections.abc import Iterator

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from line_neurons.agent.text import short_score
from line_neurons.tui.app.chrome import Flow
from line_neurons.tui.app.run_rows import SIGNS, RunRow
from line_neurons.tui.formatting import duration, phase_text, plain, setting_texts, when, workers_text

_SETTINGS = (
    "iterations", "images", "top", "random", "scorer", "patience", "restarts", "facets", "init", "control",
    "generator", "temperature", "max_concurrent_units", "revisit",
)  # fmt: skip


class RunDetail(VerticalScroll, can_focus=False):
    """A few lines on small screens; on large ones also settings, fingerprints and the command."""

    DEFAULT_CSS = """
    RunDetail {
        height: auto; min-height: 5; max-height: 50%; padding: 0 1; background: $surface;
        border-top: solid $border;
        & Static { height: auto; }
    }
    """

    def compose(self) -> ComposeResult:
        """Lay out the text."""
        yield Static()

    def show(self, row: RunRow | None, error: str, *, full: bool) -> None:
        """Show a run.

        Args:
            row: the run; None if there is none.
            error: of the last command on it; empty if there is none.
            full: show settings, fingerprints and the command too.
        """
        if row is None:
            self.query_one(Static).update("")
            return
        lines = list(_lines(row, error))
        self.query_one(Static).update(Group(*lines, *(_full_lines(row) if full else ())))


def _lines(row: RunRow, error: str) -> Iterator[RenderableType]:
    run = row.run
    yield Flow(
        [
            Text(plain(run.id), "bold"),
            *map(Text, (plain(run.target_name), plain(run.layer), f"seed {run.seed}")),
        ]
    )
    yield Text(
        f"{plain(run.settings.get('llm'))}  started {when(run.created)}"
        + (f", ended {when(run.finished)}" if run.finished else ""),
        overflow="ellipsis",
        no_wrap=True,
    )
    yield Text(f"{SIGNS[row.state]} {_state_sentence(row)}")
    if row.first_error:
        unit, reason = row.first_error
        yield Text(f"! unit {unit}: {plain(reason)}")
    remarks = [Text(f"! {plain(remark)}") for remark in row.remarks]
    if row.short_remarks:
        yield from remarks
    # A failure that lasts is recorded, and stands in the sentence above.
    if error and not (row.lasting_failure and row.lasting_failure[:80] in error):
        yield Text(f"! {error}")
    if row.labels:
        best = ", ".join(f"{plain(label)} +{short_score(margin)}" for label, margin in row.labels)
        yield Text(f"best by margin: {best}")
    if not row.short_remarks:
        yield from remarks


def _state_sentence(row: RunRow) -> str:
    """Describe the state with its reason and the key to press."""
    counts = row.work_counts
    images = f"; {counts.generated} images generated, {counts.reused} from the cache" if counts else ""
    rate = f", {row.images_per_second:.1f} images/s" if row.images_per_second is not None else ""
    rate += f"; {plain(workers_text(counts.workers))}" if counts and counts.workers else ""
    doing = f": {plain(phase_text(row.phase, row.beat))}" if row.phase else ""
    left = f", about {duration(row.seconds_left)} left" if row.seconds_left is not None else ""
    continue_ = "t retries the failed units" if row.failed else "r resumes"
    if row.lasting_failure:
        continue_ = "a resume would fail as before; once that is repaired, r resumes"
    return {
        "running": f"running, {plain(row.holder)}{doing}{images}{rate}{left}; x stops it",
        "starting": f"starting, {plain(row.holder)}{doing}",
        "stopping": f"stopping after the current steps, requested by {plain(row.stop_requested_by)}",
        "process gone": f"{plain(row.holder)} is gone; finished steps are saved; r resumes",
        "interrupted": "interrupted; finished steps are saved; r resumes",
        "failed": f"failed: {plain(row.run.error) or 'no reason was recorded'}; {continue_}",
        "not started": "not started; r starts it",
        "finished": "finished; enter shows the labels",
    }[row.state]


def _full_lines(row: RunRow) -> Iterator[RenderableType]:
    run = row.run
    yield Text()
    texts = setting_texts(run.settings)
    settings = (
        f"{name.replace('_', ' ')} {plain(texts[name])}"
        for name in _SETTINGS
        if run.settings.get(name) not in {None, ""}
    )
    yield Columns([Text(setting) for setting in settings], equal=True, padding=(0, 3))
    for component, fingerprint in run.fingerprints.items():
        yield Text(
            f"{plain(component).replace('_', ' ')}: {plain(fingerprint)}",
            overflow="ellipsis",
            no_wrap=True,
            style="dim",
        )
    if run.command:
        yield Text(f"$ {plain(run.command)}", overflow="ellipsis", no_wrap=True)
