"""The sheet of where a unit responds in its label's images."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from line_neurons.agent.errors import UsageError
from line_neurons.tools.cache.reader import stored_images
from line_neurons.tools.store.runs import find_unit, open_store
from line_neurons.tui.cli import output as terminal
from line_neurons.tui.formatting import number


def show_maps(
    store: Path, name: str, which: str, path: Path, assets: Path | None, *, occlusion: bool = False
) -> None:
    """Write a unit's label images, and below them the same with the unit's maps.

    Raises:
        UsageError: the unit has no label with images, or its target is not that of the run.
        LineError: the target cannot be opened, or the file cannot be written.
    """
    from line_neurons.tui.report.contact_sheet import SheetRow, write_sheet
    from line_neurons.tui.report.map_images import MapImages

    with closing(open_store(store)) as opened:
        run = opened.run(name)
        unit = find_unit(run, opened.units(run.id), which)
        if not unit.images:
            raise UsageError(f"unit {unit.unit} of run {run.id} has no label with images", "line show RUN UNIT")
        maps = MapImages(opened, run, assets, occlusion=occlusion)
    stored = stored_images(store, unit.images, str(run.fingerprints.get("target", "")), run.layer, unit.unit)
    contents = [image.content for image in stored]
    laid = maps.of_label(contents, unit.unit)
    activations = [image.activation for image in stored]
    rows = [
        SheetRow(f"{unit.label}, score {number(unit.score)}", [one or None for one in contents], activations),
        SheetRow(f"where the unit responds: {maps.source(unit.unit)}", [one.png or None for one in laid]),
    ]
    named = f" ({unit.name})" if unit.name else ""
    heading = [f"unit {unit.unit}{named}: {unit.label}", f"{run.target_name} {run.layer}, run {run.id}"]
    terminal.line(f"maps: {write_sheet(rows, path, heading)}")
    terminal.line(f"They are {maps.source(unit.unit)}; the line is at half of each map's maximum.")
    for place, one in enumerate(laid, 1):
        if one.error:
            terminal.note(f"image {place} {one.error}")
