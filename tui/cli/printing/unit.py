"""Printing of a unit: scoreboard, history, images, steering, and the prompts of its steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from line_neurons.agent.errors import StoreError, UsageError
from line_neurons.agent.text import short_score
from line_neurons.tools.cache.reader import stored_images
from line_neurons.tools.label_marks import IN_DOUBT, UNLABELLED
from line_neurons.tools.run_problems import recorded_doubts
from line_neurons.tools.spreads import Spreads
from line_neurons.tools.steering.outcomes import CommandOutcome, outcomes
from line_neurons.tools.store.best_so_far import with_best_so_far
from line_neurons.tools.store.columns import OUTCOMES
from line_neurons.tools.store.records import Run, Step, Unit
from line_neurons.tools.store.refused_replies import reason_of_refusal, refusals, summary
from line_neurons.tools.store.runs import RunStore, find_unit, open_store
from line_neurons.tools.store.steering_queue import commands
from line_neurons.tui.cli import output as terminal
from line_neurons.tui.cli.printing.run import unit_json
from line_neurons.tui.formatting import counted, drawn_from, estimate, origin, plain, when
from line_neurons.tui.guidance_text import early_end, image_source, knows, named_in, predicted

_MISSING = 10
"""Most missing images that are named."""


def show_unit(store: Path, name: str, which: str, step: str | None, sheet: Path | None, *, as_json: bool) -> None:
    """Print a unit's board and history, and write the contact sheet of its images.

    Missing and corrupt images are left out, and named.
    """
    from line_neurons.tools.cache.activation_cache import Cache

    opened = open_store(store)
    shown = opened.run(name)
    chosen = find_unit(shown, opened.units(shown.id), which)
    (chosen,) = with_best_so_far(opened, shown.id, [chosen])
    history = opened.steps(shown.id, chosen.unit)
    spreads = Spreads(store, shown)
    imaged = [entry for entry in history if entry.images]
    if step is not None:
        imaged = [entry for entry in imaged if step.upper() in {entry.name, str(entry.step)}]
        if not imaged:
            known = dict.fromkeys(entry.name for entry in history if entry.images)
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
    written = _write_sheet(store, shown, chosen, imaged, spreads, path, missing) if imaged else None
    if as_json:
        terminal.dump(
            {
                "run": shown.id,
                "unit": unit_json(chosen, *spreads.of_units([chosen])),
                "doubts": recorded_doubts(opened, shown.id),
                "answers_refused": refusals(opened, shown.id, chosen.unit).reasons,
                "board": _board(history),
                "board_spreads": list(spreads.of_board(_board(history), history).values()),
                "history": [
                    asdict(entry) | {"spread": spread}
                    for entry, spread in zip(history, spreads.of_steps(history), strict=True)
                ],
                "pictures": made,
                "missing": missing,
                "wishes": steering_json(outcomes(commands(opened, shown.id, chosen.unit), history)),
                "forks": [fork.id for fork in forks_of(opened, shown.id, chosen.unit)],
                "contact_sheet": str(written) if written else None,
            }
        )
        return
    _print_unit(shown, chosen, history, made, spreads)
    for doubt in recorded_doubts(opened, shown.id):
        terminal.line(f"{IN_DOUBT}: {doubt}", style="bold")
    if refused := summary(refusals(opened, shown.id, chosen.unit)):
        terminal.line(refused)
    if steered := outcomes(commands(opened, shown.id, chosen.unit), history):
        print_steering(steered)
    _print_forks(opened, shown, chosen)
    if written:
        terminal.line(f"images: {written}")
    if missing:
        terminal.note(f"{counted(len(missing), 'image')} of this unit cannot be shown:")
    for image, reason in list(missing.items())[:_MISSING]:
        now = made[image].get("replaced_by")
        terminal.note(f"  {reason}{f'; the regenerated image differs: {now[:12]}' if now else ''}")
    if len(missing) > _MISSING:
        more = f"and {len(missing) - _MISSING} more"
        terminal.note(f"  {more}; all of them: line show {shown.id} {chosen.unit} --json")


def _print_unit(
    shown: Run,
    chosen: Unit,
    history: Sequence[Step],
    made: Mapping[str, Mapping[str, Any]],
    spreads: Spreads,
) -> None:
    title = f"{shown.target_name} {shown.layer} unit {chosen.unit}" + (f" ({chosen.name})" if chosen.name else "")
    if chosen.label is None:
        terminal.line(f"{title}: {chosen.status}{f', {chosen.error}' if chosen.error else ''}", style="bold")
    else:
        (spread,) = spreads.of_units([chosen])
        terminal.line(
            f"{title}: {chosen.label}, score {plain(estimate(chosen.score or 0, spread))}, "
            f"{short_score(chosen.margin or 0)} above the best initial label {chosen.initial_label}, "
            f"{origin(chosen)}",
            style="bold",
        )
        if chosen.auc is not None and chosen.mad is not None:
            terminal.line(f"against the control set: AUC {chosen.auc:.3f}, MAD {short_score(chosen.mad)}")
        if chosen.auc_low is not None and chosen.auc_high is not None:
            terminal.line(f"95 % interval of the AUC: {chosen.auc_low:.3f} to {chosen.auc_high:.3f}")
    for mark in chosen.marks:
        terminal.line(f"{mark.code}: {mark.detail}", style="bold")
    if chosen.status in UNLABELLED:
        terminal.line("no concept can be its label; a new run with --label-dead labels it nevertheless")
    if not history:
        return
    on_board = spreads.of_board(_board(history), history).items()
    terminal.table(
        ["score", "concept"],
        [[estimate(score, spread), concept] for (concept, score), spread in on_board],
        "Scoreboard",
    )
    models = {entry.model for entry in history if entry.model}
    sources = [drawn_from([made[image] for image in entry.images]) for entry in history]
    columns: dict[str, list[object]] = {
        "step": [entry.name for entry in history],
        "concept": [entry.concept for entry in history],
        "predicted": list(map(predicted, history)),
        "score": list(map(estimate, (entry.score for entry in history), spreads.of_steps(history))),
        "result": [_result(entry) for entry in history],
    }
    if not any(columns["predicted"]):
        del columns["predicted"]
    if any(sources):
        columns["generated from"] = list(sources)
    if len(models) > 1:
        columns["model"] = [(entry.model or "").partition(" ")[0] for entry in history]
    columns["reasoning"] = [entry.reasoning or named_in(entry) for entry in history]
    if ended := early_end(shown.settings, history):
        terminal.line(ended)
    if known := knows(history):
        terminal.line(f"knows this unit: {known} (rank correlation of scores with predictions from all others)")
    terminal.table(
        list(columns), list(zip(*columns.values(), strict=True)), "History",
        drop=("generated from",), wrap=("reasoning",),
    )  # fmt: skip


def print_steering(steered: Sequence[CommandOutcome]) -> None:
    """Print a unit's steering commands with what became of them."""
    terminal.table(
        ["#", "command", "concept", "by", "when", "at step", "outcome"],
        [
            [
                row.command.id,
                row.command.kind,
                row.command.concept,
                row.command.by,
                when(row.command.created),
                row.command.step,
                row,
            ]
            for row in steered
        ],
        "Steering",
        drop=("when", "by"),
        wrap=("outcome",),
    )


