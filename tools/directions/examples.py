"""Activations of images with and without a thing: image folders, or classes of the control set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from line_neurons.agent.concepts import concept_key
from line_neurons.agent.errors import UsageError
from line_neurons.agent.near_names import near_names
from line_neurons.agent.seeds import derive_rng

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from line_neurons.agent.ports import Activations, Control

MOST_IMAGES = 1000
"""Images of a side that are used, drawn with the seed: more change a direction little."""


@dataclass(frozen=True)
class Examples:
    """Images with and without a thing, by their activations at a layer.

    Args:
        positive: float32 [n, d].
        negative: float32 [m, d].
        notes: what was left out, a line each.
    """

    name: str
    positive: Activations
    negative: Activations
    notes: tuple[str, ...] = ()


class ExampleSource:
    """Where images with and without things are found, for one layer.

    Args:
        folder: measures the images at any depth of a folder, float32 [n, d].
        classes: of the control set; None without one.
        control: the control set at the layer. It is measured where it is needed.
    """

    def __init__(
        self,
        folder: Callable[[Path], Activations],
        classes: Sequence[str] | None,
        control: Callable[[], Control | None],
        seed: int,
    ) -> None:
        self._folder = folder
        self._classes = classes
        self._control = control
        self._seed = seed

    def check(self, of: Sequence[str], against: str | None) -> None:
        """Check the names of all sides before any image is measured.

        Raises:
            UsageError: see ``examples``; or two things have one name.
        """
        names = [self._name(place) for place in of]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise UsageError(f"two directions are named {twice!r:.80}", "rename one of the folders")
        if against is not None:
            self._name(against)
        elif self._classes is None:
            raise UsageError("there is no control set to compare with", "name one with --control, or --against")

    def _name(self, place: str) -> str:
        """Return the name of a side.

        Raises:
            UsageError: there is no such folder or class.
        """
        folder = Path(place).expanduser()
        if folder.is_dir():
            return folder.resolve().name.replace("_", " ")
        classes = self._classes or ()
        found = next((name for name in classes if concept_key(name) == concept_key(place)), None)
        if found is None:
            near = near_names(place, classes)
            raise UsageError(
                f"{place!r:.200} is no folder of images and no class of the control set{near and '; ' + near}",
                "name a folder of images, or a class of --control",
            )
        return found

    def examples(self, of: str, against: str | None) -> Examples:
        """Return images of a thing and others.

        Args:
            of: a folder of images, or a class of the control set.
            against: the same for the images without the thing; None: the rest of the control set.

        Raises:
            UsageError: there is no such folder or class.
        """
        notes: list[str] = []
        every, name, rows = self._side(of)
        positive, twice = _distinct(self._drawn(every, name, notes))
        if twice:
            notes.append(f"{twice} images of {name} occur more than once, and count once")
        if against is None:
            others, rest = self._rest(rows), "the control set"
        else:
            others, rest, _ = self._side(against)
        negative, _ = _distinct(self._drawn(others, rest, notes))
        shared = _rows_in(negative, positive)
        if shared.any():
            notes.append(f"{int(shared.sum())} images of {rest} are also images of {name}, and are left out there")
        return Examples(name, positive, negative[~shared], tuple(notes))

    def _drawn(self, rows: Activations, name: str, notes: list[str]) -> Activations:
        if len(rows) <= MOST_IMAGES:
            return rows
        notes.append(f"{MOST_IMAGES:,} of the {len(rows):,} images of {name} are used, drawn with the seed")
        return rows[sorted(derive_rng("examples", self._seed).sample(range(len(rows)), MOST_IMAGES))]

    def _side(self, place: str) -> tuple[Activations, str, NDArray[np.bool_] | None]:
        """Return activations, name, and which images of the control set these are, if any."""
        name, folder = self._name(place), Path(place).expanduser()
        if folder.is_dir():
            return self._folder(folder), name, None
        control = self._measured()
        if name not in control.classes:
            raise UsageError(f"no image of the class {name!r:.80} can be read", "name another class")
        rows = control.labels == control.classes.index(name)
        return _chosen(control, rows), name, rows

    def _rest(self, rows: NDArray[np.bool_] | None) -> Activations:
        control = self._measured()
        return _chosen(control, np.ones(len(control.labels), bool) if rows is None else ~rows)

    def _measured(self) -> Control:
        control = self._control()
        assert control is not None
        return control


def _chosen(control: Control, rows: NDArray[np.bool_]) -> Activations:
    found: Activations = control.dense()[rows]
    return found


def _distinct(rows: Activations) -> tuple[Activations, int]:
    """Return different rows, in their order, and how many were left out."""
    _, first = np.unique(rows, axis=0, return_index=True)
    return rows[np.sort(first)], len(rows) - len(first)


def _rows_in(rows: Activations, others: Activations) -> NDArray[np.bool_]:
    """Tell which rows are also among others."""
    known = {row.tobytes() for row in np.ascontiguousarray(others)}
    return np.array([row.tobytes() in known for row in np.ascontiguousarray(rows)], bool)
