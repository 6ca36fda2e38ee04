"""A report is written whole or not at all: as one page, or as a folder with a page for each unit."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile

from markupsafe import Markup

from line_neurons.agent.errors import DamagedError, UsageError
from line_neurons.eval.exchange.output_files import FolderPath
from line_neurons.tools.store.atomic_files import atomic_folder, atomic_write, remove_unfinished
from line_neurons.tools.store.records import Run
from line_neurons.tools.store.runs import RunStore
from line_neurons.tui.report.control_images import Controls
from line_neurons.tui.report.overview import Overview, read_overview
from line_neurons.tui.report.page import MARK, index_page, unit_name, unit_page, unit_section, whole_page
from line_neurons.tui.report.thumbnails import Album, InFolder, InPage, Strip
from line_neurons.tui.report.unit_section import UnitReport, Unreadable, unit_report
from line_neurons.tui.unit_view import read_unit

ONE_PAGE = 100
"""A page has at most so many units, unless that is wanted."""
_HEAD = 4096
"""A page says that it is a report within so many bytes."""
_OWN = re.compile(r"index\.html|units|units/unit-\d+\.html|pictures|pictures/[0-9a-f]{16}\.webp")
"""What a report's folder holds."""

Progress = Callable[[int, int], None]
"""Told as ``(units done, units in all)``."""


@dataclass(frozen=True)
class Written:
    """A report that was written.

    Args:
        path: the page, or the first page of the folder.
        units: how many units it has.
        size: of all of it, in bytes.
    """

    path: Path
    units: int
    size: int


def is_page(output: Path) -> bool:
    """Whether a report is written as one page, as its name says."""
    return output.suffix.lower() in {".html", ".htm"} and not isinstance(output, FolderPath)


def write_report(
    store: Path,
    run: str,
    output: Path,
    units: Sequence[int] | None = None,
    *,
    one_page: bool = False,
    control_images: bool = False,
    assets: Path | None = None,
    progress: Progress | None = None,
) -> Written:
    """Write a report of a run from its store, which is only looked at; no model is opened.

    What is told is how the store was at one moment, also while the run goes on.

    Args:
        store: the store's folder.
        run: the run, or the beginning of its name.
        output: a file that ends in ``.html``, or a folder.
        units: indices of units; None: all.
        one_page: write one page even of more than ``ONE_PAGE`` units.
        control_images: open the run's control set and show its images.
        assets: folder of installed asset packs; None: the usual one.
        progress: told of each unit.

    Raises:
        UsageError: there is no such run or unit, the page would be too large, or something else is in the way.
        StoreError: the store cannot be read.
        OSError: the output cannot be written.
    """
    with closing(RunStore(store, read_only=True)) as runs, runs.at_one_moment():
        shown = runs.run(run)
        chosen = None if units is None else frozenset(units)
        overview = read_overview(runs, shown, chosen, time.time())
        indices = [line.row.unit for line in overview.lines]
        if is_page(output) and len(indices) > ONE_PAGE and not one_page:
            raise UsageError(
                f"{len(indices)} units are many for one page (more than {ONE_PAGE})",
                f"name a folder (-o {output.stem}/), some units, or say --one-page",
            )
        _refuse_foreign(output)
        controls = Controls(store, shown)
        if control_images:
            controls.look_up(store, assets, shown, indices)
        write = _write_page if is_page(output) else _write_folder
        return write(_Source(store, runs, shown, overview, controls, progress), output, indices)


@dataclass(frozen=True)
class _Source:
    store: Path
    runs: RunStore
    run: Run
    overview: Overview
    controls: Controls
    progress: Progress | None
    labels: dict[int, Strip | None] = field(default_factory=dict)
    """The images of each label, once the units were read."""

    def album(self, shelf: InPage | InFolder) -> Album:
        return Album(self.store, str(self.run.fingerprints.get("target")), self.run.layer, shelf)

    def reports(self, indices: Sequence[int], album: Album) -> Iterator[UnitReport | Unreadable]:
        for done, unit in enumerate(indices, 1):
            try:
                view = read_unit(self.runs, self.run.id, unit)
            except DamagedError as error:
                yield Unreadable(unit, error.message)
            else:
                self.labels[unit] = album.strip(view.unit.images)
                yield unit_report(self.store, view, album, self.controls)
            if self.progress:
                self.progress(done, len(indices))


def _write_page(source: _Source, output: Path, indices: Sequence[int]) -> Written:
    shelf = InPage()
    with TemporaryFile() as body:
        lengths = []
        # The policy in the page's head names the style sheet, which has the images of all units.
        for report in source.reports(indices, source.album(shelf)):
            lengths.append(body.write(unit_section(report, 3).encode()))
        body.seek(0)
        sections = (Markup(body.read(length).decode()) for length in lengths)  # noqa: S704 - from the template
        remove_unfinished(output.resolve())
        with atomic_write(output.resolve()) as file:
            _write(file.write, whole_page(source.overview, source.labels, sections, shelf.rules))
    return Written(output, len(indices), output.stat().st_size)


def _write_folder(source: _Source, output: Path, indices: Sequence[int]) -> Written:
    with atomic_folder(output.resolve()) as folder:
        for name in ("units", "pictures"):
            (folder / name).mkdir()
        album = source.album(InFolder(folder / "pictures", "../pictures"))
        beside = [None, *indices, None]
        for place, report in enumerate(source.reports(indices, album), 1):
            page = unit_page(source.overview, report, beside[place - 1], beside[place + 1])
            with (folder / "units" / f"{unit_name(indices[place - 1])}.html").open("wb") as file:
                _write(file.write, page)
        with (folder / "index.html").open("wb") as file:
            _write(file.write, index_page(source.overview, source.labels))
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    return Written(output / "index.html", len(indices), size)


def _write(write: Callable[[bytes], object], pieces: Iterable[str]) -> None:
    for piece in pieces:
        write(piece.encode())


def _refuse_foreign(output: Path) -> None:
    """Leave alone what is no report.

    Raises:
        UsageError: something else has that name.
    """
    if not output.exists():
        return
    found = [path.relative_to(output).as_posix() for path in output.rglob("*")]
    if output.is_dir() and not is_page(output) and all(map(_OWN.fullmatch, found)):
        if not found:
            return
        first = Path(output) / "index.html"
    else:
        first = output
    if first.is_file() and is_page(first):
        with first.open("rb") as file:
            if MARK.encode() in file.read(_HEAD):
                return
    raise UsageError(
        f"{str(output)!r:.200} is there and is no report, so it is left as it is",
        "name another file or folder with -o, or remove it",
    )
