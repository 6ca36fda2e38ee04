"""The results of a run in Python: labels, boards, histories, images and data frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from line_neurons.agent.errors import DamagedError, UsageError
from line_neurons.agent.near_names import near_names
from line_neurons.agent.settings import load_settings
from line_neurons.agent.text import clean_text, format_spread, short_score
from line_neurons.graphs.api.notebook import RUN, UNIT, render
from line_neurons.tools import label_marks as marks
from line_neurons.tools.cache.reader import StoredImage, stored_images
from line_neurons.tools.images.reader import ImageError, read_image
from line_neurons.tools.packages import required_package
from line_neurons.tools.run_problems import recorded_doubts, run_problems
from line_neurons.tools.spreads import Spreads
from line_neurons.tools.store.best_so_far import with_best_so_far
from line_neurons.tools.store.columns import STEP_COLUMNS, UNIT_COLUMNS, Kind, Row, status_of, step_row, unit_row
from line_neurons.tools.store.leases import lease_status
from line_neurons.tools.store.records import Run, Step, Unit
from line_neurons.tools.store.results.edits import EDIT_COLUMNS, EditResult, edit_rows, stored_edits
from line_neurons.tools.store.results.facets import facets_of
from line_neurons.tools.store.runs import RunStore, default_store, has_runs, open_store

if TYPE_CHECKING:
    from pandas import DataFrame
    from PIL.Image import Image

_DTYPES: dict[Kind, str] = {
    "text": "string",
    "integer": "Int64",
    "number": "Float64",
    "flag": "boolean",
    "texts": "object",
}


@dataclass(frozen=True, kw_only=True)
class UnitResult(Unit):
    """A unit with its label and evidence; the attributes of ``Unit`` are its columns in the store.

    Args:
        store: the store's folder.
        layer: dotted path of the layer.
        target: fingerprint of the vision model.
        spreads: the spreads of the run's scores.
    """

    store: Path = field(repr=False)
    layer: str
    target: str = field(repr=False)
    spreads: Spreads = field(repr=False, compare=False)

    @property
    def spread(self) -> float | None:
        """The standard error of the score over the label's images; None where it is not known.

        Raises:
            StoreError: the store cannot be read.
        """
        return self.spread_of(None)

    def spread_of(self, step: Step | None) -> float | None:
        """Return the standard error of a step's score, or of the label's; errors as of ``spread``."""
        return (self.spreads.of_units([self]) if step is None else self.spreads.of_steps([step]))[0]

    @property
    def runner_up(self) -> tuple[str, float] | None:
        """The best concept that shares no word with the label, and its score, or None."""
        if self.second_label is None or self.second_score is None:
            return None
        return self.second_label, self.second_score

    @cached_property
    def history(self) -> list[Step]:
        """All scored and refused concepts, in order, with the reasoning; see ``Step``.

        Raises:
            StoreError: the store cannot be read.
        """
        with closing(RunStore(self.store, read_only=True)) as runs:
            return runs.steps(self.run, self.unit)

    @property
    def board(self) -> list[tuple[str, float]]:
        """The scoreboard as the search left it, best first."""
        return list(next((step.board for step in reversed(self.history) if step.board), ()))

    @property
    def pil_images(self) -> list[Image]:
        """The label's images, read from the store.

        Raises:
            DamagedError: one is missing or corrupt.
            StoreError: the store cannot be read.
        """
        return self.images_of(self.images)

    def images_of(self, what: Step | Iterable[str]) -> list[Image]:
        """Read the images of a step, or those with the given ids; errors as of ``pil_images``."""
        return [_open_image(image) for image in self.evidence(what)]

    # Former names, kept for one release.
    pictures = pil_images
    pictures_of = images_of

    def evidence(self, what: Step | Iterable[str] | None = None) -> list[StoredImage]:
        """Read images with their prompts and the unit's activation on each; those of the label if None.

        Missing and corrupt images say so in ``trouble``.

        Raises:
            StoreError: the store cannot be read.
        """
        ids = self.images if what is None else what.images if isinstance(what, Step) else tuple(what)
        return stored_images(self.store, ids, self.target, self.layer, self.unit)

    @property
    def edits(self) -> list[EditResult]:
        """What edits of images of this unit showed (``line eval edits``), newest first; empty without any.

        Raises:
            StoreError: the store cannot be read.
        """
        return stored_edits(self.store, self.run, self.unit)

    @property
    def estimate(self) -> str:
        """The score with its spread, in words."""
        return f"{short_score(self.score or 0)} {format_spread(self.spread)}"

    @property
    def condition(self) -> str:
        """The unit's marks in words; empty where it has none."""
        return marks.describe_marks(self.marks)

    @property
    def title(self) -> str:
        """The unit's number with its class name, if it has one."""
        return f"unit {self.unit}" + (f" ({clean_text(self.name, 80)})" if self.name else "")

    def __repr__(self) -> str:
        """Show the unit in a line."""
        state = f"{self.status}, {clean_text(self.error, 200)}" if self.error else self.status
        label = "" if self.label is None else f"{clean_text(self.label, 80)}, score {self.estimate}"
        # A failed unit may have a best label so far, too.
        shown = [state if self.error or not label else "", label, clean_text(self.condition, 300)]
        return f"<{self.title}: {', '.join(filter(None, shown))}>"

    def _repr_html_(self) -> str:
        return render(UNIT, unit=self)


