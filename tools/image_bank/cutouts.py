"""Cut-outs of the bundled bank's photographs, made at set-up: what stands out in each, by U2Netp."""

from __future__ import annotations

import csv
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from line_neurons.agent.errors import MissingPartError
from line_neurons.tools.images.png import encode_png
from line_neurons.tools.images.reader import read_image
from line_neurons.tools.images.saliency import SaliencyModel
from line_neurons.tools.store.atomic_files import atomic_folder

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

CUTOUTS = "cutouts"
"""Folder of the cut-outs, beside the asset packs."""

_CLEAR, _SOLID = 0.3, 0.7
"""Saliency up to which a pixel is transparent, and from which it is opaque."""
_SIDE = 640
"""Longest side of a photograph that is cut, in pixels."""
_DIFFERENCE = 0.03
"""How far the share of an image that stands out may be from the reviewed one."""


def reviewed() -> dict[str, float]:
    """Return the photographs whose cut-outs were looked at and show the whole subject, and nothing else.

    Returns:
        file in the pack ``photos`` -> share of the image that the subject covers.
    """
    table = files("line_neurons.tools.image_bank").joinpath("cutouts.csv").read_text("utf-8")
    return {row["file"]: float(row["share"]) for row in csv.DictReader(table.splitlines())}


def cutout_name(photograph: str) -> str:
    """Return the name of the cut-out of a photograph."""
    return str(Path(photograph).with_suffix(".png"))


def make_cutouts(assets: Path, progress: Callable[[int, int], None]) -> tuple[Path, list[str]]:
    """Cut the subjects out of the bundled bank's photographs, into a folder of PNG files with transparency.

    The folder appears when all of them are there, and replaces an earlier one.

    Returns:
        The folder, and the photographs in which the network finds another region than the reviewed one; they have
        no cut-out.

    Raises:
        MissingPartError: a pack or onnxruntime is not installed.
        StoreError: the folder cannot be written.
    """
    model = SaliencyModel(assets)
    model.check()
    shares = reviewed()
    different: list[str] = []
    with atomic_folder(assets / CUTOUTS) as folder:
        for done, (name, share) in enumerate(shares.items()):
            progress(done, len(shares))
            image = _photograph(assets / "photos" / name)
            saliency = model.saliency(image)
            if abs(float((saliency > 0.5).mean()) - share) > _DIFFERENCE:
                different.append(name)
                continue
            path = folder / cutout_name(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode_png(_cut(np.asarray(image), _opacity(saliency))))
        progress(len(shares), len(shares))
    return assets / CUTOUTS, different


def _photograph(path: Path) -> Image:
    try:
        image = read_image(path.read_bytes())
    except OSError as error:
        raise MissingPartError(f"{path} cannot be read", "run: line assets install photos") from error
    image.thumbnail((_SIDE, _SIDE))
    return image


def _cut(pixels: NDArray[np.uint8], opacity: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return uint8 [h, w, 4] of what is not wholly transparent."""
    rows, columns = np.flatnonzero(opacity.any(1)), np.flatnonzero(opacity.any(0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return np.ascontiguousarray(np.dstack([pixels[box], opacity[box]]))


def _opacity(saliency: NDArray[np.float32]) -> NDArray[np.uint8]:
    share = np.clip((saliency - _CLEAR) / (_SOLID - _CLEAR), 0, 1)
    return np.asarray((share * 255).round(), np.uint8)
