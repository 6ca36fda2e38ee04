"""A control set with activations that were computed elsewhere."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from line_neurons.agent.errors import UsageError
from line_neurons.agent.ports import Control
from line_neurons.agent.text import clean_text
from line_neurons.tools.array_files import UNREADABLE, read_arrays
from line_neurons.tools.cache.file_hashes import FileHashes
from line_neurons.tools.control_sets.class_names import drop_unused_classes, index_classes, readable_names
from line_neurons.tools.control_sets.sampling import limits

if TYPE_CHECKING:
    from numpy.typing import NDArray

_REMEDY = "save it with numpy.savez(file, activations=..., labels=..., classes=...)"


class PrecomputedControl:
    """Activations of one layer in an ``.npz`` file.

    The file holds ``activations``, numbers [n_images, n_units]; and, if the images have classes, ``labels``,
    integers [n_images] with -1 for none, and ``classes``, the names that the labels count.

    Args:
        path: the file; pickled objects in it are never loaded.
        images: how many images of each class count, and how many without a class, the first ones; None: all.

    Raises:
        UsageError: the file cannot be read, or its arrays are missing or don't fit together.
        MissingPartError: see ``readable_names``.
    """

    def __init__(self, path: Path, images: int | None = None, digests: FileHashes | None = None) -> None:
        import numpy as np

        self.path = path
        arrays = self._load()
        if "activations" not in arrays:
            raise self._wrong("has no array 'activations'")
        activations = arrays["activations"]
        if activations.ndim != 2 or activations.dtype.kind not in "fiu" or not activations.size:
            found = f"shape {activations.shape} and type {activations.dtype}"
            raise self._wrong(f"has activations of {found}, not numbers [n, units]")
        with np.errstate(over="ignore"):
            activations = np.ascontiguousarray(activations, np.float32)
        if not np.isfinite(activations).all():
            raise self._wrong("has activations that are not finite numbers")
        names, labels = self._labelled(arrays, len(activations))
        rows = _first_rows(labels, images)
        self._control = Control(*drop_unused_classes(names, labels[rows]), activations[rows])
        part = "all" if images is None else images
        self.fingerprint = f"npz:{(digests or FileHashes()).of([path])[0][:32]}:{part}"
        """Content hash of the file, and how many of its images count."""

    def classes(self) -> tuple[str, ...]:
        """The names of the classes that have images, sorted; empty if there are none."""
        return self._control.classes

    def control(self, n_units: int, layer: str) -> Control:
        """Return the activations, if the layer at the dotted path ``layer`` has as many units.

        Raises:
            UsageError: the layer has another number of units.
        """
        width = self._control.units
        if width != n_units:
            raise UsageError(
                f"the control set {self.path} has activations of {width} units, but {layer!r} has {n_units}",
                "give the activations of that layer, with the same pooling",
            )
        return self._control

    def _load(self) -> dict[str, NDArray[Any]]:
        try:
            if not zipfile.is_zipfile(self.path):
                raise self._wrong("is not an .npz file")
            return read_arrays(self.path, ("activations", "labels", "classes"))
        except OSError as error:
            raise self._wrong(f"cannot be read: {error.strerror or error}") from error
        except (*UNREADABLE, MemoryError) as error:
            pickled = "allow_pickle" in str(error)
            damaged = f"is damaged: {clean_text(str(error), 200)}"
            raise self._wrong("holds pickled objects, which are not loaded" if pickled else damaged) from error

    def _labelled(self, arrays: dict[str, NDArray[Any]], rows: int) -> tuple[tuple[str, ...], NDArray[Any]]:
        import numpy as np

        if "labels" not in arrays and "classes" not in arrays:
            return (), np.full(rows, -1, np.int64)
        labels, raw = arrays.get("labels"), arrays.get("classes")
        if labels is None or raw is None:
            raise self._wrong("has only one of 'labels' and 'classes'")
        if labels.shape != (rows,) or labels.dtype.kind not in "iu":
            raise self._wrong(f"has labels of shape {labels.shape} and type {labels.dtype}, not {rows} integers")
        if raw.ndim != 1 or raw.dtype.kind != "U":
            raise self._wrong(f"has classes of shape {raw.shape} and type {raw.dtype}, not a list of names")
        outside = labels[(labels < -1) | (labels >= len(raw))]
        if outside.size:
            raise self._wrong(f"has the label {outside[0]}, but {len(raw)} classes")
        names, index = index_classes(readable_names([str(name) for name in raw]))
        return names, np.array([*index, -1], np.int64)[labels.astype(np.int64)]

    def _wrong(self, what: str) -> UsageError:
        return UsageError(f"the control set {self.path} {what}", _REMEDY)


def _first_rows(labels: NDArray[Any], images: int | None) -> NDArray[Any] | slice:
    import numpy as np

    if images is None:
        return slice(None)
    limits(images)
    return np.sort(np.concatenate([np.flatnonzero(labels == label)[:images] for label in np.unique(labels)]))
