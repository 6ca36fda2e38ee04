"""The commands of ``line eval``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from line_neurons.agent.errors import UsageError
from line_neurons.agent.presets import OLLAMA_SAMPLING
from line_neurons.tui.cli import options as opt
from line_neurons.tui.cli.eval.tables import tables_app

eval_app = typer.Typer(help="Is the label right? Protocols, baselines, statistics, tables.", no_args_is_help=True)
eval_app.add_typer(tables_app)

_LABELS = "Runs, names of imported labels, or files of other methods; METHOD=FILE names a method."
_DRAWING = opt.only(
    "diffusion__steps", "diffusion__guidance", "diffusion__size", "diffusion__dtype", "diffusion__revision",
    "diffusion__scheduler", "threshold",
)  # fmt: skip
_MEASURING = opt.only("control_images", "image_range", "weights", "pool", "layout", "precision")


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
            help="bank:heldout, bank:search, bank:FOLDER, photos:FOLDER, a text-to-image model, or a folder "
            "gen_images as CoSy makes it; "
            "default: the search's generator, of an image bank the part that no search sees."
        ),
    ] = None,
    images: Annotated[
        int | None, typer.Option("--images", "-n", min=1, max=1000, help="Images of each concept; default 50.")
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
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Seed of the images.")] = 0,
    units_from: opt.UnitsFrom = None,
    *,
    output: Annotated[
        Path | None,
        opt.output("FILE|FOLDER", "Write CoSy's file of results: a folder, or for one method a file."),
    ] = None,
    format_: Annotated[str, typer.Option("--format", help="Print as table, csv or json.")] = "table",
    config: opt.Config = None,
    trust: opt.Trust = False,
    **flags: Any,
) -> None:
    """Judge labels by CoSy: do units respond more to images of their labels than to others? AUC, U1, p, MAD."""
    from line_neurons.agent.settings import load_settings
    from line_neurons.tui.cli.eval import cosy as cosy_commands

    cosy_commands.cosy(
        labels,
        load_settings(config, **flags),
        flags,
        cosy_commands.Wanted(mode, images_from, images, control, units, model, layer, seed, units_from),
        format_=format_,
        output=output,
        trust=trust,
    )


@eval_app.command()
@opt.takes(opt.only("assets"))
def captions(
    folder: Annotated[Path, typer.Argument(help="Photographs that, or whose folders, are named by WordNet ids.")],
    **flags: Any,
) -> None:
    """Write captions.csv for photographs such as ImageNet's, so that labels can be judged on them."""
    from line_neurons.agent.settings import load_settings
    from line_neurons.tui.cli.eval import cosy as cosy_commands

    cosy_commands.captions(folder, load_settings(**flags))


@eval_app.command()
@opt.takes(opt.only("store"))
def export(
    labels: Annotated[str, typer.Argument(help="A run, labels that the store keeps, or a file of labels.")],
    output: Annotated[Path, opt.output("FILE|FOLDER", "File to write, or a folder of explanations.")],
    form: Annotated[str, typer.Option(help="cosy, invert, clip-dissect or milan.")] = "cosy",
    layer: Annotated[str | None, typer.Option(help="Which of the layers of a file that has several.")] = None,
    units_from: opt.UnitsFrom = None,
    **flags: Any,
) -> None:
    """Write labels as CoSy's own code reads them: `line export LABELS --format FORM`, replacing what is there."""
    from line_neurons.agent.settings import load_settings
    from line_neurons.eval.labels.formats import WRITE_FORMATS
    from line_neurons.tools.store.runs import default_store
    from line_neurons.tui.cli import export as exporting

    if form not in WRITE_FORMATS:
        raise UsageError(f"{form!r:.40} is not a form of explanations", f"use {', '.join(WRITE_FORMATS)}")
    store = load_settings(**flags).store or default_store()
    exporting.export(store, labels, form, output, layer=layer, units_from=units_from, force=True, as_json=False)


