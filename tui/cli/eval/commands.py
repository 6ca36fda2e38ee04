"""Commands of ``line eval`` that label units, evaluate labels, or do all at once."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from line_neurons.agent.errors import UsageError
from line_neurons.agent.near_names import choices
from line_neurons.agent.presets import OLLAMA_SAMPLING, SERVERS
from line_neurons.agent.settings import load_settings
from line_neurons.tui.cli import options as opt
from line_neurons.tui.cli.eval import options as shared

app = typer.Typer()

_LABELS = "Runs, names of imported labels, or files of other methods; METHOD=FILE names a method."
_RUNS_OWN = "the run's, else as for line explain"
_COSY = (
    *(f"diffusion__{name}" for name in ("steps", "guidance", "size", "dtype", "revision", "scheduler")),
    "threshold", *opt.PIPELINE, "control_images", "image_range", "weights", "pool", "query_pool", "tokens",
    *opt.LATENTS, "layout", "precision", *opt.MACHINE, *opt.WORKERS, *opt.FILES,
)  # fmt: skip


@opt.command(
    app,
    "cosy",
    _COSY,
    defaults=_RUNS_OWN,
    examples=(
        "line eval cosy resnet50-layer4-1",
        "line eval cosy resnet50-layer4-1 clip-dissect=labels.csv --images-from photos:imagenet -o cosy/",
        "line eval cosy labels.csv --model torchvision:resnet50 --layer layer4 --format json",
    ),
)
def cosy(
    labels: Annotated[list[str], typer.Argument(help=_LABELS)],
    mode: Annotated[
        str, typer.Option(metavar="[fixed|strict]", help="strict: like CoSy's own code, defects included.")
    ] = "fixed",
    images_from: Annotated[
        str | None,
        typer.Option(
            help="bank:heldout, bank:search, bank+icons, render, bank:FOLDER, photos:FOLDER, a text-to-image "
            "model, or a folder gen_images as written by CoSy; "
            "default: the search's generator, of an image bank the part not used by searches."
        ),
    ] = None,
    images: Annotated[
        int | None, typer.Option("--images", "-n", min=1, max=1000, help="Images per concept; default: 50.")
    ] = None,
    control: Annotated[
        str | None,
        typer.Option(help="Control set: FOLDER, hf:DATASET, FILE.npz or bank:heldout; default: the search's."),
    ] = None,
    units: shared.Units = None,
    model: shared.Model = None,
    layer: shared.Layer = None,
    seed: shared.Seed = 0,
    units_from: opt.UnitsFrom = None,
    facets: opt.Facets = "first",
    *,
    output: Annotated[
        Path | None,
        opt.output("FILE|FOLDER", "Write results in CoSy's format: a folder, or for one method a file."),
    ] = None,
    format_: Annotated[
        str, typer.Option("--format", metavar="[table|csv|json]", help="Format of the printed results.")
    ] = "table",
    config: opt.Config = None,
    json: opt.Json = False,
    trust: opt.Trust = False,
    **flags: Any,
) -> None:
    """Evaluate labels with CoSy: do units respond more to images of their labels?

    Prints AUC, U1, its p-value and MAD, the mean activation difference, of each unit and their means.
    """
    from line_neurons.tui.cli.eval import cosy as work

    work.cosy(
        labels,
        load_settings(config, **flags),
        flags,
        work.CosyOptions(
            mode, images_from, images, control, units, model, layer, seed, units_from, opt.wants_facets(facets)
        ),
        format_="json" if json else format_,
        output=output,
        trust=trust,
    )


@opt.command(
    app,
    "captions",
    ("assets",),
    examples=("line eval captions imagenet/val", "line eval captions photographs --assets assets"),
)
def captions(
    folder: Annotated[Path, typer.Argument(help="Photographs named by WordNet ids, or in folders so named.")],
    **flags: Any,
) -> None:
    """Write captions.csv for photographs named by WordNet ids, like ImageNet's.

    Labels can then be evaluated on them: --images-from photos:FOLDER.
    """
    from line_neurons.tui.cli.eval import cosy as work

    work.captions(folder, load_settings(**flags))


@opt.command(
    app,
    "export",
    ("store",),
    examples=(
        "line eval export resnet50-layer4-1 -o explanations/",
        "line eval export clip-dissect --form invert -o clip_dissect.csv",
    ),
)
def export(
    labels: Annotated[str, typer.Argument(help="A run, labels of the store, or a file of labels.")],
    output: Annotated[Path, opt.output("FILE|FOLDER", "File to write, or a folder of explanations.")],
    form: Annotated[
        str, typer.Option(metavar="[cosy|invert|clip-dissect|milan|prism]", help="Format of the explanations.")
    ] = "cosy",
    layer: Annotated[str | None, typer.Option(help="Layer, if a file has several.")] = None,
    units_from: opt.UnitsFrom = None,
    **flags: Any,
) -> None:
    """Write labels in the format of CoSy's own code.

    The same as `line export LABELS --format FORM --force`: existing files are replaced.
    """
    from line_neurons.eval.labels.columns import WRITE_FORMATS
    from line_neurons.tui.cli.export import write_export

    if form not in WRITE_FORMATS:
        raise UsageError(f"{form!r:.40} is not a form of explanations", choices(form, WRITE_FORMATS))
    write_export(
        opt.store_of(**flags), labels, form, output, layer=layer, units_from=units_from, force=True, as_json=False
    )


_BASELINE = (
    "seed", "images", "scorer", "exclude", "llm", *SERVERS, "top_p", *OLLAMA_SAMPLING, "context", "reply_tokens",
    "timeout", "think", "llm_parallel", *opt.IMAGES, *opt.PIPELINE, *opt.TARGET, *opt.MACHINE, *opt.FILES,
)  # fmt: skip
_METHOD_PANEL = "Options of single methods"


@opt.command(
    app,
    "baseline",
    _BASELINE,
    defaults=_RUNS_OWN,
    examples=(
        "line eval baseline clip-dissect torchvision:resnet50 layer4 --units random:50",
        "line eval baseline invert --run resnet50-layer4-1 --length 3",
        "line eval baseline describe-and-dissect --run resnet50-layer4-1 --captioner ollama:llava",
    ),
)
def baseline(
    method: Annotated[
        str,
        typer.Argument(help="random, initial, best-word, invert, clip-dissect or describe-and-dissect."),
    ],
    model: Annotated[str | None, typer.Argument(help="Target, as for `line batch`; not with --run.")] = None,
    layer: Annotated[str | None, typer.Argument(help="Dotted path of a layer.")] = None,
    units: Annotated[
        list[str] | None,
        typer.Option(help="7, 10-20, names of classes, all, random:50, cosy, @FILE; repeatable."),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(help="Label the units of this run, with its settings and excluded concepts."),
    ] = None,
    allow_excluded: Annotated[
        bool, typer.Option("--allow-excluded", help="Allow concepts that the run excluded as labels.")
    ] = False,
    share: Annotated[
        float | None,
        typer.Option(min=1e-6, max=1, help="Share of the image bank's captions to choose from; default: all."),
    ] = None,
    vocabulary: Annotated[
        Path | None,
        typer.Option(help="Word list; default: classes of the probe images.", rich_help_panel="Method"),
    ] = None,
    length: Annotated[
        int | None,
        typer.Option(help="invert: most concepts in a formula; default: 1.", rich_help_panel=_METHOD_PANEL),
    ] = None,
    beam: Annotated[
        int | None,
        typer.Option(help="invert: formulas kept at each length; default: 3.", rich_help_panel=_METHOD_PANEL),
    ] = None,
    least: Annotated[
        float | None,
        typer.Option(
            help="invert: minimum share of images that match a formula; default: 0.",
            rich_help_panel=_METHOD_PANEL,
        ),
    ] = None,
    most: Annotated[
        float | None,
        typer.Option(help="invert: maximum of that share; default: 0.5.", rich_help_panel=_METHOD_PANEL),
    ] = None,
    hypernyms: Annotated[
        bool | None,
        typer.Option(
            "--hypernyms/--no-hypernyms",
            help="invert: use names of groups of classes, too.",
            rich_help_panel=_METHOD_PANEL,
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="clip-dissect, describe-and-dissect: hf:ID_OR_FOLDER, open_clip:NAME/WEIGHTS, or captions, a "
            "substitute from the image bank.",
            rich_help_panel=_METHOD_PANEL,
        ),
    ] = None,
    similarity: Annotated[
        str | None,
        typer.Option(
            help="clip-dissect: soft_wpmi, wpmi, rank_reorder, cos_similarity or cos_similarity_cubed.",
            rich_help_panel=_METHOD_PANEL,
        ),
    ] = None,
    captioner: Annotated[
        str | None,
        typer.Option(
            help="describe-and-dissect: ollama:MODEL, or captions, a substitute from the image bank.",
            rich_help_panel=_METHOD_PANEL,
        ),
    ] = None,
    *,
    output: Annotated[
        Path | None,
        opt.output("FILE", "File to write, or a folder for it, in the method's format; default: in the store."),
    ] = None,
    config: opt.Config = None,
    trust: opt.Trust = False,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Label units with another method: same units, images and words.

    Options of the methods default to the authors' values.
    """
    from line_neurons.tui.cli.eval import baseline as work

    if vocabulary is not None:
        flags["vocabulary"] = vocabulary
    method_options = {
        "length": length, "beam": beam, "least": least, "most": most, "hypernyms": hypernyms,
        "encoder": encoder, "similarity": similarity, "captioner": captioner,
    }  # fmt: skip
    work.baseline(
        method,
        work.BaselineOptions(model, layer, units, run, share, allow_excluded, trust),
        load_settings(config, **flags),
        flags,
        method_options,
        output=output,
        as_json=json,
    )


