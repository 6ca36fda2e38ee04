"""A control set in a report: where a label stands against it, and the images that excite a unit most."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from line_neurons.agent.errors import LineError
from line_neurons.tools.cache.reader import control_key, stored_control
from line_neurons.tools.store.records import Run
from line_neurons.tui.report.charts import Histogram, histogram
from line_neurons.tui.report.thumbnails import Album, Shown, small_copy

if TYPE_CHECKING:
    from line_neurons.agent.ports import Control

STRONGEST = 8
"""So many control images are shown of a unit."""
_SIDE = 128


@dataclass(frozen=True)
class Strong:
    """A control image that excites a unit.

    Args:
        row: its place in the control set, from 0.
        name: its class; empty if it has none.
        activation: the unit's activation on it.
        shown: the image; None where the store cannot tell it.
    """

    row: int
    name: str
    activation: float
    shown: Shown | None


@dataclass(frozen=True)
class Against:
    """A unit on the control set.

    Args:
        total: number of control images.
        mean: of the unit's activations on them.
        strongest: the images that excite it most, strongest first.
        chart: the activations, with those on the label's images marked.
    """

    total: int
    mean: float
    strongest: tuple[Strong, ...]
    chart: Histogram | None


class Controls:
    """What a store keeps of a run's control set: activations and classes, and no images.

    Args:
        store: the store's folder.
        run: the run.

    Attributes:
        missing: why nothing can be said; empty if it can.
        without_images: why the images are not shown.

    Raises:
        StoreError: the bank cannot be read.
    """

    def __init__(self, store: Path, run: Run) -> None:
        fingerprints = run.fingerprints
        names = [fingerprints.get("target"), run.layer, fingerprints.get("control")]
        known = [name for name in names if isinstance(name, str)]
        self.missing = "" if len(known) == 3 else "the run has no control set"
        self.without_images = "the store keeps activations on control images and not the images"
        self._kept: Control | None = stored_control(store, control_key(*known)) if len(known) == 3 else None
        self._small: dict[int, tuple[bytes, tuple[int, int]]] = {}
        if not self.missing and self._kept is None:
            self.missing = "the store does not have the activations on the control set (any more)"

    def look_up(self, store: Path, assets: Path | None, run: Run, units: Collection[int]) -> None:
        """Fetch the images that excite units most from the control set itself, without a model.

        Where it is not the set of the run, or cannot be opened, ``without_images`` says so.

        Args:
            store: the store's folder.
            assets: folder of installed asset packs; None: the usual one.
            run: the run.
            units: indices of units.
        """
        from line_neurons.agent.settings import revised
        from line_neurons.graphs.runs.components import Components

        wanted = {row for unit in units for row in self._strongest(unit)}
        if not wanted:
            return
        try:
            given = {"store": store, "assets": assets, "download": False}
            found = Components(run.model, revised(dict(run.settings), given)).control_set
            chunks = getattr(found, "chunks", None)
            if found is None or chunks is None:
                self.without_images = "the control set has activations and no images"
                return
            if found.fingerprint != run.fingerprints.get("control"):
                self.without_images = "the control set that is here now is another than the run's"
                return
            at, last = 0, max(wanted)
            for chunk in chunks():
                for place, image in enumerate(chunk.images, at):
                    if place in wanted and (small := small_copy(image, _SIDE)):
                        self._small[place] = small
                at += len(chunk.images)
                if at > last:
                    break
            self.without_images = ""
        except LineError as error:
            self.without_images = f"the control set cannot be opened: {error.message}"

    def against(self, unit: int, label: Sequence[float], album: Album) -> Against | None:
        """How a unit responds to the control set; None where ``missing`` says why.

        Args:
            unit: index of the unit.
            label: its activations on the label's images.
            album: where images are kept.
        """
        if self._kept is None or not 0 <= unit < self._kept.activations.shape[1]:
            return None
        column = self._kept.activations[:, unit]
        strongest = [self._strong(row, float(column[row]), album) for row in self._strongest(unit)]
        return Against(len(column), float(column.mean()), tuple(strongest), histogram(column.tolist(), label))

    def _strongest(self, unit: int) -> list[int]:
        import numpy as np

        if self._kept is None or not 0 <= unit < self._kept.activations.shape[1]:
            return []
        # Of equal activations the earlier image.
        order = np.argsort(-self._kept.activations[:, unit], kind="stable")
        return [int(row) for row in order[:STRONGEST]]

    def _strong(self, row: int, activation: float, album: Album) -> Strong:
        assert self._kept is not None
        label = int(self._kept.labels[row])
        classes = self._kept.classes
        small = self._small.get(row)
        shown = album.control_image(*small) if small else None
        return Strong(row, classes[label] if 0 <= label < len(classes) else "", activation, shown)
