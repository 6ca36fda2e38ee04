"""Write a report atomically: as one page, or as a folder with a page for each unit, of one run or several."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryFile

from markupsafe import Markup

from line_neurons.agent.errors import DamagedError, UsageError
from line_neurons.eval.exchange.output_files import FolderPath
from line_neurons.tools.spreads import Spreads
from line_neurons.tools.store.atomic_files import atomic_folder, atomic_write, remove_unfinished
from line_neurons.tools.store.records import Run, plain_name
from line_neurons.tools.store.results.facets import UnitFacets, facets_of
from line_neurons.tools.store.runs import RunStore
from line_neurons.tui.report.control_images import ControlImages
from line_neurons.tui.report.map_images import MapImages
from line_neurons.tui.report.overview import Overview, read_overview
from line_neurons.tui.report.page import (
    MARK,
    Labels,
    RunReport,
    index_page,
    runs_page,
    unit_name,
    unit_page,
    unit_section,
    whole_page,
)
from line_neurons.tui.report.thumbnails import ImageFolder, InlineImages, Thumbnails
from line_neurons.tui.report.unit_section import UnitReport, Unreadable, unit_report
from line_neurons.tui.unit_view import read_unit

MAX_UNITS_PER_PAGE = 100
"""Maximum number of units of one page, without ``one_page``."""
_HEAD = 4096
"""Bytes of a page in which its mark is searched."""
_OF_RUN = r"index\.html|units|units/unit-\d+\.html|pictures|pictures/[0-9a-f]{16}\.webp"
_OWN_FILES = re.compile(rf"{_OF_RUN}|run-[A-Za-z0-9_.-]+/(?:{_OF_RUN})")
"""Files of a report's folder; a report of several runs has a folder for each."""

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
    maps: bool = False,
    assets: Path | None = None,
    progress: Progress | None = None,
) -> WrittenReport:
    """Write a report of a run from its store, read-only and, unless maps are wanted, without a model.

    The store is read in one transaction, also while the run is active.

    Args:
        run: the run, or the beginning of its name.
        output: a file that ends in ``.html``, or a folder.
        units: indices of units; None: all.
        one_page: allow more than ``MAX_UNITS_PER_PAGE`` units on one page.
        maps: open the run's target and show where in the label's images each unit responds.
        assets: folder of installed asset packs; None: the default.

    Raises:
        UsageError: there is no such run or unit, the page would be too large, or something else is in the way.
        StoreError: the store cannot be read.
        OSError: the output cannot be written.
    """
    with closing(RunStore(store, read_only=True)) as runs, runs.at_one_moment():
        source = _read(runs, store, run, units, progress)
        count = len(source.indices)
        if is_page(output) and count > MAX_UNITS_PER_PAGE and not one_page:
            raise UsageError(
                f"{count} units are too many for one page (more than {MAX_UNITS_PER_PAGE})",
                f"name a folder (-o {output.stem}/), some units, or use --one-page",
            )
        _refuse_foreign(output)
        if maps:
            source = replace(source, maps=MapImages(runs, source.run, assets, source.indices))
        source.load_control_images(assets, wanted=control_images)
        return (_write_page if is_page(output) else _write_folder)(source, output)


def write_reports(
    store: Path,
    runs: Sequence[str],
    output: Path,
    *,
    control_images: bool = False,
    maps: bool = False,
    assets: Path | None = None,
    progress: Progress | None = None,
) -> WrittenReport:
    """Write a folder with the report of each run, and an index of them and their labels; see ``write_report``.

    A run with damaged rows is named in the index, and left out.

    Args:
        runs: ids of the runs, in order.
        maps: open the runs' targets and show where in the labels' images each unit responds.
        assets: folder of installed asset packs; None: the default.

    Raises:
        UsageError: there is no such run, the output is a page, or something else is in the way.
        StoreError: the store cannot be read.
        OSError: the output cannot be written.
    """
    if is_page(output):
        raise UsageError(
            f"{str(output)!r:.200} is one page, and several runs need a folder",
            f"name a folder (-o {output.stem}/), or a single run",
        )
    _refuse_foreign(output)
    with closing(RunStore(store, read_only=True)) as opened:
        totals = [sum(opened.states(run).values()) for run in runs]
    found: list[RunReport] = []
    unreadable: list[tuple[str, str]] = []
    with atomic_folder(output.resolve()) as folder:
        for place, run in enumerate(runs):
            before = sum(totals[:place])
            part = folder / f"run-{plain_name(run)}"
            try:
                with closing(RunStore(store, read_only=True)) as opened, opened.at_one_moment():
                    source = _read(opened, store, run, None, _after(progress, before, sum(totals)))
                    if maps:
                        source = replace(source, maps=MapImages(opened, source.run, assets, source.indices))
                    source.load_control_images(assets, wanted=control_images)
                    part.mkdir()
                    _fill_folder(source, part, above="../index.html")
            except DamagedError as error:
                unreadable.append((run, error.message))
                shutil.rmtree(part, ignore_errors=True)
            else:
                found.append(RunReport(source.overview, source.labels, part.name))
        with (folder / "index.html").open("wb") as file:
            _write(file.write, runs_page(found, unreadable, time.time()))
    units = sum(len(report.overview.lines) for report in found)
    return WrittenReport(output / "index.html", units, _size(output))


