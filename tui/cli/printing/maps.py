"""The sheet of where a unit responds: in its label's images, and in the strongest control images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from line_neurons.agent.errors import UsageError
from line_neurons.eval.exchange.output_files import FolderPath, output_file
from line_neurons.tools.cache.reader import stored_images
from line_neurons.tools.store.atomic_files import write_file
from line_neurons.tools.store.runs import find_unit, open_store
from line_neurons.tui.cli import output as terminal
from line_neurons.tui.formatting import counted, number

if TYPE_CHECKING:
    from line_neurons.tools.maps.overlay import MapImage


def show_maps(
    store: Path,
    name: str,
    which: str,
    path: Path,
    assets: Path | None,
    *,
    occlusion: bool = False,
    gradients: bool = False,
    as_json: bool = False,
) -> None:
    """Write a unit's label images and its strongest control images with the unit's maps.

    To a file goes a sheet with each image above the same with its map, to a folder a file for each image with its
    map; these may be listed as JSON.

    Raises:
        UsageError: the unit has no label with images, its target is not that of the run, or a sheet is to be
            listed as JSON.
        LineError: the target cannot be opened, or the file cannot be written.
    """
    in_folder = isinstance(path, FolderPath) or path.is_dir()
    if as_json and not in_folder:
        raise UsageError("--json lists the files of a folder", f"line show RUN UNIT --maps {path}/ --json")
    from line_neurons.tui.cli.progress import ProgressReporter
    from line_neurons.tui.report.contact_sheet import SheetRow, write_sheet
    from line_neurons.tui.report.control_images import ControlImages
    from line_neurons.tui.report.map_images import MapImages

    with closing(open_store(store)) as opened, ProgressReporter() as reporter:
        run = opened.run(name)
        unit = find_unit(run, opened.units(run.id), which)
        if not unit.images:
            raise UsageError(f"unit {unit.unit} of run {run.id} has no label with images", "line show RUN UNIT")
        maps = MapImages(
            opened, run, assets, [unit.unit], occlusion=occlusion, gradients=gradients,
            progress=lambda done, total: reporter.report_preparation("maps of control images", done, total),
        )  # fmt: skip
        stored = stored_images(store, unit.images, str(run.fingerprints.get("target", "")), run.layer, unit.unit)
        contents = [image.content for image in stored]
        laid = maps.of_label(contents, unit.unit)
        activations = [image.activation for image in stored]
        controls = ControlImages(store, run)
        strongest = controls.strongest_images(unit.unit, maps.control_set) if maps.control_set else []
        over = maps.of_label([one.content for one in strongest], unit.unit) if strongest else []
    if in_folder:
        sets: dict[str, list[tuple[MapImage, float | None]]] = {
            "label": list(zip(laid, activations, strict=True)),
            "control": [(one, image.activation) for one, image in zip(over, strongest, strict=True)],
        }
        _write_images(path, sets, maps.source(unit.unit), as_json=as_json)
        return
    rows = [
        SheetRow(f"{unit.label}, score {number(unit.score)}", [one or None for one in contents], activations),
        SheetRow(f"where the unit responds: {maps.source(unit.unit)}", [one.png or None for one in laid]),
    ]
    if strongest:
        rows += [
            SheetRow(
                "control images with the highest activations", [one.content for one in strongest],
                [one.activation for one in strongest],
            ),
            SheetRow("where the unit responds", [one.png or None for one in over]),
        ]  # fmt: skip
    named = f" ({unit.name})" if unit.name else ""
    heading = [f"unit {unit.unit}{named}: {unit.label}", f"{run.target_name} {run.layer}, run {run.id}"]
    terminal.line(f"maps: {write_sheet(rows, path, heading)}")
    terminal.line(f"They are {maps.source(unit.unit)}; {maps.line}.")
    if not strongest:
        terminal.note(f"No control images: {controls.missing or 'the run has no control set of images here'}.")
    for what, found in (("image", laid), ("control image", over)):
        for place, one in enumerate(found, 1):
            if one.error:
                terminal.note(f"{what} {place} {one.error}")


def _write_images(
    folder: Path, sets: Mapping[str, Sequence[tuple[MapImage, float | None]]], source: str, *, as_json: bool
) -> None:
    rows = []
    for images, several in sets.items():
        for place, (one, activation) in enumerate(several, 1):
            file = str(write_file(output_file(folder, f"{images}-{place}.png"), one.png)) if one.png else None
            numbered = {"images": images, "image": place, "file": file, "activation": activation}
            rows.append(numbered | {"error": one.error or None, "map": source})
    if as_json:
        terminal.dump(rows)
        return
    written = [row for row in rows if row["file"]]
    terminal.line(f"{counted(len(written), 'map')}, {source}: {folder}")
    for row in rows:
        if row["error"]:
            terminal.note(f"{row['images']} image {row['image']} {row['error']}")
