"""Commands of ``line direction``."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from line_neurons.agent.errors import UsageError
from line_neurons.agent.settings import Settings, load_settings
from line_neurons.agent.text import shell_line
from line_neurons.tools.component_names import check_names
from line_neurons.tui.cli import options as opt
from line_neurons.tui.cli import output as terminal

if TYPE_CHECKING:
    from line_neurons.agent.ports import Activations
    from line_neurons.graphs.runs.components import Components
    from line_neurons.tools.directions.fit import DirectionFit

app = typer.Typer()

_SETTINGS = tuple(name for name in opt.TARGET if name not in {*opt.LATENTS, "pool", "query_pool"})
_TOKEN_POOLS = {"auto": "patches", "patches": "patches", "all": "mean-tokens", "cls": "cls"}


@opt.command(
    app,
    "fit",
    ("generator", "seed", "exclude", *_SETTINGS, *opt.MACHINE, *opt.FILES),
    defaults="as for line explain",
    examples=(
        "line direction fit torchvision:mobilenet_v2 features.18 --of photos/striped -o stripes.npz",
        "line direction fit torchvision:mobilenet_v2 features.18 --of castle --of pie --control-images 12"
        " -o two.npz",
        "line direction fit torchvision:resnet50 layer4 --of striped --against plain -o stripes.npz",
    ),
)
def fit(
    model: opt.Model,
    layer: Annotated[str, typer.Argument(help="Dotted path of a layer; see `line layers MODEL`.")],
    output: Annotated[Path, opt.output("FILE", "File to write, .npz.")],
    of: Annotated[
        list[str],
        typer.Option(
            "--of",
            help="Images with a thing: a folder, or a class of the control set; repeatable, a direction each.",
        ),
    ],
    against: Annotated[
        str | None,
        typer.Option(
            help="Images without it: a folder, or a class of the control set; default: the rest of that set."
        ),
    ] = None,
    refits: Annotated[
        int, typer.Option(min=20, max=10_000, help="Random splits of the images to compare with.")
    ] = 20,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    *,
    config: opt.Config = None,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Fit directions from images with and without a thing, and test them against random splits."""
    # No search begins: without a control set none of its settings is in the way.
    settings = load_settings(config, init="vocabulary", **flags)
    settings = settings.model_copy(update={"sae": None, "directions": None, "pool": "auto"})
    check_names(settings, model)
    import numpy as np

    from line_neurons.eval.exchange.output_files import output_file, refuse_existing, refuse_unwritable
    from line_neurons.graphs.runs.components import Components
    from line_neurons.tools.directions.fit import check_scikit_learn
    from line_neurons.tools.targets.latents.directions import write_directions
    from line_neurons.tui.cli.progress import ProgressReporter

    path = output_file(output, "directions.npz")
    if path.suffix != ".npz":
        raise UsageError(f"{str(path)!r:.200} does not end with .npz", "name a file such as stripes.npz")
    refuse_unwritable(path)
    refuse_existing(path, force=force)
    check_scikit_learn()
    with ProgressReporter() as reporter, redirect_stdout(sys.stderr):
        components, tokens = _components(Components(model, settings, reporter.report_preparation), layer)
        fits = _fits(components, layer, of, against, refits)
    rows = [
        {
            "name": name,
            "with": found.images[0],
            "without": found.images[1],
            "accuracy": found.accuracy,
            "auc": found.auc,
            "random_auc": float(found.random_auc.max()),
            "p": found.p,
            "random_vectors": found.random_vectors,
            "is_random": found.is_random,
        }
        for name, found in fits.items()
    ]
    record = {
        "model": components.shown_model,
        "layer": layer,
        "tokens": tokens,
        "pool": "mean",
        "seed": settings.seed,
        "refits": refits,
        "directions": rows,
    }
    vectors = np.stack([found.vector for found in fits.values()])
    write_directions(path, vectors, np.array([found.bias for found in fits.values()]), list(fits), record)
    if json:
        terminal.dump(rows)
        return
    headings = ["direction", "with", "without", "accuracy", "AUC", "random splits", "p", "random vectors", ""]
    terminal.table(
        headings,
        [[*list(row.values())[:-1], "RANDOM" if row["is_random"] else ""] for row in rows],
        f"held-out images, {layer}",
        drop=("random vectors", "p"),
    )
    for row in rows:
        if row["is_random"]:
            terminal.note(
                f"{row['name']} is no better than random: of {refits} random splits of the same images one is"
                f" separated with AUC {row['random_auc']:.2f}. It is marked in the file, and so are its labels."
            )
    name = rows[0]["name"]
    typed = shell_line(["line", "explain", model, layer, str(name), "--directions", str(path)])
    terminal.line(f"{path}: label with `{typed}`")


def _components(components: Components, layer: str) -> tuple[Components, str | None]:
    """Return components with the mean over the tokens as pool, and the tokens where the layer has any.

    Raises:
        UsageError: there is no such layer, or its tokens are not those.
    """
    from line_neurons.graphs.runs.components import Components
    from line_neurons.graphs.runs.preflight import check_selection
    from line_neurons.tools.targets.hooked_target import HookedTarget
    from line_neurons.tools.targets.layers.outputs import kind_of

    check_selection(components, layer, ())
    target, settings = components.target, components.settings
    assert isinstance(target, HookedTarget)
    if kind_of(target.output(layer)) != "tokens":
        components.check(layer)
        return components, None
    update = {"pool": _TOKEN_POOLS[settings.tokens]}
    found = Components(components.model, settings.model_copy(update=update), components.on_progress)
    found.check(layer)
    return found, "patches" if settings.tokens == "auto" else settings.tokens


def _fits(
    components: Components, layer: str, of: list[str], against: str | None, refits: int
) -> dict[str, DirectionFit]:
    """Fit a direction for each of ``of``; return them by name."""
    from line_neurons.tools.directions.examples import ExampleSource
    from line_neurons.tools.directions.fit import fit_direction

    settings = components.settings
    control = components.control_set
    source = ExampleSource(
        partial(_measured, components, layer, settings),
        None if control is None else control.classes(),
        partial(components.control, layer),
        settings.seed,
    )
    source.check(of, against)
    fits: dict[str, DirectionFit] = {}
    for place in of:
        examples = source.examples(place, against)
        terminal.remarks(examples.name, examples.notes)
        fits[examples.name] = fit_direction(
            examples.positive,
            examples.negative,
            seed=settings.seed,
            refits=refits,
            progress=components.progress_for(f"fits of {examples.name}"),
        )
    return fits


def _measured(components: Components, layer: str, settings: Settings, folder: Path) -> Activations:
    """Measure the images at any depth of a folder, float32 [n_images, n_units]."""
    from line_neurons.tools.cache.file_hashes import FileHashes
    from line_neurons.tools.control_sets import control_activations
    from line_neurons.tools.control_sets.folder import FolderControlSet

    images = FolderControlSet(
        folder, None, FileHashes(components.store / "digests.db"), flat=True, value_range=settings.image_range
    )
    progress = components.progress_for(f"images of {folder.name}")
    found = control_activations(components.cache, components.target, [layer], images, progress)[layer]
    terminal.remarks(str(folder), found.skipped)
    return found.dense()