def steering_json(steered: Sequence[CommandOutcome]) -> list[dict[str, Any]]:
    """Return a unit's steering commands as JSON: as recorded, with what became of each."""
    return [asdict(row.command) | {"state": row.state, "result": row.text} for row in steered]


def _print_forks(opened: RunStore, shown: Run, chosen: Unit) -> None:
    """Print from where a unit was forked, and its forks."""
    if shown.forked_from:
        terminal.line(
            f"forked from unit {shown.forked_unit} of {shown.forked_from} after step {shown.forked_step}"
        )
    for fork in forks_of(opened, shown.id, chosen.unit):
        terminal.line(f"forked after step {fork.forked_step}: {fork.id}")


def forks_of(opened: RunStore, run: str, unit: int) -> list[Run]:
    """Return the runs that were forked from a unit of a run, oldest first."""
    return [fork for fork in reversed(opened.runs()) if (fork.forked_from, fork.forked_unit) == (run, unit)]


def _board(history: Sequence[Step]) -> tuple[tuple[str, float], ...]:
    """Return the final scoreboard of a search; a revisit has none."""
    return next((entry.board for entry in reversed(history) if entry.board), ())


def _result(entry: Step) -> str:
    if entry.outcome == "scored":
        return f"replaced {entry.removed}" if entry.removed else image_source(entry)
    reason = reason_of_refusal(entry)
    return f"refused: {reason}" if reason else OUTCOMES.get(entry.outcome, entry.outcome)


