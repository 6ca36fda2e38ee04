"""What ``line runs``, ``show``, ``layers`` and ``doctor`` print."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from line_neurons.agent.errors import StoreError, UsageError
from line_neurons.agent.settings import Settings
from line_neurons.agent.text import format_score, shell_word
from line_neurons.tools.label_marks import DONE, UNLABELLED, codes
from line_neurons.tools.store.columns import OUTCOMES
from line_neurons.tools.store.leases import LeaseStatus, lease_status
from line_neurons.tools.store.records import Run, Step, Unit
from line_neurons.tools.store.refused_replies import Refusals, refusals, refusals_by_run, summary
from line_neurons.tools.store.run_problems import RunProblems, listed_run_problems, run_problems
from line_neurons.tools.store.runs import RunStore, default_store, find_unit, has_runs, open_store
from line_neurons.tools.store.steering_queue import commands, units_with_pending
from line_neurons.tools.targets.custom_module import in_memory
from line_neurons.tui.cli import output as terminal
from line_neurons.tui.formatting import (
    drawn_from,
    found_by,
    is_unfinished,
    is_worked_on,
    origin,
    state_of,
    step_name,
)

if TYPE_CHECKING:
    from line_neurons.graphs.runs.revisit import Revisited
    from line_neurons.tools.cache.activation_cache import Cache

_ROWS = 200
"""On a terminal a table of units has at most so many rows."""

_MISSING = 10
_LEFT_OUT = 5
"""So many images that cannot be shown are named."""


def runs(store: Path, *, as_json: bool) -> None:
    """Print the runs of a store."""
    if not has_runs(store):
        if as_json:
            terminal.dump([])
        else:
            terminal.line(f"There are no runs in {store} yet; start one with `line demo` or `line explain`.")
        return
    opened = open_store(store)
    held = lease_status(opened)
    refused = refusals_by_run(opened)
    found = [
        (run, opened.states(run.id), listed_run_problems(opened, run, refused.get(run.id, Refusals())))
        for run in opened.runs()
    ]
    noted = any(came.short() for *_, came in found)
    if as_json:
        terminal.dump(
            [
                asdict(run)
                | {
                    "status": state_of(run, held.get(run.id)),
                    "holder": _holder_json(held.get(run.id)),
                    "units_finished": states.get("finished", 0),
                    "units_failed": states.get("failed", 0),
                    "units": sum(states.values()),
                    **_condition_json(came),
                }
                for run, states, came in found
            ]
        )
        return
    terminal.table(
        [
            "run",
            "model",
            "layer",
            "units",
            "state",
            "started",
            "language model",
            *(["marked"] if noted else []),
            *(["worked on by"] if held else []),
        ],
        [
            [
                run.id,
                run.target_name,
                run.layer,
                _counts(states),
                state_of(run, held.get(run.id)),
                terminal.when(run.created),
                run.settings.get("llm"),
                *([came.short()] if noted else []),
                *([_holder(held.get(run.id))] if held else []),
            ]
            for run, states, came in found
        ],
    )


def _condition_json(came: RunProblems) -> dict[str, Any]:
    """How a run came out, for machines."""
    return {
        "units_unlabelled": came.unlabelled,
        "labels_marked": came.marked,
        "answers": came.refusals.answers,
        "answers_refused": came.refusals.reasons,
        "steps_stalled": came.refusals.stalled,
    }


def run(store: Path, name: str, *, as_json: bool) -> None:
    """Print a run: its labels and what they were found with."""
    opened = open_store(store)
    shown = opened.run(name)
    units = opened.units(shown.id)
    held = lease_status(opened).get(shown.id)
    state = state_of(shown, held)
    if not is_worked_on(held):
        units = [replace(unit, status="interrupted") if unit.status == "running" else unit for unit in units]
    if as_json:
        terminal.dump(run_json(store, opened, shown, units) | {"holder": _holder_json(held)})
        return
    labels(shown, units)
    remarks(run_problems(store, opened, shown))
    terminal.line(
        f"run {shown.id}: {state}, {_counts(opened.states(shown.id))} units"
        + (f", {shown.error}" if shown.error else "")
    )
    if held:
        in_hand = f", units {', '.join(map(str, held.units))}" if held.units else ""
        asked = f"; asked to stop by {held.holder.stop}" if held.holder.stop else ""
        gone = " (gone)" if held.stale else ""
        terminal.line(f"worked on by {held.holder}{gone}{in_hand}{asked}")
    settings = shown.settings
    more = "".join(
        f", {name.replace('_', ' ')} {settings[name]}"
        for name in ("random_pool", "patience", "max_iterations", "restarts")
        if settings.get(name)
    )
    terminal.line(
        f"N = {settings.get('iterations')}{' + summary' if settings.get('summary') else ''}, "
        f"n = {settings.get('images')}, scorer {settings.get('scorer')}, seed {shown.seed}, "
        f"language model {settings.get('llm')}, generator {settings.get('generator')}, "
        f"first board from {settings.get('init', 'control')}, control {settings.get('control')}, "
        f"hints {settings.get('hints')}{more}"
    )
    for part, fingerprint in shown.fingerprints.items():
        terminal.line(f"  {part.replace('_', ' ')}: {fingerprint}", style="dim")
    place = "" if store == default_store() else f" --store {shell_word(str(store))}"
    states = {unit.status for unit in units}
    if shown.forked_from:
        terminal.line(
            f"forked from unit {shown.forked_unit} of {shown.forked_from} after step {shown.forked_step}"
        )
    waiting = units_with_pending(opened, shown.id)
    if waiting:
        terminal.line(f"asked for and not taken yet: units {', '.join(map(str, sorted(waiting)))}")
    unfinished = is_unfinished(shown, states, waiting)
    if in_memory(shown.model):
        if unfinished or "failed" in states:
            terminal.line(f"its model lived in memory; go on in Python: explain(model, resume={shown.id!r})")
        return
    if unfinished:
        terminal.line(f"resume with: line resume {shown.id}{place}")
    if "failed" in states:
        terminal.line(f"take the failed units again with: line retry {shown.id}{place}")


def labels(shown: Run, units: Sequence[Unit]) -> None:
    """Print the units of a run with their labels; on a terminal only the first of a whole layer."""
    done = all(unit.status in DONE for unit in units)
    marked = any(unit.marks for unit in units)
    first = units[:_ROWS] if terminal.out.is_terminal else units
    failed = [unit for unit in units[len(first) :] if unit.status == "failed"][:_ROWS]
    terminal.table(
        [
            "unit",
            "name",
            "label",
            "score",
            "margin",
            "origin",
            "steps",
            *(["marked"] if marked else []),
            *([] if done else ["state"]),
        ],
        [
            [
                str(unit.unit),
                unit.name,
                unit.label,
                unit.score,
                unit.margin,
                origin(unit),
                _steps(shown, unit),
                *([codes(unit.marks)] if marked else []),
                *([] if done else [unit.status + (f": {unit.error}" if unit.error else "")]),
            ]
            for unit in [*first, *failed]
        ],
        f"{shown.target_name} {shown.layer}",
    )
    if hidden := len(units) - len(first):
        named = f", of which the failed are shown ({len(failed)})" if failed else ""
        terminal.line(f"and {terminal.counted(hidden, 'unit')} more{named}; all of them: line results {shown.id}")


def remarks(came: RunProblems) -> None:
    """Say what is wrong with a run, a line each."""
    for remark in came.remarks():
        terminal.line(remark, style="bold")


def revisited(found: Sequence[Revisited], *, as_json: bool) -> None:
    """Print what a revisit changed: the units whose label another unit found."""
    if as_json:
        terminal.dump(found)
        return
    better = [one for one in found if one.found_by is not None]
    if better:
        terminal.table(
            ["run", "unit", "name", "its own search found", "label", "gain", "origin"],
            [
                [
                    one.run,
                    str(one.unit),
                    one.name,
                    one.search_label,
                    one.label,
                    _gain(one),
                    found_by(one),
                ]
                for one in better
            ],
        )
    terminal.line(
        f"{len(better)} of {terminal.counted(len(found), 'unit')} have a better label than their search found."
    )


def _gain(one: Revisited) -> float | None:
    return None if one.score is None or one.search_score is None else one.score - one.search_score


def _steps(shown: Run, unit: Unit) -> str:
    """Iterations and summaries of a unit; runs of earlier versions took as many as their settings say."""
    if unit.steps is None and unit.status == "finished":
        return str(shown.settings.get("iterations", 0) + bool(shown.settings.get("summary")))
    return terminal.plain(unit.steps)


def _counts(states: Mapping[str, int]) -> str:
    failed = f" ({states['failed']} failed)" if states.get("failed") else ""
    return f"{sum(states.get(state, 0) for state in DONE)}/{sum(states.values())}{failed}"


def run_json(store: Path, opened: RunStore, shown: Run, units: Sequence[Unit]) -> dict[str, Any]:
    """A run with its units and how it came out, as it is printed for machines."""
    came = run_problems(store, opened, shown)
    control = dict(zip(("control_images", "control_images_unread"), came.control, strict=True))
    return (
        asdict(shown)
        | {"units": [unit_json(unit) for unit in units]}
        | _condition_json(came)
        | (control if came.control[1] else {})
        | {"remarks": came.remarks()}
    )


def unit_json(unit: Unit) -> dict[str, Any]:
    """A unit as it is printed for machines."""
    return asdict(unit) | {"margin": unit.margin, "marks": [mark._asdict() for mark in unit.marks]}


def unit(store: Path, name: str, which: str, step: str | None, sheet: Path | None, *, as_json: bool) -> None:
    """Print a unit's board and history, and write the contact sheet of its images.

    Images that have gone or are damaged are left out, and named.
    """
    from line_neurons.tools.cache.activation_cache import Cache

    opened = open_store(store)
    shown = opened.run(name)
    chosen = find_unit(shown, opened.units(shown.id), which)
    history = opened.steps(shown.id, chosen.unit)
    imaged = [entry for entry in history if entry.images]
    if step is not None:
        imaged = [entry for entry in imaged if step.upper() in {step_name(entry), str(entry.step)}]
        if not imaged:
            known = dict.fromkeys(step_name(entry) for entry in history if entry.images)
            raise UsageError(
                f"step {step!r:.20} of unit {chosen.unit} has no images",
                f"steps with images: {', '.join(known)}",
            )
    bank = Cache(store)
    missing: dict[str, str] = {}
    made: dict[str, Mapping[str, Any]] = {}
    for image in dict.fromkeys(image for entry in history for image in entry.images):
        try:
            made[image] = bank.provenance(image)
        except StoreError as error:
            made[image] = {}
            missing[image] = error.message
    path = sheet or store / "sheets" / f"{shown.id}-{chosen.unit}{f'-step-{step}' if step else ''}.png"
    written = _write_sheet(bank, imaged, path, missing) if imaged else None
    if as_json:
        terminal.dump(
            {
                "run": shown.id,
                "unit": unit_json(chosen),
                "answers_refused": refusals(opened, shown.id, chosen.unit).reasons,
                "board": _board(history),
                "history": [asdict(entry) for entry in history],
                "pictures": made,
                "missing": missing,
                "wishes": commands(opened, shown.id, chosen.unit),
                "forks": [one.id for one in forks_of(opened, shown.id, chosen.unit)],
                "contact_sheet": str(written) if written else None,
            }
        )
        return
    _print_unit(shown, chosen, history, made)
    if said := summary(refusals(opened, shown.id, chosen.unit)):
        terminal.line(said)
    _print_steering(opened, shown, chosen)
    if written:
        terminal.line(f"images: {written}")
    if missing:
        terminal.note(f"{terminal.counted(len(missing), 'image')} of this unit cannot be shown:")
    for image, reason in list(missing.items())[:_MISSING]:
        now = made[image].get("replaced_by")
        terminal.note(f"  {reason}{f'; drawn anew it came out differently, as {now[:12]}' if now else ''}")
    if len(missing) > _MISSING:
        more = f"and {len(missing) - _MISSING} more"
        terminal.note(f"  {more}; all of them: line show {shown.id} {chosen.unit} --json")


def _print_unit(shown: Run, chosen: Unit, history: Sequence[Step], made: Mapping[str, Mapping[str, Any]]) -> None:
    title = f"{shown.target_name} {shown.layer} unit {chosen.unit}" + (f" ({chosen.name})" if chosen.name else "")
    if chosen.label is None:
        terminal.line(f"{title}: {chosen.status}{f', {chosen.error}' if chosen.error else ''}", style="bold")
    else:
        terminal.line(
            f"{title}: {chosen.label}, score {format_score(chosen.score or 0)}, "
            f"{format_score(chosen.margin or 0)} above the best initial label {chosen.initial_label}, "
            f"{origin(chosen)}",
            style="bold",
        )
        if chosen.auc is not None and chosen.mad is not None:
            terminal.line(f"against the control set: AUC {chosen.auc:.3f}, MAD {format_score(chosen.mad)}")
        if chosen.auc_low is not None and chosen.auc_high is not None:
            terminal.line(f"95 % interval of the AUC: {chosen.auc_low:.3f} to {chosen.auc_high:.3f}")
    for mark in chosen.marks:
        terminal.line(f"{mark.code}: {mark.detail}", style="bold")
    if chosen.status in UNLABELLED:
        terminal.line("no concept can be its label; a new run with --label-dead searches it all the same")
    if not history:
        return
    terminal.table(["score", "concept"], [[score, concept] for concept, score in _board(history)], "Scoreboard")
    models = {entry.model for entry in history if entry.model}
    sources = [drawn_from([made[image] for image in entry.images]) for entry in history]
    columns: dict[str, list[object]] = {
        "step": [step_name(entry) for entry in history],
        "concept": [entry.concept for entry in history],
        "score": [entry.score for entry in history],
        "result": [_result(entry) for entry in history],
    }
    if any(sources):
        columns["drawn from"] = list(sources)
    if len(models) > 1:
        columns["model"] = [(entry.model or "").partition(" ")[0] for entry in history]
    columns["reasoning"] = [entry.reasoning for entry in history]
    terminal.table(list(columns), list(zip(*columns.values(), strict=True)), "History")


def _print_steering(opened: RunStore, shown: Run, chosen: Unit) -> None:
    """What people asked of a unit, where it was forked from, and what was forked from it."""
    if asked := commands(opened, shown.id, chosen.unit):
        terminal.table(
            ["asked", "concept", "by", "when", "at step", "what came of it"],
            [
                [
                    one.kind,
                    one.concept,
                    one.by,
                    terminal.when(one.created),
                    one.step,
                    one.outcome if one.taken is not None else "waits",
                ]
                for one in asked
            ],
            "Steering",
        )
    if shown.forked_from:
        terminal.line(
            f"forked from unit {shown.forked_unit} of {shown.forked_from} after step {shown.forked_step}"
        )
    for fork in forks_of(opened, shown.id, chosen.unit):
        terminal.line(f"forked after step {fork.forked_step}: {fork.id}")


def forks_of(opened: RunStore, run: str, unit: int) -> list[Run]:
    """The runs that were forked from a unit of a run, oldest first."""
    return [one for one in reversed(opened.runs()) if (one.forked_from, one.forked_unit) == (run, unit)]


def _board(history: Sequence[Step]) -> tuple[tuple[str, float], ...]:
    """The scoreboard as the search left it; a revisit has none."""
    return next((entry.board for entry in reversed(history) if entry.board), ())


def _result(entry: Step) -> str:
    if entry.outcome == "scored":
        return f"replaced {entry.removed}" if entry.removed else ""
    reason = (entry.detail or {}).get("reason")
    return f"refused: {reason}" if reason else OUTCOMES.get(entry.outcome, entry.outcome)


def _write_sheet(bank: Cache, entries: Sequence[Step], path: Path, missing: dict[str, str]) -> Path:
    """Write the images of entries; why some are not to be had is put into ``missing``, by id."""
    from line_neurons.tui.report.contact_sheet import SheetRow, write_sheet

    def read(image: str) -> bytes | None:
        try:
            return bank.image_bytes(image)
        except StoreError as error:
            missing[image] = error.message
            return None

    rows = [
        SheetRow(
            f"{step_name(entry)}: {entry.concept}  {format_score(entry.score or 0)}",
            [read(image) for image in entry.images],
        )
        for entry in entries
    ]
    return write_sheet(rows, path)


def layers(model: str, settings: Settings, *, as_json: bool) -> None:
    """Print the layers of a model, and why others are left out."""
    from line_neurons.graphs.runs.components import Components
    from line_neurons.tools.targets.hooked_target import HookedTarget

    # What a user's own model prints must not come between the results.
    with redirect_stdout(sys.stderr):
        target = Components(model, settings).target
        found = target.layers()
        left_out = target.refused_layers() if isinstance(target, HookedTarget) else {}
    if as_json:
        terminal.dump(found)
        return
    if not found:
        terminal.line(f"{model} has no layer whose output has units.")
        return
    terminal.table(
        ["layer", "kind", "output", "units"],
        [[info.path, info.kind, " x ".join(map(str, info.shape)), info.units] for info in found],
    )
    for error in list(left_out.values())[:_LEFT_OUT]:
        terminal.line(f"left out: {error}")
    if (more := len(left_out) - _LEFT_OUT) > 0:
        terminal.line(f"left out for such reasons: {more} more; naming one as the layer of a run says why")


def doctor(store: Path, assets: Path, *, ollama: str, deep: bool, as_json: bool) -> bool:
    """Print the findings; True if nothing is missing or broken."""
    from line_neurons.tools.doctor.installation import Finding, check

    def tell(finding: Finding) -> None:
        mark = "note" if finding.status == "warn" else finding.status
        remedy = f" -> {finding.remedy}" if finding.remedy else ""
        terminal.line(
            f"{finding.part}: {finding.detail}{remedy}",
            style={"ok": "", "warn": "yellow"}.get(finding.status, "red"),
            lead=f"{mark:8}",
        )

    def schema(path: Path) -> str:
        return terminal.counted(len(open_store(path).runs()), "run") if has_runs(path) else "no runs yet"

    findings = check(
        root=assets,
        store=store,
        schema=schema,
        deep=deep,
        ollama=ollama,
        found=(lambda _: None) if as_json else tell,
    )
    if as_json:
        terminal.dump(findings)
    return all(finding.status in {"ok", "warn"} for finding in findings)


def _holder(held: LeaseStatus | None) -> str:
    return f"{held.holder.name}{' (gone)' if held.stale else ''}" if held else ""


def _holder_json(held: LeaseStatus | None) -> dict[str, Any] | None:
    if held is None:
        return None
    one = held.holder
    return {
        "process": one.process,
        "host": one.host,
        "since": one.began,
        "last_beat": one.beat,
        "units": held.units,
        "stop_asked_by": one.stop,
        "stale": held.stale,
    }
