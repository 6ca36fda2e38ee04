"""What came of a run, to look at in Python: labels, boards, histories, images and frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from line_neurons.agent.errors import DamagedError, UsageError
from line_neurons.agent.settings import load_settings
from line_neurons.agent.text import clean_text, format_score
from line_neurons.graphs.api.notebook import RUN, UNIT, render
from line_neurons.tools import label_marks as marks
from line_neurons.tools.cache.reader import StoredImage, stored_images
from line_neurons.tools.images.reader import ImageError, read_image
from line_neurons.tools.packages import missing_package
from line_neurons.tools.store.columns import STEP_COLUMNS, UNIT_COLUMNS, Kind, Row, status_of, step_row, unit_row
from line_neurons.tools.store.leases import lease_status
from line_neurons.tools.store.records import Run, Step, Unit
from line_neurons.tools.store.run_problems import run_problems
from line_neurons.tools.store.runs import RunStore, default_store, open_store

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
    """

    store: Path = field(repr=False)
    layer: str
    target: str = field(repr=False)

    @property
    def runner_up(self) -> tuple[str, float] | None:
        """The best concept that shares no word with the label, and its score; None if there is none."""
        if self.second_label is None or self.second_score is None:
            return None
        return self.second_label, self.second_score

    @cached_property
    def history(self) -> list[Step]:
        """Every concept that was scored or refused, in order, with the reasoning; see ``Step``.

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
        """The label's images, read from the store now.

        Raises:
            DamagedError: one has gone or is damaged.
            StoreError: the store cannot be read.
        """
        return self.images_of(self.images)

    def images_of(self, what: Step | Iterable[str]) -> list[Image]:
        """The images of a step of the history, or those with these ids; errors as of ``images``."""
        return [_opened(one) for one in self.evidence(what)]

    # The names that these had before, kept for one release.
    pictures = pil_images
    pictures_of = images_of

    def evidence(self, what: Step | Iterable[str] | None = None) -> list[StoredImage]:
        """Images with what they were drawn from, and the unit's activation on each; of the label if None.

        Those that have gone or are damaged say so in ``trouble``.

        Raises:
            StoreError: the store cannot be read.
        """
        ids = self.images if what is None else what.images if isinstance(what, Step) else tuple(what)
        return stored_images(self.store, ids, self.target, self.layer, self.unit)

    @property
    def condition(self) -> str:
        """What is wrong with the unit or its label, in words: all of ``marks``; empty where nothing is."""
        return marks.told(self.marks)

    @property
    def title(self) -> str:
        """The unit's number with its class name, if it has one."""
        return f"unit {self.unit}" + (f" ({clean_text(self.name, 80)})" if self.name else "")

    def __repr__(self) -> str:
        """The unit in a line."""
        noted = f", {clean_text(self.condition, 300)}" if self.condition else ""
        if self.label is None:
            return (
                f"<{self.title}: {self.status}{f', {clean_text(self.error, 200)}' if self.error else ''}{noted}>"
            )
        return f"<{self.title}: {clean_text(self.label, 80)}, score {format_score(self.score or 0)}{noted}>"

    def _repr_html_(self) -> str:
        return render(UNIT, unit=self)