_BASELINE = (
    opt.only("seed", "images", "scorer", "exclude")
    | {"vocabulary": Annotated[Path | None, typer.Option(help="Word list; default: classes of the probe images.")]}
    | opt.only(
        "llm", "ollama", "top_p", *OLLAMA_SAMPLING, "context", "reply_tokens", "timeout", "think", "llm_parallel"
    )
    | opt.IMAGES
    | opt.DRAWING
    | opt.TARGET
    | opt.MACHINE
    | opt.FILES
)
_OWN = "Options of single methods"


@eval_app.command()
@opt.takes(_BASELINE)
def baseline(
    method: Annotated[
        str,
        typer.Argument(help="random, initial, best-word, invert, clip-dissect or describe-and-dissect."),
    ],
    model: Annotated[str | None, typer.Argument(help="The target, as for `line batch`; not with --run.")] = None,
    layer: Annotated[str | None, typer.Argument(help="Dotted path of a layer.")] = None,
    units: Annotated[
        list[str] | None,
        typer.Option(help="7, 10-20, names of classes, all, random:50, cosy, @FILE; repeatable."),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(help="Label the units of this run, with its settings and what it kept off its first boards."),
    ] = None,
    allow_excluded: Annotated[
        bool, typer.Option("--allow-excluded", help="Labels may be what the run kept off its first boards.")
    ] = False,
    share: Annotated[
        float | None,
        typer.Option(min=1e-6, max=1, help="Part of the image bank's captions to choose from; default: all."),
    ] = None,
    length: Annotated[
        int | None, typer.Option(help="invert: most concepts in a formula; default 1.", rich_help_panel=_OWN)
    ] = None,
    beam: Annotated[
        int | None, typer.Option(help="invert: formulas kept at each length; default 3.", rich_help_panel=_OWN)
    ] = None,
    least: Annotated[
        float | None,
        typer.Option(help="invert: least share of images a formula holds for; default 0.", rich_help_panel=_OWN),
    ] = None,
    most: Annotated[
        float | None, typer.Option(help="invert: largest such share; default 0.5.", rich_help_panel=_OWN)
    ] = None,
    hypernyms: Annotated[
        bool | None,
        typer.Option(
            "--hypernyms/--no-hypernyms", help="invert: name groups of classes too.", rich_help_panel=_OWN
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="clip-dissect, describe-and-dissect: hf:ID_OR_FOLDER, open_clip:NAME/WEIGHTS, or captions, the "
            "stand-in.",
            rich_help_panel=_OWN,
        ),
    ] = None,
    similarity: Annotated[
        str | None,
        typer.Option(
            help="clip-dissect: soft_wpmi, wpmi, rank_reorder, cos_similarity or cos_similarity_cubed.",
            rich_help_panel=_OWN,
        ),
    ] = None,
    captioner: Annotated[
        str | None,
        typer.Option(help="describe-and-dissect: ollama:MODEL, or captions, the stand-in.", rich_help_panel=_OWN),
    ] = None,
    *,
    output: Annotated[
        Path | None,
        opt.output("FILE", "File to write, or a folder for it, in the method's own form; default: in the store."),
    ] = None,
    config: opt.Config = None,
    trust: opt.Trust = False,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Label units as another method would: same units, images and words; default settings are the authors'."""
    from line_neurons.agent.settings import load_settings
    from line_neurons.tui.cli.eval import baseline as baseline_commands

    own = {
        "length": length, "beam": beam, "least": least, "most": most, "hypernyms": hypernyms,
        "encoder": encoder, "similarity": similarity, "captioner": captioner,
    }  # fmt: skip
    baseline_commands.baseline(
        method,
        baseline_commands.Wanted(model, layer, units, run, share, allow_excluded, trust),
        load_settings(config, **flags),
        flags,
        own,
        output=output,
        as_json=json,
    )
