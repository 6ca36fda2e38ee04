"""Images with the map of a unit laid over them: where the unit responds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from line_neurons.agent.errors import LineError, UsageError
from line_neurons.tools.control_sets import PrecomputedControl
from line_neurons.tools.maps.overlay import MapImage, overlay
from line_neurons.tools.maps.thresholds import QUANTILE, Thresholds, map_thresholds
from line_neurons.tools.targets.base import layer_fingerprint
from line_neurons.tools.targets.maps import MapSource, UnitMaps, unit_maps

if TYPE_CHECKING:
    from line_neurons.agent.ports import ControlSet, Progress, Target
    from line_neurons.tools.store.records import Run
    from line_neurons.tools.store.runs import RunStore

_SOURCES: dict[MapSource, str] = {
    "map": "the unit's own map",
    "tokens": "the unit on each patch",
    "map before the mean": "the map that the unit is the mean of",
    "class activation map": "class activation map, the unit's weighted maps",
    "Grad-CAM": "Grad-CAM, a map weighted by the unit's gradient",
    "occlusion": "by how much the activation falls where a part is blurred",
}


class MapImages:
    """Maps of a run's units, computed with the run's own target when they are asked for; kept nowhere.

    Args:
        units: the units that maps are asked for.
        occlusion: blur parts of the images, whatever the layer is.
        gradients: compute Grad-CAM, whatever the layer is.

    Raises:
        UsageError: the target is not that of the run, or the run names code that the user does not trust.
        LineError: the target cannot be opened.
    """

    def __init__(
        self,
        runs: RunStore,
        run: Run,
        assets: Path | None,
        units: Sequence[int],
        *,
        occlusion: bool = False,
        gradients: bool = False,
        progress: Progress | None = None,
    ) -> None:
        from line_neurons.agent.settings import revised
        from line_neurons.graphs.runs.code_trust import require_trust
        from line_neurons.graphs.runs.components import Components
        from line_neurons.tools.targets.custom import in_memory

        if occlusion and gradients:
            raise UsageError("--occlusion and --gradients contradict each other", "give one of them")
        if in_memory(run.model):
            raise UsageError(
                f"the model {run.model} of run {run.id} was in memory, and maps need it", "leave --maps out"
            )
        require_trust(runs, run, {"llm": "random"})
        settings = revised(dict(run.settings), {"store": runs.path.parent, "assets": assets})
        self._components = Components(run.model, settings)
        self._target: Target = self._components.target
        self._run, self._layer, self._units = run, run.layer, list(units)
        self._occlusion, self._gradients, self._progress = occlusion, gradients, progress
        self._sources: dict[int, str] = {}
        if layer_fingerprint(self._target, run.layer) != run.fingerprints.get("target"):
            raise UsageError(
                f"the target is not the one of run {run.id}, so its maps would be others",
                "install what the run began with, or leave --maps out",
            )

    @cached_property
    def control_set(self) -> ControlSet | None:
        """The run's control set; None where it has no images, is another one, or cannot be opened."""
        try:
            found = self._components.control_set
        except LineError:
            return None
        if found is None or isinstance(found, PrecomputedControl):
            return None
        return found if found.fingerprint == self._run.fingerprints.get("control") else None

    @cached_property
    def _thresholds(self) -> Thresholds | None:
        # In another scale than maps of their own: gradients and falls.
        if self._occlusion or self._gradients or self.control_set is None:
            return None
        try:
            return map_thresholds(self._target, self.control_set, self._layer, self._units, self._progress)
        except LineError:
            return None

    def source(self, unit: int) -> str:
        """Say what the maps of a unit are that were computed; empty if none were."""
        return self._sources.get(unit, "")

    @property
    def line(self) -> str:
        """Say where the line in the images is."""
        found = self._thresholds
        if found is None:
            return "the line is at half of each map's maximum"
        share = f"{1 - QUANTILE:.0%}".replace("%", " %")
        return f"the line is where {share} of all places in {found.images} control images have a higher value"

    def of_label(self, images: Sequence[bytes], unit: int) -> list[MapImage]:
        """Return images with the unit's map over each; an empty one stays without."""
        whole = [place for place, image in enumerate(images) if image]
        found = [MapImage(b"", "is missing")] * len(images)
        if not whole:
            return found
        laid = self._laid([images[place] for place in whole], [unit])
        for place, (one,) in zip(whole, laid, strict=True):
            found[place] = one
        return found

    def of_image(self, image: bytes, units: Sequence[int]) -> list[MapImage]:
        """Return an image with the map of each unit over it."""
        return self._laid([image], units)[0]

    def _maps(self, images: Sequence[bytes], units: Sequence[int]) -> UnitMaps:
        if self._gradients:
            from line_neurons.tools.targets.gradients.grad_cam import grad_cam

            return grad_cam(self._target, images, self._layer, units)
        return unit_maps(self._target, images, self._layer, units, occlusion=self._occlusion)

    def _laid(self, images: Sequence[bytes], units: Sequence[int]) -> list[list[MapImage]]:
        """Return for each image the image with the map of each unit over it."""
        try:
            maps = self._maps(images, units)
        except UsageError:
            # What the user has to know: it is the same for every image.
            raise
        except LineError as error:
            return [[MapImage(b"", f"has no map: {error.message}")] * len(units)] * len(images)
        come = "" if maps.layer == self._layer else f" ({maps.layer})"
        lines = self._thresholds.values if self._thresholds else {}
        columns = []
        for place, unit in enumerate(units):
            self._sources[unit] = f"{_SOURCES[maps.source]}{come}"
            own = UnitMaps(maps.values[:, place : place + 1], maps.boxes, maps.source, maps.layer)
            columns.append([overlay(image, own, row, lines.get(unit)) for row, image in enumerate(images)])
        return [list(laid) for laid in zip(*columns, strict=True)]
