"""Command of ``line eval`` that edits images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from line_neurons.agent.settings import load_settings
from line_neurons.tui.cli import options as opt
from line_neurons.tui.cli.eval import options as shared

app = typer.Typer()

_SETTINGS = (
    "generator", "threshold", *opt.PIPELINE, "control", "control_images", "class_names", "image_range", "weights",
    "ollama", "timeout", "pool", "layout", "precision", *opt.MACHINE, *opt.FILES,
)  # fmt: skip


@opt.command(
    app,
    "edits",
    _SETTINGS,
    defaults="the run's, else as for line explain",
    examples=(
        "line eval edits mobilenet_v2-classifier.1-1 -o edits",
        "line eval edits mobilenet_v2-classifier.1-1 random=labels.csv --how remove,replace --units 403",
        "line eval edits resnet50-layer4-1 --on photographs/ --editor cut",
    ),
)
def edits(
    labels: Annotated[
        list[str],
        typer.Argument(help="Runs, imported labels or files of other methods; all edit the images of the first."),
    ],
    editor: Annotated[
        str | None,
        typer.Option(
            help="composed, cut, qwen-edit, kontext, ip2p or sdxl-inpaint, or one of these four as NAME=FOLDER; "
            "default: composed, for an image bank."
        ),
    ] = None,
    how: Annotated[
        str, typer.Option(metavar="KINDS", help="remove, replace, insert; separated by commas.")
    ] = "remove",
    on: Annotated[
        str | None,
        typer.Option(
            help="Images: label, strongest (of the control set), or FOLDER; default: as the editor needs."
        ),
    ] = None,
    images: Annotated[int, typer.Option("--images", "-n", min=1, max=200, help="Images of each unit.")] = 12,
    pictures: shared.Pictures = None,
    verify: Annotated[
        str | None,
        typer.Option(
            help="Is the concept gone? target:MODEL, hf:ID_OR_FOLDER, open_clip:NAME/WEIGHTS, ollama:VISION_MODEL "
            "or none."
        ),
    ] = None,
    other: Annotated[str, typer.Option(help="What takes the label's place; default: chosen for each unit.")] = "",
    units: shared.Units = None,
    model: shared.Model = None,
    layer: shared.Layer = None,
    words: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND=TEXT", help="Instruction to the editor: remove=Erase the {concept}.; repeatable."
        ),
    ] = None,
    region: Annotated[
        str,
        typer.Option(help="What cut and sdxl-inpaint edit: salient (what stands out) or hf:CLIPSEG (by label)."),
    ] = "salient",
    from_folder: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Edits made elsewhere, of images exported before.")
    ] = None,
    export_canvases: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write the images to edit elsewhere, and stop.")
    ] = None,
    seed: shared.Seed = 0,
    units_from: opt.UnitsFrom = None,
    *,
    output: shared.Folder = None,
    config: opt.Config = None,
    json: opt.Json = False,
    trust: opt.Trust = False,
    **flags: Any,
) -> None:
    """Take labels' things out of images: does the unit's activation fall?

    Each edit is checked, and compared with a control edit of the same size.
    """
    from line_neurons.tui.cli.eval import edits as work

    work.edits(
        labels,
        load_settings(config, **flags),
        flags,
        work.EditOptions(
            editor,
            on,
            how,
            pictures or images,
            verify,
            other,
            units,
            seed,
            words or (),
            from_folder,
            export_canvases,
            region,
        ),
        model=model,
        layer=layer,
        units_from=units_from,
        output=output,
        as_json=json,
        trust=trust,
    )
