"""Folders with images of units of another tool.

``FOLDER/UNIT/*.png``, runs of DEXTER, or MAIA's exemplars (``images.npy``, ``activations.csv`` ...).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from line_neurons.agent.errors import UsageError, reason_of
from line_neurons.eval.labels.dexter import dexter_runs
from line_neurons.tools.array_files import UNREADABLE, map_array
from line_neurons.tools.images.folders import images_below
from line_neurons.tools.images.png import encode_png
from line_neurons.tools.images.reader import ImageError, read_image
from line_neurons.tools.images.skipped import Remarks

MAX_IMAGES = 500
"""Images of a unit that are read; of more the first count."""

_NUMBER = re.compile(r"(?:unit[-_ ]?)?0*(\d{1,8})", re.IGNORECASE)
_MAX_BYTES = 1 << 26
_EXEMPLARS = "images.npy"


@dataclass(frozen=True)
class Exemplar:
    """An image of a folder."""

    name: str
    content: bytes


@dataclass(frozen=True)
class Folder:
    """A folder of images by unit.

    Raises:
        UsageError: it is no folder.
    """

    path: Path

    def __post_init__(self) -> None:
        if not self.path.is_dir():
            raise UsageError(
                f"{str(self.path)!r:.200} is not a folder", "name a folder with images in FOLDER/UNIT/"
            )

    def images(self, unit: int, name: str = "") -> list[Exemplar]:
        """Read a unit's images; none if there are none.

        Args:
            name: its name, which may be that of a folder.

        Raises:
            UsageError: the folder or one of its files cannot be read, or is no image.
        """
        if self._arrays is not None:
            return self._exemplars(unit)
        return [Exemplar(path.name, _read(path)) for path in self._files_of(unit, name)]

    def check(self, units: Sequence[tuple[int, str]]) -> None:
        """Check that there are images of one of the units.

        Raises:
            UsageError: there are none.
        """
        if self._arrays is not None:
            known, found = (
                f"units 0 to {len(self._arrays) - 1}",
                any(unit < len(self._arrays) for unit, _ in units),
            )
        else:
            known = ", ".join(list(self._files)[:5]) or "nothing"
            found = any(self._files_of(unit, name) for unit, name in units)
        if not found:
            raise UsageError(
                f"{self.path} has no images of these units (it has {known:.120})",
                "put them into FOLDER/UNIT/, by the unit's number",
            )

    def _files_of(self, unit: int, name: str) -> list[Path]:
        found = self._files.get(str(unit)) or self._files.get(name.casefold() or "-", [])
        return found[:MAX_IMAGES]

    @cached_property
    def _files(self) -> dict[str, list[Path]]:
        """Files of images by the unit's number, or by the name of its folder."""
        found: dict[str, list[Path]] = {}
        try:
            if runs := dexter_runs(self.path):
                for run in runs:
                    found.setdefault(str(run.unit), []).extend(run.images())
                return found
            for inner in sorted(path for path in self.path.iterdir() if path.is_dir()):
                number = _NUMBER.fullmatch(inner.name)
                key = str(int(number[1])) if number else inner.name.casefold()
                found.setdefault(key, []).extend(images_below(inner, Remarks(self.path)))
        except OSError as error:
            raise UsageError(f"{self.path} cannot be read: {error.strerror}", "name another folder") from None
        return found

    @cached_property
    def _arrays(self) -> NDArray[Any] | None:
        """MAIA's exemplars, [units, images, 3, H, W] from 0 to 255, mapped from the file; None without any."""
        path = self.path / _EXEMPLARS
        if not path.is_file():
            return None
        try:
            arrays = map_array(path)
        except UNREADABLE as error:
            raise UsageError(f"{path} is no array of images: {reason_of(error)}", "restore it") from None
        shape: tuple[int, ...] = arrays.shape
        if len(shape) != 5 or shape[2] != 3 or arrays.dtype.kind not in "uif" or not 1 <= min(shape[3:]) <= 4096:
            raise UsageError(
                f"{path} holds {list(shape)}, not images of units [units, images, 3, height, width]", "restore it"
            )
        return arrays

    def _exemplars(self, unit: int) -> list[Exemplar]:
        assert self._arrays is not None
        if unit >= len(self._arrays):
            return []
        pixels = np.asarray(self._arrays[unit][:MAX_IMAGES], np.float32).transpose(0, 2, 3, 1)
        if not np.isfinite(pixels).all():
            raise UsageError(
                f"{self.path / _EXEMPLARS} has values that are not finite for unit {unit}", "restore it"
            )
        levels = np.clip(pixels, 0, 255).astype(np.uint8)
        return [Exemplar(f"exemplar {at}", encode_png(np.ascontiguousarray(one))) for at, one in enumerate(levels)]


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UsageError(f"{path} has more than {_MAX_BYTES >> 20} MB", "leave it out")
        content = path.read_bytes()
        read_image(content)
    except ImageError as error:
        raise UsageError(f"{path} is no image: {error}", error.remedy or "leave it out") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", "leave it out") from None
    return content
