"""The images that a unit responds to most, of all that the store has measured."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from line_neurons.agent.errors import UsageError
from line_neurons.tools.cache.reader import stored_images, strongest_images
from line_neurons.tools.store.runs import find_unit, open_store
from line_neurons.tui.cli import output as terminal


def show_strongest(
    store: Path, name: str, which: str, count: int, sheet: Path | None, *, as_json: bool = False
) -> None:
    """Print a unit's strongest images, whatever unit they were generated for, and write them as a sheet.

    Raises:
        UsageError: the store has no image that the unit was measured on.
        StoreError: the cache cannot be read, or the sheet cannot be written.
    """
    from line_neurons.tui.report.contact_sheet import SheetRow, write_sheet

    with closing(open_store(store)) as opened:
        run = opened.run(name)
        unit = find_unit(run, opened.units(run.id), which)
    target = str(run.fingerprints.get("target", ""))
    strongest = strongest_images(store, target, run.layer, unit.unit, count)
    if not strongest:
        raise UsageError(f"no image of this store was measured at {run.layer}", "line resume RUN")
    stored = stored_images(store, strongest, target, run.layer, unit.unit)
    title = f"the {len(stored)} strongest of all images of this store"
    named = f" ({unit.name})" if unit.name else ""
    rows = [SheetRow(title, [one.content or None for one in stored], [one.activation for one in stored])]
    heading = [
        f"unit {unit.unit}{named}: {unit.label or unit.status}",
        f"{run.target_name} {run.layer}, run {run.id}",
    ]
    path = write_sheet(rows, sheet or store / "sheets" / f"{run.id}-{unit.unit}-best.png", heading)
    of_label = set(unit.images)
    if as_json:
        terminal.dump(
            {
                "run": run.id,
                "unit": unit.unit,
                "images": [
                    {
                        "image": one.id, "activation": one.activation, "prompt": one.prompt, "seed": one.seed,
                        "of_label": one.id in of_label, "missing": one.error,
                    }
                    for one in stored
                ],
                "contact_sheet": str(path),
            }
        )  # fmt: skip
        return
    terminal.table(
        ["activation", "label's", "prompt", "image"],
        [
            [one.activation, "yes" if one.id in of_label else "", one.prompt or one.error, one.id[:12]]
            for one in stored
        ],
        f"unit {unit.unit}{named}: {title}",
        drop=("image",),
        wrap=("prompt",),
    )
    terminal.line(f"images: {path}")
