"""Command of ``line eval`` that runs MAIA's evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from line_neurons.agent.settings import load_settings
from line_neurons.tui.cli import options as opt
from line_neurons.tui.cli.eval import options as shared

app = typer.Typer()

_SETTINGS = (
    "generator", "threshold", *opt.PIPELINE, *opt.LANGUAGE_MODEL, "weights", "pool", "layout", "precision",
    *opt.MACHINE, *opt.FILES,
)  # fmt: skip


@opt.command(
    app,
    "maia",
    _SETTINGS,
    defaults="the run's, else as for line explain",
    examples=(
        "line eval maia resnet50-layer4-1 -o maia",
        "line eval maia results/claude/resnet152/layer4 --generator flux-schnell --llm ollama:llama3.1:8b",
    ),
)
def maia(
    labels: Annotated[str, typer.Argument(help="A run, imported labels, a file, or a folder of MAIA's results.")],
    *,
    prompts: Annotated[int, typer.Option("--prompts", min=2, max=50, help="Prompts of each kind.")] = 7,
    units: shared.Units = None,
    model: shared.Model = None,
    layer: shared.Layer = None,
    seed: shared.Seed = 0,
    units_from: opt.UnitsFrom = None,
    facets: opt.Facets = "first",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FOLDER", help="Write tables, and MAIA's eval_results.json, here."),
    ] = None,
    config: opt.Config = None,
    json: opt.Json = False,
    trust: opt.Trust = False,
    **flags: Any,
) -> None:
    """Evaluate labels as MAIA does: images of prompts that should excite a unit, and of others."""
    from line_neurons.eval.cosy.protocol import select_labels
    from line_neurons.eval.cosy.runner import open_layer
    from line_neurons.eval.maia import check_images, evaluate_prompts, prompts_report, write_results
    from line_neurons.tools.store.locks import shared_lock
    from line_neurons.tools.targets.unit_selectors import check_selectors
    from line_neurons.tui.cli import output as terminal
    from line_neurons.tui.cli.eval.reports import print_report
    from line_neurons.tui.cli.eval.session import interruptible
    from line_neurons.tui.cli.progress import ProgressReporter
    from line_neurons.tui.formatting import counted

    check_selectors(units or ())
    with ProgressReporter() as reporter, interruptible() as drain:
        evaluated = open_layer(
            [labels], load_settings(config, **flags), flags, model=model, layer=layer, units_from=units_from,
            facets=opt.wants_facets(facets), on_progress=reporter.report_preparation, trust=trust,
        )  # fmt: skip
        (labelled,) = evaluated.labels
        chosen = select_labels(labelled, evaluated.select_units(units, seed), "fixed")
        with shared_lock(evaluated.components.store):
            found = evaluate_prompts(
                evaluated, labelled, chosen, count=prompts, seed=seed,
                on_progress=evaluated.components.reporter(drain),
            )  # fmt: skip
    check_images(found)
    print_report(prompts_report(found, labelled), output, as_json=json)
    if output is not None:
        written = write_results(found, output, evaluated)
        terminal.note(f"Wrote {counted(len(written), 'file')} eval_results.json below {output}.")