def _after(progress: Progress | None, before: int, total: int) -> Progress | None:
    """Return the progress of one run as that of all runs."""
    if progress is None:
        return None
    return lambda done, _: progress(before + done, total)


@dataclass(frozen=True)
class _Source:
    store: Path
    runs: RunStore
    run: Run
    overview: Overview
    controls: ControlImages
    spreads: Spreads
    progress: Progress | None
    labels: Labels = field(default_factory=Labels)
    maps: MapImages | None = None

    @cached_property
    def facets(self) -> dict[int, UnitFacets]:
        """The facets of the run's units, by unit."""
        return facets_of(self.runs, self.run.id)

    @property
    def indices(self) -> list[int]:
        return [line.row.unit for line in self.overview.lines]

    def load_control_images(self, assets: Path | None, *, wanted: bool) -> None:
        if wanted:
            facets = (self.facets[unit] for unit in self.indices if unit in self.facets)
            classes = {(one.unit, name) for one in facets for facet in one.facets for name in facet.sources}
            self.controls.load_images(self.store, assets, self.run, self.indices, classes, self.maps)

    def thumbnails(self, storage: InlineImages | ImageFolder) -> Thumbnails:
        return Thumbnails(self.store, str(self.run.fingerprints.get("target")), self.run.layer, storage, self.maps)

    def reports(self, thumbnails: Thumbnails) -> Iterator[UnitReport | Unreadable]:
        indices = self.indices
        for done, unit in enumerate(indices, 1):
            try:
                view = read_unit(self.runs, self.run.id, unit)
            except DamagedError as error:
                yield Unreadable(unit, error.message)
            else:
                facets = self.facets.get(unit)
                report = unit_report(self.store, view, thumbnails, self.controls, self.spreads, facets)
                self.labels.strips[unit] = thumbnails.strip(view.unit.images)
                self.labels.spreads[unit] = report.spread
                yield report
            if self.progress:
                self.progress(done, len(indices))


def _read(
    runs: RunStore, store: Path, run: str, units: Sequence[int] | None, progress: Progress | None
) -> _Source:
    record = runs.run(run)
    overview = read_overview(runs, record, None if units is None else frozenset(units), time.time())
    return _Source(store, runs, record, overview, ControlImages(store, record), Spreads(store, record), progress)


def _write_page(source: _Source, output: Path) -> WrittenReport:
    storage = InlineImages()
    with TemporaryFile() as body:
        lengths = []
        # The page's head has the hash of the style sheet, which holds images of all units.
        for report in source.reports(source.thumbnails(storage)):
            lengths.append(body.write(unit_section(report, 3).encode()))
        body.seek(0)
        sections = (Markup(body.read(length).decode()) for length in lengths)  # noqa: S704 - from the template
        remove_unfinished(output.resolve())
        with atomic_write(output.resolve()) as file:
            _write(file.write, whole_page(source.overview, source.labels, sections, storage.rules))
    return WrittenReport(output, len(lengths), output.stat().st_size)


def _write_folder(source: _Source, output: Path) -> WrittenReport:
    with atomic_folder(output.resolve()) as folder:
        _fill_folder(source, folder)
    return WrittenReport(output / "index.html", len(source.indices), _size(output))


def _fill_folder(source: _Source, folder: Path, above: str = "") -> None:
    """Write the pages and images of a run; ``above`` is the address of a report of several runs."""
    for name in ("units", "pictures"):
        (folder / name).mkdir()
    indices = source.indices
    beside = [None, *indices, None]
    thumbnails = source.thumbnails(ImageFolder(folder / "pictures", "../pictures"))
    for place, report in enumerate(source.reports(thumbnails), 1):
        page = unit_page(source.overview, report, beside[place - 1], beside[place + 1])
        with (folder / "units" / f"{unit_name(indices[place - 1])}.html").open("wb") as file:
            _write(file.write, page)
    with (folder / "index.html").open("wb") as file:
        _write(file.write, index_page(source.overview, source.labels, above))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


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
    own = output.is_dir() and not is_page(output) and all(_is_own(path, output) for path in output.rglob("*"))
    if own and not any(output.iterdir()):
        return
    first = Path(output) / "index.html" if own else output
    if first.is_file() and is_page(first) and _has_mark(first):
        return
    raise UsageError(
        f"{str(output)!r:.200} exists and is no report; it is not overwritten",
        "name another file or folder with -o, or remove it",
    )


def _is_own(path: Path, output: Path) -> bool:
    """Return whether a path in a folder may be of a report."""
    name = path.relative_to(output).as_posix()
    if name.startswith("run-") and "/" not in name:
        return path.is_dir() and ((first := path / "index.html").is_file() and _has_mark(first))
    return _OWN_FILES.fullmatch(name) is not None


def _has_mark(page: Path) -> bool:
    with page.open("rb") as file:
        return MARK.encode() in file.read(_HEAD)
