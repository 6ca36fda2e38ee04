"""Work of ``line eval visual``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from line_neurons.agent.errors import UsageError
from line_neurons.agent.settings import Settings
from line_neurons.eval.cosy.runner import EvaluatedLayer, open_layer
from line_neurons.eval.edits.subjects import RankedImages
from line_neurons.eval.edits.verifiers import NONE, SECOND_NETWORK, Verifier, open_verifier, usual_verifier
from line_neurons.eval.visual.report import visual_report
from line_neurons.eval.visual.runner import VisualTask, evaluate_sets
from line_neurons.eval.visual.second import SAMPLE, SecondNetwork, open_second
from line_neurons.eval.visual.sets import ImageSets, Maximiser, open_folders
from line_neurons.graphs.runs.components import Components
from line_neurons.tools.control_sets import PrecomputedControl, remarks_of
from line_neurons.tools.store.records import Run, Unit
from line_neurons.tools.store.results.visual import VisualResults
from line_neurons.tools.targets.hooked_target import HookedTarget
from line_neurons.tools.targets.unit_selectors import check_selectors
from line_neurons.tools.vocabulary import imagenet_classes
from line_neurons.tui.cli import output as terminal
from line_neurons.tui.cli.eval.reports import print_report
from line_neurons.tui.cli.eval.session import interruptible, opened_results
from line_neurons.tui.cli.progress import ProgressReporter
from line_neurons.tui.formatting import counted

_SIDE = 256
"""Of the canvas where the target does not say which size it takes."""


@dataclass(frozen=True)
class VisualOptions:
    """Options of ``line eval visual``; its help describes them."""

    units: Sequence[str] = ()
    am: str | None = None
    gradients: bool = False
    steps: int = 128
    others: Sequence[str] = ()
    images: int = 5
    second: str | None = None
    verify: str | None = None
    encoder: str | None = None
    seed: int = 0


def visual(
    name: str,
    settings: Settings,
    changes: Mapping[str, Any],
    options: VisualOptions,
    *,
    output: Path | None,
    as_json: bool,
    trust: bool,
) -> None:
    """Make and measure sets of images of units, and print the tables.

    Raises:
        LineError: an option is invalid, or a component failed.
        Exit: with status 130 if it was interrupted; the same command continues.
    """
    if options.am and not options.gradients:
        raise UsageError(
            f"--am {options.am} differentiates the target", "add --gradients to allow it, or leave --am out"
        )
    if options.gradients and not options.am:
        raise UsageError("--gradients allows what --am does, and there is no --am", "add --am fourier")
    folders = open_folders(options.others)
    check_selectors(options.units)
    with ProgressReporter() as reporter, interruptible() as drain, ExitStack() as stack:
        evaluated = open_layer([name], settings, changes, on_progress=reporter.report_preparation, trust=trust)
        components = evaluated.components
        run, units = _units(evaluated, options)
        for folder in folders.values():
            folder.check([(unit.unit, unit.name or "") for unit in units])
        control = components.control(evaluated.layer, drain)
        ranked, unranked = _ranked(components, evaluated.layer)
        sample = tuple(ranked.sample(SAMPLE, options.seed)[0]) if ranked else ()
        second = _second(components, sample, options.second)
        maximiser, side = _canvas(stack, components, evaluated.layer, options)
        verifier = _verifier(components, options)
        encoder = None
        if options.encoder:
            from line_neurons.eval.baselines.image_text import EncoderTarget, open_encoder

            if not sample:
                raise UsageError(f"--encoder compares with control images, and {unranked}", "name a --control")
            encoder = EncoderTarget(
                open_encoder(
                    options.encoder, device=components.settings.device, download=components.settings.download
                )
            )
        indices = tuple(unit.unit for unit in units)
        sets = ImageSets(
            components, run, indices, side, options.images, options.seed, ranked, unranked, maximiser, folders
        )
        task = VisualTask(sets, control, sample, second, verifier, encoder)
        with opened_results(components.store) as opened:
            result = evaluate_sets(task, units, VisualResults(opened), components.reporter(drain))
    terminal.remarks(f"control set {components.settings.control}", remarks_of(components.control_set))
    print_report(visual_report(result, components.store), output, as_json=as_json)


def _units(evaluated: EvaluatedLayer, options: VisualOptions) -> tuple[Run, list[Unit]]:
    """Return the run, and its units with a label that are selected.

    Raises:
        UsageError: it is no run, or none of them has a label.
    """
    runs, source = evaluated.components.runs, evaluated.labels[0].source
    if source not in runs.names():
        raise UsageError(
            f"{source!r:.200} is no run, and only a run has images of its search", "`line runs` lists them"
        )
    run = runs.run(source)
    selected = evaluated.select_units(options.units, options.seed)
    units = [unit for unit in runs.units(run.id) if selected is None or unit.unit in selected]
    labelled = [unit for unit in units if unit.label is not None and unit.images]
    if not labelled:
        raise UsageError(f"none of these units of {run.id} has a label with images", f"line resume {run.id}")
    if left := len(selected or units) - len(labelled):
        terminal.note(f"{counted(left, 'unit')} without a label left out")
    return run, labelled


def _ranked(components: Components, layer: str) -> tuple[RankedImages | None, str]:
    """Return the images of the control set, or why there are none."""
    control, name = components.control_set, components.settings.control
    if control is None:
        return None, "there is no control set"
    if isinstance(control, PrecomputedControl):
        return None, f"the control set {name} has activations, no images"
    return RankedImages(components, layer, control, str(name)), ""


def _second(components: Components, sample: Sequence[bytes], spec: str | None) -> SecondNetwork | None:
    if spec == NONE:
        return None
    if spec is None:
        if not (components.assets / "resnet50").is_dir() or components.model.startswith("keras:"):
            terminal.note("No second network: name one with --second, or `line assets install resnet50`.")
            return None
        spec = SECOND_NETWORK
    return open_second(spec, components, sample)


def _verifier(components: Components, options: VisualOptions) -> Verifier | None:
    spec = usual_verifier(components) if options.verify is None else options.verify
    return None if spec is None else open_verifier(spec, components, imagenet_classes, options.seed)


def _canvas(
    stack: ExitStack, components: Components, layer: str, options: VisualOptions
) -> tuple[Maximiser | None, int]:
    """Return what finds images by gradients, and the side of the canvas.

    Without ``--am`` nothing is made differentiable.
    """
    from line_neurons.tools.targets.canvas import find_canvas, input_side

    target = components.target
    if not options.am:
        if not isinstance(target, HookedTarget):
            return None, _SIDE
        try:
            return None, find_canvas(target).side
        except UsageError:
            return None, input_side(target)
    from line_neurons.tools.targets.gradients.differentiable import differentiable

    differentiated = stack.enter_context(differentiable(target, layer))
    canvas = find_canvas(cast("HookedTarget", target))
    return Maximiser(components, differentiated, canvas, options.steps), canvas.side
