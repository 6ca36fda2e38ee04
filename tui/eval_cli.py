"""The commands of ``line eval``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from line_neurons.tui import options as opt
from line_neurons.tui.table_commands import tables_app

eval_app = typer.Typer(help="Is the label right? Protocols, baselines, statistics, tables.", no_args_is_help=True)
eval_app.add_typer(tables_app)

_LABELS = "Runs, or files of INVERT, CLIP-Dissect, MILAN, FALCON or CoSy; METHOD=FILE names a method."
_DRAWING = opt.only(
    "diffusion__steps", "diffusion__guidance", "diffusion__size", "diffusion__dtype", "diffusion__revision",
    "diffusion__scheduler", "threshold",
)  # fmt: skip
_MEASURING = opt.only("control_images", "weights", "pool", "precision")


@eval_app.command()
@opt.takes(_DRAWING | opt.DRAWING | _MEASURING | opt.MACHINE | opt.FILES)
def cosy(
    labels: Annotated[list[str], typer.Argument(help=_LABELS)],
    mode: Annotated[
        str, typer.Option(help="fixed, or strict: as CoSy's code does it, defects included.")
    ] = "fixed",
    images_from: Annotated[
        str | None,
        typer.Option(
            help="bank:heldout, bank:search, bank:FOLDER, a text-to-image model, or a folder gen_images as CoSy "
            "makes it; "
            "default: the search's generator, of an image bank the part that no search sees."
        ),
    ] = None,
    images: Annotated[
        int | None, typer.Option("--images", "-n", min=1, max=1000, help="Pictures of each concept; default 50.")
    ] = None,
    control: Annotated[
        str | None,
        typer.Option(help="Control set: FOLDER, hf:DATASET, FILE.npz or bank:heldout; default: as the search's."),
    ] = None,
    units: Annotated[
        list[str] | None,
        typer.Option(help="Of the labelled units only these: 7, 10-20, random:50, cosy, @FILE; repeatable."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="The target of a file whose name does not say it.")] = None,
    layer: Annotated[str | None, typer.Option(help="The layer likewise, or which of several in a file.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Seed of the pictures.")] = 0,
    *,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write CoSy's file of results: a folder, or for one method a file."),
    ] = None,
    format_: Annotated[str, typer.Option("--format", help="Print as table, csv or json.")] = "table",
    config: opt.Config = None,
    trust: opt.Trust = False,
    **flags: Any,
) -> None:
    """Judge labels by CoSy: do units respond more to pictures of their labels than to others? AUC, U1, p, MAD."""
    from line_neurons.agent.settings import load_settings
    from line_neurons.tui import cosy_commands

    cosy_commands.cosy(
        labels,
        load_settings(config, **flags),
        flags,
        cosy_commands.Wanted(mode, images_from, images, control, units, model, layer, seed),
        format_=format_,
        output=output,
        trust=trust,
    )


@eval_app.command()
@opt.takes(opt.only("store"))
def export(
    labels: Annotated[str, typer.Argument(help="A run, or a file of labels.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write, or a folder of explanations.")],
    form: Annotated[str, typer.Option(help="cosy, invert, clip-dissect or milan.")] = "cosy",
    layer: Annotated[str | None, typer.Option(help="Which of the layers of a file that has several.")] = None,
    **flags: Any,
) -> None:
    """Write labels as a table of explanations that CoSy's own code reads."""
    from line_neurons.agent.settings import load_settings
    from line_neurons.tui import cosy_commands

    cosy_commands.export(labels, load_settings(**flags), output, form, layer)
