"""Facets of a unit: what else it responds to, each facet with its label and images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.text import Text
from textual.app import ComposeResult
from textual.widgets import Static

from line_neurons.tools.store.results.facets import Facet, UnitFacets
from line_neurons.tui.app.chrome import KeyFooter, TopBar
from line_neurons.tui.app.table_sync import RecordTable, fitted, sync_rows
from line_neurons.tui.app.unit.images import ImageGrid
from line_neurons.tui.app.unit.images_screen import UnitImagesScreen
from line_neurons.tui.facets_view import facet_name, facets_summary, source_names
from line_neurons.tui.formatting import bar, number, plain
from line_neurons.tui.unit_view import UnitView

_LABEL, _NUMBER, _SHARE = 24, 7, 15


class FacetTable(RecordTable[Facet]):
    """Facets: label, score, AUC and MAD against the control set, and the share of the strongest responses."""

    DEFAULT_CSS = """
    FacetTable { height: auto; max-height: 8; }
    """
    # 78 cells with their padding: all fit into the narrowest terminal.
    COLUMNS = (
        ("facet", 5), ("label", _LABEL), ("score", _NUMBER), ("AUC", _NUMBER), ("MAD", _NUMBER), ("share", _SHARE),
    )  # fmt: skip

    def show(self, facets: Sequence[Facet]) -> None:
        """Show facets, a row each."""
        self.records = list(facets)
        rows = {}
        for facet in facets:
            share = f"{facet.share:4.0%} {bar(facet.share, low=0, high=1, width=_SHARE - 5)}"
            rows[str(facet.facet)] = (
                Text(str(facet.facet), justify="right"),
                Text(fitted(plain(facet_name(facet)), _LABEL), style="" if facet.label is not None else "italic"),
                *(Text(number(value), justify="right") for value in (facet.score, facet.auc, facet.mad)),
                Text(share),
            )
        sync_rows(self, rows)


class FacetsScreen(UnitImagesScreen):
    """The facets of a unit, with the images of the selected one's label."""

    def __init__(self, store: Path, view: UnitView, found: UnitFacets) -> None:
        super().__init__(store, view)
        self._found = found

    def compose(self) -> ComposeResult:
        """Lay out the summary, the table and the images of the selected facet."""
        yield TopBar()
        yield Static("What else does the unit respond to?", id="title", markup=False)
        yield Static(plain(facets_summary(self._found)), id="summary", markup=False)
        yield FacetTable()
        yield Static(id="detail", markup=False)
        yield ImageGrid(self._store)
        yield KeyFooter()

    def on_mount(self) -> None:
        """Show the facets."""
        self.query_one(FacetTable).show(self._found.facets)
        self.query_one(FacetTable).focus()
        self._show_images()

    def _images_name(self) -> str | None:
        selected = self.query_one(FacetTable).selected()
        return None if selected is None else facet_name(selected)

    def _show_images(self) -> None:
        selected = self.query_one(FacetTable).selected()
        if selected is not None:
            origin = "" if selected.origin is None else f"; label: {plain(selected.origin)}"
            self.query_one("#detail", Static).update(f"Strongest images: {plain(source_names(selected))}{origin}")
            self.query_one(ImageGrid).show(self._view.run, self._view.unit.unit, selected.images)
