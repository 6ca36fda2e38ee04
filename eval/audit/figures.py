"""Figures of an audit: where the features of a class respond in its images (the paper's figures 4 and 9)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from line_neurons.eval.edits.subjects import RankedImages
from line_neurons.tools.control_sets import PrecomputedControl
from line_neurons.tools.maps.overlay import MapImage, overlay
from line_neurons.tools.targets.maps import unit_maps

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from line_neurons.eval.audit.importance import ClassFeatures
    from line_neurons.eval.audit.runner import AuditTask
    from line_neurons.tools.store.results.audits import AuditedFeature

_CLASSES = 6
"""Classes that have a figure, as in the paper's Figure 9."""
_IMAGES = 5
_SIDE = 192


def map_figures(task: AuditTask, rows: Sequence[AuditedFeature]) -> dict[str, Callable[[], Figure]]:
    """Return for the first classes a function that draws their features on their images, by name of the figure.

    The images are the control images of the class with the highest activations of the feature; there are no
    figures where the control set has activations only.
    """
    control = task.components.control_set
    if control is None or isinstance(control, PrecomputedControl):
        return {}
    ranked = RankedImages(task.components, task.head.features, control, "control image")
    figures = {
        found: [
            (row, found.strongest(task.features[:, row.feature], _IMAGES))
            for row in rows
            if row.index == found.index
        ]
        for found in task.classes[:_CLASSES]
    }
    # Read once for all figures: an image bank composes its control images anew.
    images = cache(lambda: ranked.read({at for _, places in chain(*figures.values()) for at in places}))
    return {
        f"audit-{found.index}": partial(_draw, task, images, found, strongest)
        for found, strongest in figures.items()
    }


def _draw(
    task: AuditTask,
    control_images: Callable[[], Mapping[int, bytes]],
    found: ClassFeatures,
    strongest: Sequence[tuple[AuditedFeature, Sequence[int]]],
) -> Figure:
    from line_neurons.eval.reports.figures import panels, shortened

    figure, axes = panels(len(strongest), _IMAGES, 1.6)
    figure.suptitle(shortened(f"{found.name} ({found.index})", 60))
    for panels_of_row, (row, places) in zip(axes, strongest, strict=True):
        images = [control_images()[at] for at in places]
        maps = unit_maps(task.components.target, images, task.head.features, [row.feature])
        for panel in panels_of_row:
            panel.set_axis_off()
        for place, (panel, image) in enumerate(zip(panels_of_row, images, strict=False)):
            _show(panel, overlay(image, maps, place), image)
        label = row.label or "no label"
        panels_of_row[0].set_title(
            shortened(f"{row.feature}: {label} ({row.numbers.get('relation') or 'no relation'})", 60), loc="left"
        )
    return figure


def _show(panel: Any, mapped: MapImage, image: bytes) -> None:
    from line_neurons.tools.images.reader import read_image

    shown = read_image(mapped.png or image)
    panel.imshow(shown.resize((_SIDE, _SIDE)))
