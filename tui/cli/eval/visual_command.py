"""Command of ``line eval`` that compares images that excite units."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from line_neurons.agent.settings import load_settings
from line_neurons.tui.cli import options as opt
from line_neurons.tui.cli.eval import options as shared

app = typer.Typer()

_SETTINGS = (
    "generator", "threshold", *opt.PIPELINE, "control", "control_images", "class_names", "image_range", "weights",
    "pool", "layout", "precision", *opt.MACHINE, *opt.FILES,
)  # fmt: skip


@opt.command(
    app,
    "visual",
    _SETTINGS,
    defaults="the run's",
    examples=(
        "line eval visual resnet50-layer4-1 -o visual",
        "line eval visual mobilenet_v2-classifier.1-1 castle violin --am fourier --gradients",
        "line eval visual resnet50-layer4-1 --other dexter=out --other diffexplainer=found",
    ),
)
def visual(
    run: opt.RunName,
    units: Annotated[
        list[str] | None,
        typer.Argument(metavar="[UNIT]...", help="Only these labelled units: 7, 10-20, a class name, @FILE."),
    ] = None,
    *,
    am: Annotated[
        Literal["fourier"] | None,
        typer.Option(help="Also find images by gradients, raw and robust (activation maximisation)."),
    ] = None,
    gradients: Annotated[
        bool, typer.Option("--gradients", help="Allow the gradients of the target that --am needs.")
    ] = False,
    steps: Annotated[int, typer.Option("--am-steps", min=1, max=10_000, help="Steps of each such image.")] = 128,
    other: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FOLDER",
            help="Another tool's images: FOLDER/UNIT/*.png, DEXTER's runs, MAIA's exemplars; repeatable.",
        ),
    ] = None,
    images: Annotated[int, typer.Option("--images", "-n", min=2, max=50, help="Images of each set.")] = 5,
    pictures: Annotated[int | None, typer.Option("--pictures", min=2, max=50, hidden=True)] = None,
    second: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Second network, or none; default: keras:resnet50, if installed."),
    ] = None,
    verify: Annotated[
        str | None,
        typer.Option(
            help="target:MODEL, hf:ID_OR_FOLDER, open_clip:NAME/WEIGHTS, ollama:MODEL or none: is the label there?"
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(help="hf:ID_OR_FOLDER or open_clip:NAME/WEIGHTS: distance to control images (CMMD)."),
    ] = None,
    seed: shared.Seed = 0,
    output: shared.Folder = None,
    config: opt.Config = None,
    json: opt.Json = False,
    trust: opt.Trust = False,
    **flags: Any,
) -> None:
    """Compare a label's images with the strongest images and with activation maximisation.

    High activation alone says little: also measured are views of each image, a second network, and photographs.
    """
    from line_neurons.tui.cli.eval import visual as work

    work.visual(
        run,
        load_settings(config, **flags),
        flags,
        work.VisualOptions(
            units or (), am, gradients, steps, other or (), pictures or images, second, verify, encoder, seed
        ),
        output=output,
        as_json=json,
        trust=trust,
    )