_ROW_NAMES = {"initial": "initial scoreboard", "summary": "summary", "revisit": "found by another unit"}
"""Names of rows of a contact sheet that are not of an iteration."""


def _write_sheet(
    store: Path,
    shown: Run,
    chosen: Unit,
    entries: Sequence[Step],
    spreads: Spreads,
    path: Path,
    missing: dict[str, str],
) -> Path:
    """Write the images of entries; the reason for missing ones is put into ``missing``, by id."""
    from line_neurons.tui.report.contact_sheet import SheetRow, write_sheet

    images = list(dict.fromkeys(image for entry in entries for image in entry.images))
    target = str(shown.fingerprints.get("target", ""))
    stored = {image.id: image for image in stored_images(store, images, target, shown.layer, chosen.unit)}
    missing |= {
        image.id: f"the file of image {image.id[:12]} {image.error}" for image in stored.values() if image.error
    }
    rows = [
        SheetRow(
            f"{_ROW_NAMES.get(entry.kind, f'step {entry.step}')}: {entry.concept}, score "
            f"{plain(estimate(entry.score, spread))}",
            [stored[image].content or None for image in entry.images],
            [stored[image].activation for image in entry.images],
            chosen.label is not None and (entry.concept, entry.images) == (chosen.label, chosen.images),
        )
        for entry, spread in zip(entries, spreads.of_steps(entries), strict=True)
    ]
    # The label comes first.
    rows.sort(key=lambda row: not row.is_label)
    name = f" ({chosen.name})" if chosen.name else ""
    (spread,) = spreads.of_units([chosen])
    found = (
        f"{chosen.label}, score {plain(estimate(chosen.score, spread))}"
        if chosen.label is not None
        else chosen.status
    )
    heading = f"unit {chosen.unit}{name}: {found}"
    return write_sheet(rows, path, [heading, f"{shown.target_name} {shown.layer}, run {shown.id}"])


def show_prompt(store: Path, name: str, which: str, step: int, *, as_json: bool) -> None:
    """Print a step's requests to the language model, and whether they match the recorded hashes.

    Raises:
        UsageError: there is no such step, or it sent no request.
    """
    from line_neurons.graphs.loop.reconstruct import recorded_prompt

    with closing(open_store(store)) as runs:
        run = runs.run(name)
        unit = find_unit(run, runs.units(run.id), which)
        last = recorded_prompt(runs, run.id, unit.unit, step)
        requests = []
        for entry in (entry for entry in runs.steps(run.id, unit.unit) if entry.step == step):
            if entry.attempt < last.attempt and entry.origin != "typed":
                requests.append((recorded_prompt(runs, run.id, unit.unit, step, entry.attempt), entry.reply))
            elif entry.attempt == last.attempt:
                requests.append((last, entry.reply))
    if as_json:
        terminal.dump([asdict(request) | {"reply": reply} for request, reply in requests])
        return
    for request, reply in requests:
        terminal.line(f"step {step}, request {request.attempt}: {_MATCHES[request.matches]}", style="bold")
        for message in request.prompt.messages:
            for number, line in enumerate(message.content.splitlines()):
                terminal.line(line, lead=f"{'' if number else message.role:10}")
        for number, line in enumerate(reply.splitlines()):
            terminal.line(line, lead=f"{'' if number else 'reply':10}")


_MATCHES = {
    True: "identical to what was sent, by its recorded hash",
    False: "differs from what was sent, by its recorded hash",
    None: "not verified; an earlier version recorded no hash",
}
