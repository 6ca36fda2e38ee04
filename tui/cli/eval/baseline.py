"""Work of ``line eval baseline``: label units with another method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from line_neurons.agent.errors import UsageError
from line_neurons.agent.settings import Settings, revised
from line_neurons.eval.baselines.registry import (
    check_options,
    default_path,
    label_units,
    label_vocabulary,
    write_labels,
)
from line_neurons.eval.baselines.task import BaselineTask
from line_neurons.eval.exchange.output_files import output_file, refuse_unwritable
from line_neurons.eval.labels.labels import Labels
from line_neurons.graphs.runs.code_trust import record_trust, require_trust
from line_neurons.graphs.runs.components import Components
from line_neurons.graphs.runs.unit_selection import select_units
from line_neurons.tools.language_models.arguments import langchain_here, servers_of
from line_neurons.tools.store.runs import default_store, open_store
from line_neurons.tools.target_specs import short_spec
from line_neurons.tui.cli import output as terminal
from line_neurons.tui.cli.eval.session import interruptible
from line_neurons.tui.cli.progress import ProgressReporter

SHARE = 1.0
"""Share of the image bank's captions that baselines choose from; a search may find all of them."""


@dataclass(frozen=True)
class BaselineOptions:
    """Units to label, and words to choose from.

    Args:
        model: the target's spec, with a layer; None: those of ``run``.
        units: unit selectors; None: all units of the run.
        run: a recorded run that gives model, layer, units, seed and settings.
        share: share of the image bank's captions; None: all, and for method initial as in the run or settings.
        allow_excluded: labels may be concepts that the run excluded.
        trust: allow custom code from someone else's run.
    """

    model: str | None
    layer: str | None
    units: Sequence[str] | None
    run: str | None
    share: float | None
    allow_excluded: bool
    trust: bool


def baseline(
    method: str,
    options: BaselineOptions,
    settings: Settings,
    flags: Mapping[str, Any],
    method_options: Mapping[str, Any],
    *,
    output: Path | None,
    as_json: bool,
) -> None:
    """Label units with another method, write the labels in its file format, and print them.

    Flags override the settings of a recorded run. Without ``output`` the labels are kept in the store.

    Raises:
        LineError: an option is invalid, or a component is missing or failed.
        Exit: with status 130 if it was interrupted.
    """
    if output is not None:
        refuse_unwritable(output)
    given = check_options(method, method_options)
    with ProgressReporter() as reporter, interruptible() as drain:
        task = BaselineTask(*_task(method, options, settings, flags, reporter), drain=drain)
        labels = label_units(method, task, **given)
    components = task.components
    for what, lines in components.remarks().items():
        terminal.remarks(what, lines)
    default = default_path(components.store, labels)
    path = output_file(output, default.name) if output else default
    write_labels(labels, path, label_vocabulary(method, task, labels))
    for note in components.image_notes():
        terminal.note(note)
    if as_json:
        # A baseline gives a unit one label.
        labelled = [{"unit": one.unit, "concept": one.concept, "score": one.score} for one in labels.labels]
        rest = {name: value for name, value in asdict(labels).items() if name != "further"}
        terminal.dump({**rest, "labels": labelled, "file": str(path)})
        return
    names = components.target.unit_names(labels.layer)
    terminal.table(
        ["unit", "name", "label", "score"],
        [
            [label.unit, names[label.unit] if names else None, label.concept, label.score]
            for label in labels.labels
        ],
        _title(labels),
    )
    for unit, why in labels.unlabelled:
        terminal.note(f"unit {unit} has no label: {why}")
    if labels.tied:
        units = ", ".join(map(str, labels.tied))
        terminal.note(f"units where another label has the same score, and the first one was chosen: {units}")
    terminal.line(f"Written: {path}")


def _title(found: Labels) -> str:
    of_run = f", units of run {found.source}" if found.source != found.method else ""
    return f"{short_spec(found.model)} {found.layer}, {found.method}{of_run}"


def _task(
    method: str, options: BaselineOptions, settings: Settings, flags: Mapping[str, Any], reporter: ProgressReporter
) -> tuple[Components, str, tuple[int, ...], Mapping[int, Sequence[str]], str]:
    """The arguments of the task."""
    # The initial label of a run is that of its own share.
    share = options.share or (None if method == "initial" else SHARE)
    shared = {"vocabulary_share": share} if share else {}
    if options.run is None:
        if not options.model or not options.layer or not options.units:
            raise UsageError("no units are named", "give MODEL, LAYER and --units, or --run RUN")
        update = {**shared, "llm_parallel": _at_once(settings, settings)}
        components = Components(options.model, settings.model_copy(update=update), reporter.report_preparation)
        units, _ = select_units(components, options.layer, options.units)
        return components, options.layer, tuple(units), settings.exclude_for, ""
    if options.model:
        raise UsageError(f"both the run {options.run} and the model {options.model} are named", "give one of them")
    store = settings.store or default_store()
    opened = open_store(store, read_only=not options.trust)
    run = opened.run(options.run)
    if options.trust:
        record_trust(opened, run)
    require_trust(opened, run, flags)
    units = [unit.unit for unit in opened.units(run.id)]
    opened.close()
    here = {"store": store, "assets": settings.assets, **servers_of(settings)}
    langchain = langchain_here(run.settings, settings)
    changes = {**here, "langchain": langchain, **shared, **flags}
    if options.allow_excluded:
        changes = {"exclude": (), **changes, "exclude_for": {}}
    revision = revised(run.settings, changes)
    revision = revision.model_copy(update={"llm_parallel": _at_once(revision, settings)})
    components = Components(run.model, revision, reporter.report_preparation, {run.layer})
    if options.units:
        chosen, _ = select_units(components, run.layer, options.units)
        units = [unit for unit in chosen if unit in set(units)]
        if not units:
            raise UsageError(f"run {run.id} has none of these units", f"see `line show {run.id}`")
    return components, run.layer, tuple(units), revision.exclude_for, run.id


def _at_once(settings: Settings, here: Settings) -> int:
    """Return the number of concurrent requests: as in a batch, unless the user's settings name one."""
    from line_neurons.tools.language_models.registry import default_parallel

    return here.llm_parallel if "llm_parallel" in here.model_fields_set else default_parallel(settings)
