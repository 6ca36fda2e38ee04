"""Print the edits of a unit's images."""

from __future__ import annotations

from pathlib import Path

from line_neurons.agent.errors import UsageError
from line_neurons.tools.cache.image_files import image_path
from line_neurons.tools.store.results.edits import stored_edits
from line_neurons.tools.store.runs import find_unit, open_store
from line_neurons.tui.cli import output as terminal
from line_neurons.tui.edits_view import unit_edits


def show_edits(store: Path, run: str, unit: str, *, alone: bool, as_json: bool) -> None:
    """Print each evaluation of a unit's edits: effect, verdicts, activations, files.

    Raises:
        UsageError: there is no such run or unit, its images were not edited, or it is not ``alone``: something
            else is to be shown, too.
    """
    if not alone:
        raise UsageError("only --json goes with --edits", "line show RUN UNIT --edits")
    runs = open_store(store)
    record = runs.run(run)
    index = find_unit(record, runs.units(record.id), unit).unit
    found = unit_edits(stored_edits(store, record.id, index))
    if not found:
        raise UsageError(
            f"images of unit {index} of {record.id} were not edited",
            f"line eval edits {record.id} --units {index}",
        )
    if as_json:
        terminal.dump([
            {
                "title": edits.title,
                "summary": edits.summary,
                "images": [
                    {
                        "name": image.name, "verdict": image.verdict, "detail": image.detail,
                        "arms": {
                            arm.arm: {"activation": arm.activation, "file": str(image_path(store, arm.image))}
                            for arm in image.arms
                        },
                    }
                    for image in edits.images
                ],
            }
            for edits in found
        ])  # fmt: skip
        return
    for edits in found:
        rows = []
        for image in edits.images:
            values = {arm.arm: arm.activation for arm in image.arms}
            rows.append(
                [image.name, *(values.get(arm) for arm in ("original", "concept", "elsewhere")), image.verdict]
            )
        terminal.table(["image", "original", "edit", "control edit", "verdict"], rows, edits.title)
        terminal.line(edits.summary)