@dataclass(frozen=True)
class Result:
    """A run with its units, in the order in which they were selected; ``refresh`` reads it again.

    ``result[18]`` and ``result["tiger"]`` are a unit by number or class name, ``for unit in result`` iterates over
    all, and ``result.units[0]`` is the first. ``worked_on``: a process is running it.
    """

    run: Run
    units: tuple[UnitResult, ...]
    store: Path
    worked_on: bool = False

    @property
    def finished(self) -> bool:
        """Whether every unit has ended: it has its label, or can have none."""
        return all(unit.status in marks.DONE for unit in self.units)

    @property
    def remarks(self) -> list[str]:
        """Problems of the run as a whole, a sentence each: units without a label, refused replies ...

        Raises:
            StoreError: the store cannot be read.
        """
        with closing(RunStore(self.store, read_only=True)) as runs:
            return run_problems(self.store, runs, self.run).remarks()

    def __len__(self) -> int:
        """Return the number of units."""
        return len(self.units)

    def __iter__(self) -> Iterator[UnitResult]:
        """Iterate over the units, in order."""
        return iter(self.units)

    def __getitem__(self, which: int | str) -> UnitResult:
        """Return a unit by its number or its class name in any case.

        Raises:
            UsageError: the run has no such unit.
        """
        for unit in self.units:
            if unit.unit == which or (unit.name and unit.name.casefold() == str(which).casefold()):
                return unit
        known = ", ".join(f"{unit.unit}{f' {unit.name}' if unit.name else ''}" for unit in self.units[:12])
        near = near_names(str(which), [unit.name for unit in self.units if unit.name])
        raise UsageError(
            f"run {self.run.id} has no unit {which!r:.60}",
            f"{near + '; ' if near else ''}its units: {clean_text(known, 300)}",
        )

    def refresh(self) -> Result:
        """Read the run again, which another process may be running."""
        return load(self.run.id, self.store)

    def frame(self) -> DataFrame:
        """Return a row for each unit, with the columns of ``line results``.

        Raises:
            MissingPartError: pandas is not installed.
        """
        spreads = Spreads(self.store, self.run).of_units(self)
        with closing(RunStore(self.store, read_only=True)) as runs:
            doubts = recorded_doubts(runs, self.run.id)
            facets = {unit: found.columns for unit, found in facets_of(runs, self.run.id).items()}
        rows = (
            unit_row(self.run, unit, spread, worked_on=self.worked_on, doubts=doubts, facets=facets.get(unit.unit))
            for unit, spread in zip(self, spreads, strict=True)
        )
        return frame_of(rows, UNIT_COLUMNS)

    def steps_frame(self) -> DataFrame:
        """Return a row for each scored or refused concept, unit by unit, in order.

        Raises:
            MissingPartError: pandas is not installed.
        """
        steps = [step for unit in self for step in unit.history]
        return frame_of(map(step_row, steps, Spreads(self.store, self.run).of_steps(steps)), STEP_COLUMNS)

    def edits_frame(self) -> DataFrame:
        """Return a row for each edited image and arm of ``line eval edits``, unit by unit.

        Raises:
            MissingPartError: pandas is not installed.
            StoreError: the store cannot be read.
        """
        return frame_of((row for unit in self for row in edit_rows(unit.edits)), EDIT_COLUMNS)

    def __repr__(self) -> str:
        """Show the run and a line for each unit."""
        lines = [f"run {self.run.id}: {clean_text(self.run.target_name, 200)} {self.run.layer}, {self.run.status}"]
        return "\n".join([*lines, *(f"  {unit!r}" for unit in self), *self.remarks])

    def _repr_html_(self) -> str:
        return render(RUN, result=self)