@dataclass(frozen=True)
class Result:
    """A run with its units as they are now, in the order in which they were asked for; ``refresh`` reads it anew.

    ``result[18]`` and ``result["tiger"]`` are a unit by number or class name, ``for unit in result`` goes through
    all, and ``result.units[0]`` is the first.

    Args:
        run: the run as it is recorded.
        units: its units.
        store: the store's folder.
        worked_on: a living process works on the run.
    """

    run: Run
    units: tuple[UnitResult, ...]
    store: Path
    worked_on: bool = False

    @property
    def finished(self) -> bool:
        """Whether every unit is done with: it has its label, or can have none."""
        return all(unit.status in marks.DONE for unit in self.units)

    @property
    def remarks(self) -> list[str]:
        """What is wrong with the run as a whole, a sentence each: units without a label, refused answers ...

        Raises:
            StoreError: the store cannot be read.
        """
        with closing(RunStore(self.store, read_only=True)) as runs:
            return run_problems(self.store, runs, self.run).remarks()

    def __len__(self) -> int:
        """How many units there are."""
        return len(self.units)

    def __iter__(self) -> Iterator[UnitResult]:
        """The units, in order."""
        return iter(self.units)

    def __getitem__(self, which: int | str) -> UnitResult:
        """A unit by its number or its class name in any case.

        Raises:
            UsageError: the run has no such unit.
        """
        for one in self.units:
            if one.unit == which or (one.name and one.name.casefold() == str(which).casefold()):
                return one
        known = ", ".join(f"{one.unit}{f' {one.name}' if one.name else ''}" for one in self.units[:12])
        raise UsageError(f"run {self.run.id} has no unit {which!r:.60}", f"its units: {clean_text(known, 300)}")

    def refresh(self) -> Result:
        """The run as it is now, for one that is worked on elsewhere."""
        return load(self.run.id, self.store)

    def frame(self) -> DataFrame:
        """A row for each unit, with the columns of ``line results``.

        Raises:
            MissingPartError: pandas is not installed.
        """
        return _frame((unit_row(self.run, unit, worked_on=self.worked_on) for unit in self), UNIT_COLUMNS)

    def steps_frame(self) -> DataFrame:
        """A row for each concept that was scored or refused, unit by unit, in order.

        Raises:
            MissingPartError: pandas is not installed.
        """
        return _frame((step_row(step) for unit in self for step in unit.history), STEP_COLUMNS)

    def __repr__(self) -> str:
        """The run and a line for each unit."""
        lines = [f"run {self.run.id}: {clean_text(self.run.target_name, 200)} {self.run.layer}, {self.run.status}"]
        return "\n".join([*lines, *(f"  {unit!r}" for unit in self), *self.remarks])

    def _repr_html_(self) -> str:
        return render(RUN, result=self)


def load(run: str, store: Path | str | None = None) -> Result:
    """A run that a store has, whoever began it and whether or not it is finished.

    Args:
        run: its id, or the beginning of one that no other run shares.
        store: the store's folder; None: the one of the environment, line.toml, or the user's own.

    Raises:
        UsageError: there are no runs, or no such run.
        StoreError: the store cannot be read.
    """
    place = Path(store).expanduser() if store else load_settings().store or default_store()
    with closing(open_store(place, remedy="name the folder with store=")) as runs:
        found = runs.run(run)
        held = lease_status(runs, check_liveness=False).get(found.id)
        worked_on = held is not None and not held.stale
        belongs: dict[str, Any] = {
            "store": place,
            "layer": found.layer,
            "target": str(found.fingerprints.get("target", "")),
        }
        units = tuple(
            UnitResult(**{**asdict(unit), "status": status_of(unit, worked_on=worked_on)}, **belongs)
            for unit in runs.units(found.id)
        )
    return Result(found, units, place, worked_on)


def _opened(one: StoredImage) -> Image:
    if one.error:
        raise DamagedError(f"the image {one.id[:12]} {one.error}", "see `line doctor --store`")
    try:
        return read_image(one.content)
    except ImageError as error:
        raise DamagedError(
            f"the image {one.id[:12]} cannot be decoded: {error}", "see `line doctor --store`"
        ) from error


def _frame(rows: Iterable[Row], columns: Mapping[str, Kind]) -> DataFrame:
    try:
        import pandas as pd
    except ImportError as error:
        raise missing_package(
            error, "pandas", "pip install 'line-neurons[notebook]'", needed="frames need"
        ) from error
    found = list(rows)
    return pd.DataFrame(
        {name: pd.Series([row[name] for row in found], dtype=_DTYPES[kind]) for name, kind in columns.items()}
    )