@opt.command(
    app,
    "suite",
    (*opt.BATCH, *opt.RUN),
    defaults={**opt.BATCH_DEFAULTS, "revisit": False},
    examples=(
        "line eval suite torchvision:mobilenet_v2 classifier.1 --units random:50 -o evaluation",
        "line eval suite torchvision:resnet50 layer4 --units 0-99 --against random -o evaluation --plan",
    ),
)
def suite(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="Target, as for `line batch`.")],
    layer: Annotated[str, typer.Argument(help="Dotted path of a layer.")],
    units: Annotated[list[str], typer.Option(help=f"{opt.UNITS}; repeatable.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder of labels, tables and the report.")
    ],
    against: Annotated[
        list[str] | None,
        typer.Option(help="Another language model to compare with; repeatable; default: random."),
    ] = None,
    baselines: Annotated[
        str | None,
        typer.Option(help="Baselines, separated by commas; default: all that fit the image generator."),
    ] = None,
    cosy: Annotated[str, typer.Option(help="Options of `line eval cosy`, as one text.")] = "",
    edits: Annotated[
        str | None,
        typer.Option(help="Also edit images, with these options of `line eval edits`, as one text."),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only print the commands and their state.")] = False,
    preset: opt.Preset = None,
    *,
    config: opt.Config = None,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Evaluate a layer: searches, baselines, CoSy and tables; continues where it stopped.

    The searches differ in one setting each.
    """
    from line_neurons.tui.cli.eval import suite as work

    work.suite(
        (model, layer),
        units,
        against or ["random"],
        None if baselines is None else [name.strip() for name in baselines.split(",") if name.strip()],
        shlex.split(cosy),
        config,
        flags if preset is None else {**flags, "preset": preset},
        output.absolute(),
        partial(work.execute, ctx.find_root().command),
        edits_options=None if edits is None else shlex.split(edits),
        only_plan=plan,
        as_json=json,
    )
