"""Commands that look at a store or a model: ``line runs``, ``show``, ``layers`` and ``tui``."""

from __future__ import annotations

import logging
import sys
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from line_neurons.agent.errors import UsageError
from line_neurons.agent.settings import load_settings
from line_neurons.agent.settings_sources import flag_of
from line_neurons.agent.text import shell_word
from line_neurons.eval.exchange.output_files import output_path
from line_neurons.tools.run_problems import listed_run_problems, run_problems
from line_neurons.tools.store.best_so_far import with_best_so_far
from line_neurons.tools.store.leases import lease_status
from line_neurons.tools.store.queries import lasting_failure
from line_neurons.tools.store.refused_replies import Refusals, refusals_by_run
from line_neurons.tools.store.runs import has_runs, open_store
from line_neurons.tools.store.steering_queue import units_with_pending
from line_neurons.tools.targets.custom import in_memory
from line_neurons.tui.cli import options as opt
from line_neurons.tui.cli import output as terminal
from line_neurons.tui.cli.printing.maps import show_maps
from line_neurons.tui.cli.printing.run import (
    holder_json,
    holder_text,
    labels,
    outcome_json,
    print_workers,
    remarks,
    run_json,
    store_flag,
    unit_counts,
    workers_of,
)
from line_neurons.tui.cli.printing.strongest import show_strongest
from line_neurons.tui.cli.printing.unit import show_prompt, show_unit
from line_neurons.tui.cli.shell import completion
from line_neurons.tui.formatting import is_unfinished, is_worked_on, state_of, when, workers_text

if TYPE_CHECKING:
    from line_neurons.tools.targets.layer_list import LayerList

app = typer.Typer()

_NAMED_IF_SET = (
    "random_pool", "patience", "max_iterations", "restarts", "facets", "until", "candidates", "proposals",
    "generate",
)  # fmt: skip
_LEFT_OUT = 5
"""Most layers left out whose reason is printed."""


@opt.command(app, "runs", ("store",), examples=("line runs", "line runs --store runs --json"))
def runs(*, json: opt.Json = False, **flags: Any) -> None:
    """List the runs of a store, newest first."""
    store = opt.store_of(**flags)
    if not has_runs(store):
        if json:
            terminal.dump([])
        else:
            terminal.line(f"There are no runs in {store} yet; start one with `line demo` or `line explain`.")
        return
    opened = open_store(store)
    leases = lease_status(opened)
    refused = refusals_by_run(opened)
    listed = [
        (run, opened.states(run.id), listed_run_problems(opened, run, refused.get(run.id, Refusals())))
        for run in opened.runs()
    ]
    if json:
        terminal.dump(
            [
                asdict(run)
                | {
                    "status": state_of(run, leases.get(run.id)),
                    "holder": holder_json(leases.get(run.id), workers_of(opened, run.id, leases.get(run.id))),
                    "units_finished": states.get("finished", 0),
                    "units_failed": states.get("failed", 0),
                    "units": sum(states.values()),
                    **outcome_json(problems),
                }
                for run, states, problems in listed
            ]
        )
        return
    columns: dict[str, list[object]] = {
        "run": [run.id for run, *_ in listed],
        "model": [run.target_name for run, *_ in listed],
        "layer": [run.layer for run, *_ in listed],
        "units": [unit_counts(states) for _, states, _ in listed],
        "state": [state_of(run, leases.get(run.id)) for run, *_ in listed],
        "started": [when(run.created) for run, *_ in listed],
        "language model": [run.settings.get("llm") for run, *_ in listed],
    }
    if any(problems.short() for *_, problems in listed):
        columns["marked"] = [problems.short() for *_, problems in listed]
    if leases:
        columns["holder"] = [holder_text(leases.get(run.id)) for run, *_ in listed]
        working = [workers_text(workers_of(opened, run.id, leases.get(run.id))) for run, *_ in listed]
        if any(working):
            columns["workers"] = list(working)
    terminal.table(
        list(columns),
        list(zip(*columns.values(), strict=True)),
        drop=("language model", "holder", "workers", "started"),
        whole=("units", "state", "started"),
    )


