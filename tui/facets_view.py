"""The facets of a unit in words, for the app and the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from line_neurons.agent.concepts import class_concept
from line_neurons.tui.formatting import counted

if TYPE_CHECKING:
    from line_neurons.tools.store.results.facets import Facet, UnitFacets

_SOURCES = 3


def facets_summary(found: UnitFacets) -> str:
    """Say in a sentence how many things a unit responds to, and how far apart they are."""
    numbers = found.numbers
    if not found.facets:
        return found.told or "its facets cannot be told"
    groups = f"{counted(len(found.facets), 'group')} of its strongest images"
    labelled = sum(facet.label is not None for facet in found.facets)
    names = "" if labelled == len(found.facets) else f", {labelled} with a label"
    polysemanticity = _number(numbers.get("polysemanticity"))
    low, high = (numbers.get(f"polysemanticity_{end}") for end in ("low", "high"))
    interval = "" if low is None or high is None else f" [{low:.2f}, {high:.2f}]"
    limit = numbers.get("limit")
    compared = "" if limit is None else f"; 95 % of units for one class are below {limit:.2f}"
    told = f"; {found.told}" if found.told else ""
    return f"{groups}{names}; polysemanticity {polysemanticity}{interval}{compared}{told}"


def facet_name(facet: Facet) -> str:
    """Return the label of a facet, or that it has none."""
    return facet.label if facet.label is not None else "no label yet"


def source_names(facet: Facet) -> str:
    """Return the names of the strongest sources of a facet."""
    more = len(facet.sources) - _SOURCES
    names = ", ".join(class_concept(name) or name for name in facet.sources[:_SOURCES])
    return f"{names} and {more} more" if more > 0 else names


def _number(value: float | int | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"