def load(run: Path | str, store: Path | str | None = None) -> Result:
    """Load a recorded run, finished or not.

    Args:
        run: its id, or an unambiguous prefix of it; or a path: ``"runs/resnet50-layer4-1"``, or the folder of a
            store that has one run.
        store: the store's folder; None: that of the environment or line.toml, or the default one.

    Raises:
        UsageError: there are no runs, no such run, or several in the folder.
        StoreError: the store cannot be read.
    """
    name, place = _placed(run, store)
    with closing(open_store(place, remedy="name the folder with store=")) as runs:
        found = runs.run(name if name is not None else _only_run(runs, place))
        held = lease_status(runs, check_liveness=False).get(found.id)
        worked_on = held is not None and not held.stale
        belongs: dict[str, Any] = {
            "store": place,
            "layer": found.layer,
            "target": str(found.fingerprints.get("target", "")),
            "spreads": Spreads(place, found),
        }
        units = tuple(
            UnitResult(**{**asdict(unit), "status": status_of(unit, worked_on=worked_on)}, **belongs)
            for unit in with_best_so_far(runs, found.id, runs.units(found.id))
        )
    return Result(found, units, place, worked_on)


def _placed(run: Path | str, store: Path | str | None) -> tuple[str | None, Path]:
    """Return a run's name and the folder of its store; None for the only run of a store."""
    path = Path(run).expanduser()
    if store is None and has_runs(path):
        return None, path
    if store is None and len(path.parts) > 1:
        return path.name, path.parent
    return str(run), Path(store).expanduser() if store else load_settings().store or default_store()


def _only_run(runs: RunStore, place: Path) -> str:
    names = runs.names()
    if len(names) != 1:
        listed = ", ".join(list(names)[:5])
        raise UsageError(f"{place} has {len(names)} runs: {listed}", "name one: load(RUN, store=FOLDER)")
    return str(names[0])


def _open_image(image: StoredImage) -> Image:
    if image.error:
        raise DamagedError(f"the image {image.id[:12]} {image.error}", "see `line doctor --store`")
    try:
        return read_image(image.content)
    except ImageError as error:
        raise DamagedError(
            f"the image {image.id[:12]} cannot be decoded: {error}", "see `line doctor --store`"
        ) from error


def frame_of(rows: Iterable[Row], columns: Mapping[str, Kind]) -> DataFrame:
    """Return rows as a data frame with columns of these types.

    Raises:
        MissingPartError: pandas is not installed.
    """
    with required_package("pandas", "notebook", needed="frames need"):
        import pandas as pd
    found = list(rows)
    return pd.DataFrame(
        {name: pd.Series([row[name] for row in found], dtype=_DTYPES[kind]) for name, kind in columns.items()}
    )