@opt.command(
    app,
    "show",
    opt.FILES,
    examples=(
        "line show resnet50-layer4-1 castle --step 3 --prompt",
        "line show resnet50-layer4-1 castle --maps castle.png",
        "line show resnet50-layer4-1 --provenance --json",
    ),
)
def show(
    run: opt.RunName,
    unit: Annotated[
        str | None, typer.Argument(metavar="UNIT", help="Unit of the run: its number or class name.")
    ] = None,
    step: Annotated[
        str | None,
        typer.Option(help="Show only images of this step: a number, S for summaries, or R for a revisit."),
    ] = None,
    sheet: Annotated[Path | None, typer.Option(help="Contact sheet to write (PNG).")] = None,
    maps: Annotated[
        Path | None,
        typer.Option(
            parser=output_path,
            metavar="FILE|FOLDER/",
            help="Write where the unit responds, in the label's and the strongest control images: a sheet (PNG), "
            "or to a folder a file each; needs the target.",
        ),
    ] = None,
    occlusion: Annotated[
        bool, typer.Option("--occlusion", help="Of --maps: measure with parts blurred, whatever the layer is.")
    ] = False,
    gradients: Annotated[
        bool, typer.Option("--gradients", help="Of --maps: Grad-CAM, by gradients; nothing else computes any.")
    ] = False,
    best: Annotated[
        int | None,
        typer.Option(min=1, help="Show this many images with the highest activations, of all that were measured."),
    ] = None,
    prompt: Annotated[
        bool, typer.Option("--prompt", help="Print the step's requests to the language model, word for word.")
    ] = False,
    edits: Annotated[
        bool, typer.Option("--edits", help="Show only the edits of the unit's images; see `line eval edits`.")
    ] = False,
    provenance: Annotated[
        bool,
        typer.Option("--provenance", help="Print what decided the labels: versions, hashes, machine, seeds."),
    ] = False,
    *,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Show a run's labels or, for one unit, its scoreboard, history, reasoning and images."""
    store = opt.store_of(**flags)
    _require_maps(maps, occlusion=occlusion, gradients=gradients)
    if provenance:
        from line_neurons.tui.cli.printing.provenance import show_provenance

        if unit is not None or step or sheet or prompt or maps or best or edits:
            raise UsageError(
                "--provenance is for a whole run, and only --json goes with it", "line show RUN --provenance"
            )
        show_provenance(store, run, as_json=json)
    elif unit is None:
        if step or sheet or prompt or maps or best or edits:
            raise UsageError(
                "--step, --sheet, --maps, --best, --prompt and --edits need a unit", "line show RUN UNIT --step 3"
            )
        show_run(store, run, as_json=json)
    elif edits:
        from line_neurons.tui.cli.printing.edits import show_edits

        show_edits(store, run, unit, alone=not (step or sheet or prompt or maps or best), as_json=json)
    elif best:
        if step or maps or prompt:
            raise UsageError("--best goes with no --step, --maps or --prompt", "leave them out")
        show_strongest(store, run, unit, best, sheet, as_json=json)
    elif maps:
        if step or sheet or prompt:
            raise UsageError("--maps goes with no --step, --sheet or --prompt", "leave them out")
        show_maps(
            store, run, unit, maps, load_settings(**flags).assets, occlusion=occlusion, gradients=gradients,
            as_json=json,
        )  # fmt: skip
    elif prompt:
        if not (step and step.isascii() and step.isdigit()):
            raise UsageError("--prompt needs the number of a step", "line show RUN UNIT --step 3 --prompt")
        show_prompt(store, run, unit, int(step), as_json=json)
    else:
        show_unit(store, run, unit, step, sheet, as_json=json)


def show_run(store: Path, name: str, *, as_json: bool) -> None:
    """Print a run: its labels, problems, settings and components."""
    opened = open_store(store)
    run = opened.run(name)
    units = with_best_so_far(opened, run.id, opened.units(run.id))
    lease = lease_status(opened).get(run.id)
    working = workers_of(opened, run.id, lease)
    if not is_worked_on(lease):
        units = [replace(unit, status="interrupted") if unit.status == "running" else unit for unit in units]
    if as_json:
        terminal.dump(run_json(store, opened, run, units) | {"holder": holder_json(lease, working)})
        return
    problems = run_problems(store, opened, run)
    labels(store, run, units, in_doubt=bool(problems.doubts))
    remarks(problems)
    error = f", {run.error}" if run.error else ""
    terminal.line(f"run {run.id}: {state_of(run, lease)}, {unit_counts(opened.states(run.id))} units{error}")
    if lease:
        current = f", units {', '.join(map(str, lease.units))}" if lease.units else ""
        stop = f"; stop requested by {lease.holder.stop}" if lease.holder.stop else ""
        terminal.line(f"holder: {lease.holder}{' (gone)' if lease.stale else ''}{current}{stop}")
    print_workers(working)
    settings = run.settings
    more = "".join(
        f", {setting.replace('_', ' ')} {settings[setting]}"
        for setting in _NAMED_IF_SET
        if settings.get(setting) and not (setting in {"proposals", "generate"} and settings[setting] == 1)
    )
    terminal.line(
        f"N = {settings.get('iterations')}{' + summary' if settings.get('summary') else ''}, "
        f"n = {settings.get('images')}, scorer {settings.get('scorer')}, seed {run.seed}, "
        f"language model {settings.get('llm')}, generator {settings.get('generator')}, "
        f"initial scoreboard from {settings.get('init', 'control')}, control {settings.get('control')}, "
        f"hints {settings.get('hints')}{more}"
    )
    for component, fingerprint in run.fingerprints.items():
        terminal.line(f"  {component.replace('_', ' ')}: {fingerprint}", style="dim")
    if run.forked_from:
        terminal.line(f"forked from unit {run.forked_unit} of {run.forked_from} after step {run.forked_step}")
    pending = units_with_pending(opened, run.id)
    if pending:
        terminal.line(f"pending steering commands: units {', '.join(map(str, sorted(pending)))}")
    states = {unit.status for unit in units}
    unfinished = is_unfinished(run, states, pending)
    if in_memory(run.model):
        if unfinished or "failed" in states:
            terminal.line(f"its model was in memory; continue in Python: explain(model, resume={run.id!r})")
        return
    if unfinished and (reason := lasting_failure(opened, run.id)) is not None and not is_worked_on(lease):
        terminal.line(f"a resume would fail as before: {reason}")
        terminal.line(f"once that is repaired: line resume {run.id}{store_flag(store)}")
    elif unfinished:
        terminal.line(f"resume with: line resume {run.id}{store_flag(store)}")
    if "failed" in states:
        terminal.line(f"retry the failed units with: line retry {run.id}{store_flag(store)}")


@opt.command(
    app,
    "layers",
    ("weights", "layout", "tokens", *opt.LATENTS, "download", "assets"),
    examples=(
        "line layers torchvision:resnet50 --depth 1",
        "line layers torchvision:mobilenet_v2 --sae topk.safetensors",
        "line layers model.py:build --weights trained.pth --json",
    ),
)
def layers(
    model: opt.Model,
    depth: Annotated[
        int | None, typer.Option(min=1, help="List only layers with at most this many names in their path.")
    ] = None,
    grep: Annotated[
        str, typer.Option(metavar="PATTERN", help="List only layers with this in their path or kind.")
    ] = "",
    *,
    config: opt.Config = None,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """List the layers of a model: dotted path, kind, output shape and number of units.

    Weights that are not here are not needed: the layers are then those of the architecture.
    """
    from line_neurons.graphs.api.layers import layer_list
    from line_neurons.graphs.runs.components import Components

    # A user's own model may print.
    with redirect_stdout(sys.stderr):
        found = layer_list(Components(model, load_settings(config, **flags)))
    completion.remember_layers(model, [info.path for info in found.layers])
    listed = found.matching(depth, grep)
    if json:
        terminal.dump(listed)
        return
    if not found.layers:
        terminal.line(f"{model} has no layer with units in its output.")
        return
    if not listed:
        raise UsageError(
            f"none of the {len(found.layers):,} layers of {model} is listed with --depth and --grep as given",
            f"the last one is {found.layers[-1].path}",
        )
    terminal.table(
        ["layer", "kind", "output", "units"],
        [[info.path, info.kind, " x ".join(map(str, info.shape)), info.units] for info in listed],
    )
    if len(listed) < len(found.layers):
        terminal.line(f"{len(listed):,} of {len(found.layers):,} layers")
    for error in list(found.refused.values())[:_LEFT_OUT]:
        terminal.line(f"left out: {error}")
    if (more := len(found.refused) - _LEFT_OUT) > 0:
        terminal.line(
            f"left out for similar reasons: {more} more; naming one as the layer of a run shows its reason"
        )
    _usual_layers(model, found, flags)


def _usual_layers(model: str, found: LayerList, flags: dict[str, Any]) -> None:
    """Print which layers one usually explains, and the command for the first of them."""
    units = {info.path: info.units for info in found.layers}
    usual = {
        path: f"{path} ({what}, {units[path]:,} units)"
        for path, what in ((found.last_hidden, "the last before the output"), (found.output, "the output"))
        if path is not None
    }
    if usual:
        terminal.line(f"usual choices: {', '.join(usual.values())}")
    if found.missing is not None:
        terminal.line(f"listed without weights: {found.missing}")
    if usual:
        named = [name for name in ("weights", "sae", "directions", "assets") if flags.get(name)]
        given = "".join(f" {flag_of(name)} {shell_word(str(flags[name]))}" for name in named)
        if found.missing is not None:
            given += next(
                (f" {way}" for way in ("--download", "--weights FILE") if way in found.missing.remedy), ""
            )
        layer, last = next(iter(usual)), units[next(iter(usual))] - 1
        terminal.line(f"explain one with: line explain {shell_word(model)} {layer} 0-{min(4, last)}{given}")


@opt.command(app, "tui", ("store",), examples=("line tui", "line tui resnet50-layer4-1 --store runs"))
def tui(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN",
            help="Run to open: its name, or the beginning of it.",
            autocompletion=completion.RUNS,
        ),
    ] = None,
    **flags: Any,
) -> None:
    """Watch, steer and resume runs in a terminal app.

    Leaving the app does not stop any run.
    """
    # Importing the app queries the terminal's cell size; a slow terminal gets the default, without a warning.
    logging.getLogger("textual_image").setLevel(logging.ERROR)
    from line_neurons.tui.app.app import open_app

    open_app(opt.store_of(**flags), run)


def _require_maps(maps: Path | None, **methods: bool) -> None:
    for name, is_asked in methods.items():
        if is_asked and maps is None:
            raise UsageError(f"--{name} is for --maps", f"line show RUN UNIT --maps unit.png --{name}")
