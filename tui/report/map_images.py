"""Images with the map of a unit laid over them: where the unit responds."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from line_neurons.agent.errors import LineError, UsageError
from line_neurons.tools.editors.regions import dilated
from line_neurons.tools.images.reader import ImageError, read_image
from line_neurons.tools.targets.base import layer_fingerprint
from line_neurons.tools.targets.maps import Box, MapSource, UnitMaps, box_in_pixels, unit_maps

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from line_neurons.agent.ports import Target
    from line_neurons.tools.store.records import Run
    from line_neurons.tools.store.runs import RunStore

_WARM, _LINE = (255, 96, 0), (255, 255, 255)
_STRONGEST = 0.65
"""Opacity of the colour where a map has its maximum."""
_UNSEEN = 0.35
"""Brightness of what the target does not see."""
HALF = 0.5
"""Share of a map's maximum that the outline is at."""

_SOURCES: dict[MapSource, str] = {
    "map": "the unit's own map",
    "tokens": "the unit on each patch",
    "map before the mean": "the map that the unit is the mean of",
    "class activation map": "class activation map, the unit's weighted maps",
    "occlusion": "by how much the activation falls where a part is blurred",
}


@dataclass(frozen=True)
class MapImage:
    """An image with a map over it, as a PNG file; without one, ``error`` says why."""

    png: bytes
    error: str = ""


class MapImages:
    """Maps of a run's units, computed with the run's own target when they are asked for; kept nowhere.

    Args:
        runs: the store's runs.
        run: the run.
        assets: folder of asset packs.
        occlusion: blur parts of the images, whatever the layer is.

    Raises:
        UsageError: the target is not that of the run, or the run names code that the user does not trust.
        LineError: the target cannot be opened.
    """

    def __init__(self, runs: RunStore, run: Run, assets: Path | None, *, occlusion: bool = False) -> None:
        from line_neurons.agent.settings import revised
        from line_neurons.graphs.runs.code_trust import require_trust
        from line_neurons.graphs.runs.components import Components
        from line_neurons.tools.targets.custom import in_memory

        if in_memory(run.model):
            raise UsageError(
                f"the model {run.model} of run {run.id} was in memory, and maps need it", "leave --maps out"
            )
        require_trust(runs, run, {"llm": "random"})
        settings = revised(dict(run.settings), {"store": runs.path.parent, "assets": assets})
        self._target: Target = Components(run.model, settings).target
        self._layer, self._occlusion = run.layer, occlusion
        self._sources: dict[int, str] = {}
        if layer_fingerprint(self._target, run.layer) != run.fingerprints.get("target"):
            raise UsageError(
                f"the target is not the one of run {run.id}, so its maps would be others",
                "install what the run began with, or leave --maps out",
            )

    def source(self, unit: int) -> str:
        """Say what the maps of a unit are that were computed; empty if none were."""
        return self._sources.get(unit, "")

    def of_label(self, images: Sequence[bytes], unit: int) -> list[MapImage]:
        """Return images with the unit's map over each; an empty one stays without."""
        whole = [place for place, image in enumerate(images) if image]
        found = [MapImage(b"", "is missing")] * len(images)
        if not whole:
            return found
        try:
            maps = unit_maps(
                self._target, [images[place] for place in whole], self._layer, [unit], occlusion=self._occlusion
            )
        except LineError as error:
            return [MapImage(b"", f"has no map: {error.message}")] * len(images)
        come = "" if maps.layer == self._layer else f" ({maps.layer})"
        self._sources[unit] = f"{_SOURCES[maps.source]}{come}"
        for row, place in enumerate(whole):
            found[place] = overlay(images[place], maps, row)
        return found


def overlay(image: bytes, maps: UnitMaps, row: int) -> MapImage:
    """Lay the map of the first unit over an image: colour by strength, a line at half of the maximum.

    What the target does not see, since its preprocessing crops it away, is dark.
    """
    try:
        opened = read_image(image)
    except ImageError as error:
        return MapImage(b"", f"cannot be decoded: {error}")
    values = maps.values[row, 0]
    if not values.max() > 0:
        return MapImage(b"", "has no place that speaks for the unit")
    written = io.BytesIO()
    _overlaid(opened, values / values.max(), maps.boxes[row]).save(written, "PNG")
    return MapImage(written.getvalue())


def _overlaid(image: Image.Image, values: NDArray[np.float32], box: Box) -> Image.Image:
    """Return an image under a map whose maximum is 1 and which covers ``box``."""
    import numpy as np
    from PIL import Image

    width, height = image.size
    left, top, right, bottom = box_in_pixels(box, width, height)
    seen = Image.fromarray(np.clip(values, 0, 1).astype(np.float32)).resize(
        (max(1, right - left), max(1, bottom - top)), Image.Resampling.BILINEAR
    )
    heat = np.zeros((height, width), np.float32)
    heat[top : top + seen.height, left : left + seen.width] = np.asarray(seen)
    light = np.full((height, width), _UNSEEN, np.float32)
    light[top:bottom, left:right] = 1
    pixels = np.asarray(image, np.float32) * light[..., None]
    share = _STRONGEST * heat[..., None]
    pixels = (1 - share) * pixels + share * np.array(_WARM, np.float32)
    inside = heat >= HALF
    pixels[dilated(inside, max(1, min(image.size) // 200)) & ~inside] = _LINE
    return Image.fromarray(pixels.round().astype(np.uint8))
