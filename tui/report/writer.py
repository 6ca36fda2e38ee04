"""Write a report atomically: as one page, or as a folder with a page for each unit."""

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
from line_neurons.tui.report.control_images import ControlImages
from line_neurons.tui.report.overview import Overview, read_overview
from line_neurons.tui.report.page import MARK, index_page, unit_name, unit_page, unit_section, whole_page
from line_neurons.tui.report.thumbnails import ImageFolder, ImageStrip, InlineImages, Thumbnails
from line_neurons.tui.report.unit_section import UnitReport, Unreadable, unit_report
from line_neurons.tui.unit_view import read_unit

MAX_UNITS_PER_PAGE = 100
"""Maximum number of units of one page, without ``one_page``."""
_HEAD = 4096
"""Bytes of a page in which its mark is searched."""
_OWN_FILES = re.compile(r"index\.html|units|units/unit-\d+\.html|pictures|pictures/[0-9a-f]{16}\.webp")
"""Files of a report's folder."""

Progress = Callable[[int, int], None]
"""Called with the number of finished units and their total."""


@dataclass(frozen=True)
class WrittenReport:
    """A report: its page or first page, its number of units, and its size in bytes."""

    path: Path
    units: int
    size: int


def is_page(output: Path) -> bool:
    """Whether a report is one page, by its name."""
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
) -> WrittenReport:
    """Write a report of a run from its store, read-only and without a model.

    The store is read in one transaction, also while the run is active.

    Args:
        store: the store's folder.
        run: the run, or the beginning of its name.
        output: a file that ends in ``.html``, or a folder.
        units: indices of units; None: all.
        one_page: allow more than ``MAX_UNITS_PER_PAGE`` units on one page.
        control_images: load images from the run's control set.
        assets: folder of installed asset packs; None: the default.
        progress: called after each unit.

    Raises:
        UsageError: there is no such run or unit, the page would be too large, or something else is in the way.
        StoreError: the store cannot be read.
        OSError: the output cannot be written.
    """
    with closing(RunStore(store, read_only=True)) as runs, runs.at_one_moment():
        record = runs.run(run)
        chosen = None if units is None else frozenset(units)
        overview = read_overview(runs, record, chosen, time.time())
        indices = [line.row.unit for line in overview.lines]
        if is_page(output) and len(indices) > MAX_UNITS_PER_PAGE and not one_page:
            raise UsageError(
                f"{len(indices)} units are too many for one page (more than {MAX_UNITS_PER_PAGE})",
                f"name a folder (-o {output.stem}/), some units, or use --one-page",
            )
        _refuse_foreign(output)
        controls = ControlImages(store, record)
        if control_images:
            controls.load_images(store, assets, record, indices)
        write = _write_page if is_page(output) else _write_folder
        return write(_Source(store, runs, record, overview, controls, progress), output, indices)


@dataclass(frozen=True)
class _Source:
    store: Path
    runs: RunStore
    run: Run
    overview: Overview
    controls: ControlImages
    progress: Progress | None
    labels: dict[int, ImageStrip | None] = field(default_factory=dict)
    """The images of each label that was read."""

    def thumbnails(self, storage: InlineImages | ImageFolder) -> Thumbnails:
        return Thumbnails(self.store, str(self.run.fingerprints.get("target")), self.run.layer, storage)

    def reports(self, indices: Sequence[int], thumbnails: Thumbnails) -> Iterator[UnitReport | Unreadable]:
        for done, unit in enumerate(indices, 1):
            try:
                view = read_unit(self.runs, self.run.id, unit)
            except DamagedError as error:
                yield Unreadable(unit, error.message)
            else:
                self.labels[unit] = thumbnails.strip(view.unit.images)
                yield unit_report(self.store, view, thumbnails, self.controls)
            if self.progress:
                self.progress(done, len(indices))


def _write_page(source: _Source, output: Path, indices: Sequence[int]) -> WrittenReport:
    storage = InlineImages()
    with TemporaryFile() as body:
        lengths = []
        # The page's head has the hash of the style sheet, which holds images of all units.
        for report in source.reports(indices, source.thumbnails(storage)):
            lengths.append(body.write(unit_section(report, 3).encode()))
        body.seek(0)
        sections = (Markup(body.read(length).decode()) for length in lengths)  # noqa: S704 - from the template
        remove_unfinished(output.resolve())
        with atomic_write(output.resolve()) as file:
            _write(file.write, whole_page(source.overview, source.labels, sections, storage.rules))
    return WrittenReport(output, len(indices), output.stat().st_size)


def _write_folder(source: _Source, output: Path, indices: Sequence[int]) -> WrittenReport:
    with atomic_folder(output.resolve()) as folder:
        for name in ("units", "pictures"):
            (folder / name).mkdir()
        thumbnails = source.thumbnails(ImageFolder(folder / "pictures", "../pictures"))
        beside = [None, *indices, None]
        for place, report in enumerate(source.reports(indices, thumbnails), 1):
            page = unit_page(source.overview, report, beside[place - 1], beside[place + 1])
            with (folder / "units" / f"{unit_name(indices[place - 1])}.html").open("wb") as file:
                _write(file.write, page)
        with (folder / "index.html").open("wb") as file:
            _write(file.write, index_page(source.overview, source.labels))
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    return WrittenReport(output / "index.html", len(indices), size)


def _write(write: Callable[[bytes], object], pieces: Iterable[str]) -> None:
    for piece in pieces:
        write(piece.encode())


def _refuse_foreign(output: Path) -> None:
    """Refuse to overwrite anything but a report.

    Raises:
        UsageError: something else has that name.
    """
    if not output.exists():
        return
    files = [path.relative_to(output).as_posix() for path in output.rglob("*")]
    if output.is_dir() and not is_page(output) and all(map(_OWN_FILES.fullmatch, files)):
        if not files:
            return
        first = Path(output) / "index.html"
    else:
        first = output
    if first.is_file() and is_page(first):
        with first.open("rb") as file:
            if MARK.encode() in file.read(_HEAD):
                return
    raise UsageError(
        f"{str(output)!r:.200} exists and is no report; it is not overwritten",
        "name another file or folder with -o, or remove it",
    )
