"""Control set in a report: a unit's activations on it, and its most activating images."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from line_neurons.agent.errors import LineError
from line_neurons.tools.cache.reader import control_key, stored_control
from line_neurons.tools.store.records import Run
from line_neurons.tui.report.charts import Histogram, histogram
from line_neurons.tui.report.thumbnails import ImageElement, Thumbnails, small_copy

if TYPE_CHECKING:
    from line_neurons.agent.ports import Control, ControlSet
    from line_neurons.tui.report.map_images import MapImages

MAX_TOP_IMAGES = 8
"""The number of control images that are shown for a unit."""
_IMAGES_OF_CLASS = 2
"""The number of images of a class that are shown for a facet."""
_SIDE = 128


@dataclass(frozen=True)
class TopControlImage:
    """One of the most activating control images.

    Args:
        row: its index in the control set.
        class_name: its class; empty if it has none.
        element: the image; None if it is not available.
        mapped: the image with the unit's map over it; None if there is none.
    """

    row: int
    class_name: str
    activation: float
    element: ImageElement | None
    mapped: ImageElement | None = None


@dataclass(frozen=True)
class StrongImage:
    """An encoded control image, with the unit's activation on it."""

    row: int
    content: bytes
    activation: float


@dataclass(frozen=True)
class ControlComparison:
    """Activations of a unit on the control set.

    Args:
        top_images: the most activating images, highest first.
        chart: the activations, with those on the label's images marked.
    """

    top_images: tuple[TopControlImage, ...]
    chart: Histogram | None


class ControlImages:
    """Control set of a run: activations and classes from the store, images from the set itself.

    Attributes:
        missing: why there are no activations; empty if there are.
        images_missing: why there are no images; empty if there are.

    Raises:
        StoreError: the cache cannot be read.
    """

    def __init__(self, store: Path, run: Run) -> None:
        fingerprints = run.fingerprints
        names = [fingerprints.get("target"), run.layer, fingerprints.get("control")]
        known = [name for name in names if isinstance(name, str) and name != "none"]
        self.missing = "" if len(known) == 3 else "the run has no control set"
        self.images_missing = "not stored; use --control-images"
        self._control: Control | None = stored_control(store, control_key(*known)) if len(known) == 3 else None
        self._small: dict[int, tuple[bytes, tuple[int, int]]] = {}
        self._mapped: dict[tuple[int, int], tuple[bytes, tuple[int, int]]] = {}
        if not self.missing and self._control is None:
            self.missing = "the store does not have the activations on the control set"

    def load_images(
        self,
        store: Path,
        assets: Path | None,
        run: Run,
        units: Collection[int],
        classes: Collection[tuple[int, str]] = (),
        maps: MapImages | None = None,
    ) -> None:
        """Load the most activating images of units from the control set, without a model.

        If the set differs from that of the run, or cannot be opened, ``images_missing`` says so.

        Args:
            assets: folder of installed asset packs; None: the default.
            classes: classes of which images are shown, each with the index of the unit.
            maps: computes the units' maps; None: none are shown.
        """
        from line_neurons.agent.settings import revised
        from line_neurons.graphs.runs.components import Components

        rows: dict[int, list[int]] = {}
        for unit in units:
            for row in self._strongest(unit):
                rows.setdefault(row, []).append(unit)
        for unit, name in classes:
            for row in self._strongest_of(unit, name):
                rows.setdefault(row, [])
        if not rows:
            return
        try:
            changes = {"store": store, "assets": assets, "download": False}
            control_set = Components(run.model, revised(dict(run.settings), changes)).control_set
            chunks = getattr(control_set, "chunks", None)
            if control_set is None or chunks is None:
                self.images_missing = "the control set has no images"
                return
            if control_set.fingerprint != run.fingerprints.get("control"):
                self.images_missing = "the control set on this machine differs from the run's"
                return
            at, last = 0, max(rows)
            for chunk in chunks():
                for row, image in enumerate(chunk.images, at):
                    if row in rows and (small := small_copy(image, _SIDE)):
                        self._small[row] = small
                        self._add_maps(row, image, rows[row], maps)
                at += len(chunk.images)
                if at > last:
                    break
            self.images_missing = ""
        except LineError as error:
            self.images_missing = f"the control set cannot be opened: {error.message}"

    def _add_maps(self, row: int, image: bytes, units: Sequence[int], maps: MapImages | None) -> None:
        for unit, laid in zip(units, maps.of_image(image, units) if maps else (), strict=False):
            if laid.png and (small := small_copy(laid.png, _SIDE)):
                self._mapped[unit, row] = small

    def strongest_images(self, unit: int, control_set: ControlSet) -> list[StrongImage]:
        """Return the control images with the highest activations of a unit; none where these are not stored."""
        order = self._strongest(unit)
        found: dict[int, bytes] = {}
        at = 0
        for chunk in control_set.chunks() if order else ():
            found |= {row: image for row, image in enumerate(chunk.images, at) if row in order}
            at += len(chunk.images)
            if at > max(order):
                break
        assert self._control is not None or not order
        column = self._control.column(unit) if self._control is not None else ()
        return [StrongImage(row, found[row], float(column[row])) for row in order if row in found]

    def control(self, unit: int, label: Sequence[float], thumbnails: Thumbnails) -> ControlComparison | None:
        """Return a unit's activations on the control set; None if ``missing`` says why."""
        if self._control is None or not 0 <= unit < self._control.units:
            return None
        column = self._control.column(unit)
        top_images = [self._strong(unit, row, float(column[row]), thumbnails) for row in self._strongest(unit)]
        return ControlComparison(tuple(top_images), histogram(column.tolist(), label))

    def of_classes(self, unit: int, classes: Sequence[str], thumbnails: Thumbnails) -> tuple[TopControlImage, ...]:
        """Return the most activating images of classes that were loaded, highest first; empty where none was."""
        if self._control is None or not 0 <= unit < self._control.units:
            return ()
        column = self._control.column(unit)
        rows = sorted(
            (row for name in classes for row in self._strongest_of(unit, name) if row in self._small),
            key=lambda row: (-float(column[row]), row),
        )
        return tuple(self._strong(unit, row, float(column[row]), thumbnails) for row in rows[:MAX_TOP_IMAGES])

    def _strongest_of(self, unit: int, name: str) -> list[int]:
        import numpy as np

        if self._control is None or name not in self._control.classes or not 0 <= unit < self._control.units:
            return []
        rows = np.flatnonzero(self._control.labels == self._control.classes.index(name))
        order = np.argsort(-self._control.column(unit)[rows], kind="stable")
        return [int(row) for row in rows[order[:_IMAGES_OF_CLASS]]]

    def _strongest(self, unit: int) -> list[int]:
        import numpy as np

        if self._control is None or not 0 <= unit < self._control.units:
            return []
        # Ties: the earlier image first.
        order = np.argsort(-self._control.column(unit), kind="stable")
        return [int(row) for row in order[:MAX_TOP_IMAGES]]

    def _strong(self, unit: int, row: int, activation: float, thumbnails: Thumbnails) -> TopControlImage:
        assert self._control is not None
        label = int(self._control.labels[row])
        classes = self._control.classes
        small = self._small.get(row)
        element = thumbnails.control_image(*small) if small else None
        laid = self._mapped.get((unit, row))
        mapped = thumbnails.control_image(*laid) if laid else None
        name = classes[label] if 0 <= label < len(classes) else ""
        return TopControlImage(row, name, activation, element, mapped)
