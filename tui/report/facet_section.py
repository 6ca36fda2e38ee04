"""Facets of a unit in a report: a strip of images for each label, and one of the images that excite the unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from line_neurons.tools.cache.reader import stored_activations
from line_neurons.tui.facets_view import facet_name, facets_summary, source_names
from line_neurons.tui.report.thumbnails import MAX_IMAGES

if TYPE_CHECKING:
    from pathlib import Path

    from line_neurons.tools.store.results.facets import Facet, UnitFacets
    from line_neurons.tui.report.control_images import ControlImages, TopControlImage
    from line_neurons.tui.report.thumbnails import ImageStrip, Thumbnails
    from line_neurons.tui.unit_view import UnitView


@dataclass(frozen=True)
class FacetStrip:
    """A facet with its images.

    Args:
        name: its label, or that it has none.
        sources: names of its strongest sources.
        strip: the label's images; None without a label.
        activations: the unit's activation on each; None if unknown.
        control_images: the strongest control images of its sources.
    """

    facet: Facet
    name: str
    sources: str
    strip: ImageStrip | None
    activations: tuple[float | None, ...]
    control_images: tuple[TopControlImage, ...]


@dataclass(frozen=True)
class FacetSection:
    """The facets of a unit; ``summary`` says in a sentence how many there are."""

    summary: str
    facets: tuple[FacetStrip, ...]


def facet_section(
    store: Path, view: UnitView, found: UnitFacets | None, thumbnails: Thumbnails, controls: ControlImages
) -> FacetSection | None:
    """Return the section of a unit's facets; None where they were not found.

    Raises:
        StoreError: the cache cannot be read.
    """
    if found is None:
        return None
    target, unit = str(view.run.fingerprints.get("target")), view.unit.unit
    strips = []
    for facet in found.facets:
        shown = list(facet.images[:MAX_IMAGES])
        strips.append(
            FacetStrip(
                facet,
                facet_name(facet),
                source_names(facet),
                thumbnails.strip(facet.images),
                tuple(stored_activations(store, shown, target, view.run.layer, unit)),
                controls.of_classes(unit, facet.sources, thumbnails),
            )
        )
    return FacetSection(facets_summary(found), tuple(strips))
