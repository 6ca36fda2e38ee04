"""What ``line report`` does: writes the page or the folder, and says where it is."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from line_neurons.tools.store.runs import find_unit, open_store
from line_neurons.tui.cli import output as terminal

_MEGABYTE = 1_000_000


def report(
    store: Path,
    assets: Path | None,
    name: str,
    which: Sequence[str],
    output: Path | None,
    *,
    one_page: bool,
    control_images: bool,
    as_json: bool,
) -> None:
    """Write a report of a run.

    Args:
        store: the store's folder.
        assets: folder of installed asset packs; None: the usual one.
        name: the run, or the beginning of its name.
        which: numbers or class names of units; empty: all.
        output: where it is written; None: a page in this folder, called like the run.
        one_page: write one page however many units there are.
        control_images: open the control set for its images.
        as_json: print JSON.

    Raises:
        UsageError: there is no such run or unit, or the output does not fit.
        StoreError: the store cannot be read.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from line_neurons.tui.report.writer import write_report

    with closing(open_store(store)) as opened:
        shown = opened.run(name)
        units = [find_unit(shown, opened.units(shown.id), one).unit for one in which] if which else None
    columns = TextColumn("units"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, console=terminal.err, transient=True, disable=not terminal.err.is_terminal) as bar:
        task = bar.add_task("units", total=None)
        written = write_report(
            store,
            shown.id,
            output or Path(f"{shown.id}.html"),
            units,
            one_page=one_page,
            control_images=control_images,
            assets=assets,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if as_json:
        terminal.dump(
            {"report": str(written.path), "run": shown.id, "units": written.units, "bytes": written.size}
        )
        return
    size = f"{written.size / _MEGABYTE:.1f} MB"
    terminal.line(f"{written.path}: {terminal.counted(written.units, 'unit')}, {size}")
