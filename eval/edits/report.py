"""Tables and figures of verified edits (the paper's section 4.2, figures 3 and 8)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from line_neurons.eval.edits.checks import MISSING, OK, UNVERIFIED, VERDICTS
from line_neurons.eval.edits.effects import effect_of
from line_neurons.eval.edits.verifiers import NONE
from line_neurons.eval.reports.statistics import Summary, holm_correction, wilson_interval
from line_neurons.eval.reports.table import Report, Table, as_float
from line_neurons.tools.store.results.edits import EditArm, EditedUnit, EditEvaluation, EditResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ARMS = ("original", "unchanged", "concept", "elsewhere")
NOTE = (
    "effect: activation on the control edit less that on the edit without the concept (insert: with it, less that "
    "on the control edit), over verified images; effect all: over all edited images. p: exact test of the signs, "
    "by Holm over the units of a source. rank: of the unit's effect among all units of the layer, in standard "
    "deviations of the control set."
)

_SHOWN_UNITS, _SHOWN_FAILURES = 6, 8
_SIDE = 192
_COUNTS = tuple(verdict.replace(" ", "_") for verdict in VERDICTS if verdict != OK)
_SOURCE = {"run": "source", "method": "method", "editor": "editor", "verifier": "verifier", "how": "how"}
_NUMBERS = {
    "pictures": "pictures", "verified": "ok", **{name: name for name in _COUNTS},
    **{name: name for name in ("unmatched", *ARMS, "drop")}, "control drop": "control_drop",
    **{name: name for name in ("fell", "effect", "low", "high", "test", "p")}, "Holm p": "p_holm",
    **{name: name for name in ("relative", "z", "rank")}, "rank raw": "rank_raw", "units": "units",
    "other unit": "other_unit", "other max": "other_max", "effect all": "effect_all", "effect all low": "low_all",
    "effect all high": "high_all", "p all": "p_all", "own first": "own_first", "verifier AUC": "verifier_auc",
    "verifier classes": "verifier_classes",
}  # fmt: skip
"""The columns of a unit, and the names of their numbers."""
_WHOLE = frozenset({*_COUNTS, "pictures", "ok", "unmatched", "fell", "test", "rank", "rank_raw", "units",
                    "other_unit", "own_first", "verifier_classes"})  # fmt: skip
_UNIT_COLUMNS = (*_SOURCE, "unit", "label", *_NUMBERS)
_ON_SCREEN = frozenset(
    {"unit", "label", "pictures", "verified", "elsewhere", "concept", "effect", "effect [95 %]", "Holm p", "rank"}
)
_ARM_COLUMNS = {
    "unit": "unit", "picture": "place",
    **{name: name for name in (
        "name", "source", "arm", "kind", "concept", "other", "image", "activation", "share", "psnr", "shift",
        "scale", "verdict", "before", "after", "detail",
    )},
}  # fmt: skip
_RUN_NOTE = "effect and p are over the units' means; p < .05 counts units after Holm's correction."
_RUN_FILES = ("run", "editor", "effect all", "effect all [95 %]", "p all", "own first", "rank 1")
_RUN_COLUMNS = (
    "run", "method", "editor", "how", "units", "pictures", "verified", "unverified", "not there", "failed",
    "effect", "low", "high", "p", "effect all", "effect all low", "effect all high", "p all",
    "effect > 0", "p < .05", "rank 1", "rank <= 10", "own first",
)  # fmt: skip


def edits_report(results: Sequence[EditResult], store: Path) -> Report:
    """Return the tables of some evaluations, and figures of pairs and of failures.

    Args:
        results: of the same layer, the reference first.
    """
    rows = [row for result in results for row in _unit_rows(result)]
    figures: dict[str, Callable[[], Figure]] = {}
    pairs = _typical(results)
    failures = [
        (result, arm, original)
        for result in results
        for arm in result.arms
        if arm.arm == "concept" and arm.image and arm.verdict not in {OK, UNVERIFIED}
        for original in _arms_of(result, arm).get("original", ())
        if original.image != arm.image
    ][:_SHOWN_FAILURES]
    if pairs:
        figures["edit-pairs"] = partial(_draw_pairs, pairs, store)
    if failures:
        figures["edit-failures"] = partial(_draw_failures, failures, store)
    units = Table(
        "edit-units", "Is it the cause? Effect of each label's edits", _UNIT_COLUMNS, tuple(rows), NOTE,
        tuple(name for name in _UNIT_COLUMNS if name not in _ON_SCREEN),
    )  # fmt: skip
    runs = Table(
        "edit-runs",
        "Edits by source of labels",
        _RUN_COLUMNS,
        tuple(map(_run_row, results)),
        _RUN_NOTE,
        _RUN_FILES,
    )
    arms = Table(
        "edits", "Edited images", (*_SOURCE, *_ARM_COLUMNS),
        tuple(row for result in results for row in _arm_rows(result)), "", (*_SOURCE, *_ARM_COLUMNS),
    )  # fmt: skip
    return Report("edits", "Verified edits", (units, runs, arms), figures, _notes(results))


def _unit_rows(result: EditResult) -> list[tuple[Any, ...]]:
    source = tuple(getattr(result.evaluation, name) for name in _SOURCE.values())
    corrected = holm_correction([_number(unit, "p") for unit in result.units])
    rows = []
    for unit, holm in zip(result.units, corrected, strict=True):
        known = {**unit.numbers, "p_holm": holm}
        values = (known.get(name) if name in _WHOLE else as_float(known.get(name)) for name in _NUMBERS.values())
        rows.append((*source, unit.unit, unit.label, *values))
    return rows


def _run_row(result: EditResult) -> tuple[Any, ...]:
    evaluation, units = result.evaluation, result.units
    corrected = holm_correction([_number(unit, "p") for unit in units])
    counts: Counter[str] = Counter()
    for unit in units:
        counts.update({name: int(unit.numbers.get(name, 0) or 0) for name in ("pictures", "ok", *_COUNTS)})
    # Images of a unit are no independent sample of units.
    effects = [effect_of([_number(unit, name) for unit in units]) for name in ("effect", "effect_all")]
    ranks = [rank for unit in units if (rank := unit.numbers.get("rank")) is not None]
    failed = sum(counts[name] for name in _COUNTS) - counts["cannot_be_verified"] - counts["was_not_there"]
    return (
        evaluation.source, evaluation.method, evaluation.editor, evaluation.how, len(units), counts["pictures"],
        counts["ok"], counts["cannot_be_verified"], counts["was_not_there"], failed,
        *(value for found in effects for value in (*_interval(found.summary), found.p)),
        sum(_number(unit, "effect") > 0 for unit in units), sum(p < 0.05 for p in corrected),
        sum(rank == 1 for rank in ranks), sum(rank <= 10 for rank in ranks),
        sum(bool(unit.numbers.get("own_first")) for unit in units),
    )  # fmt: skip


def _arm_rows(result: EditResult) -> list[tuple[Any, ...]]:
    source = tuple(getattr(result.evaluation, name) for name in _SOURCE.values())
    return [(*source, *(getattr(arm, name) for name in _ARM_COLUMNS.values())) for arm in result.arms]


def _notes(results: Sequence[EditResult]) -> tuple[str, ...]:
    notes = []
    for result in results:
        evaluation = result.evaluation
        images = sum(int(unit.numbers.get("pictures") or 0) for unit in result.units)
        verified = sum(int(unit.numbers.get("ok") or 0) for unit in result.units)
        low, high = wilson_interval(verified, images)
        reasons = Counter(
            arm.verdict for arm in result.arms if arm.arm == "concept" and arm.verdict not in {OK, ""}
        )
        others = "".join(f", {count} {verdict}" for verdict, count in reasons.most_common())
        notes.append(
            f"{evaluation.source} ({evaluation.method}): {verified} of {images} edits verified "
            f"({low:.0%} to {high:.0%}) by {evaluation.verifier}{others}."
        )
        unmatched = sum(int(unit.numbers.get("unmatched") or 0) for unit in result.units)
        if unmatched:
            notes.append(
                f"{evaluation.source}: {unmatched} verified images have no control edit of the same size; the "
                "unchanged image is their control."
            )
        few = [unit.unit for unit in result.units if 0 < int(unit.numbers.get("ok") or 0) < 6]
        if few:
            notes.append(f"Without p, fewer than six verified images: unit {', '.join(map(str, few[:20]))}.")
        notes += [f"{evaluation.source}: {note}." for note in (_missing(result), _untested(result)) if note]
        notes += _unverified(result)
    return tuple(notes)


def _missing(result: EditResult) -> str:
    """Name edits that were to be made elsewhere."""
    missing = sorted({arm.detail for arm in result.arms if arm.verdict == MISSING})
    return _some(missing)


def _untested(result: EditResult) -> str:
    """Count verified edits of labels without images to test the verifier on."""
    units = {unit.unit for unit in result.units if unit.numbers.get("verifier_classes")}
    count = sum(arm.verdict == OK and arm.unit in units for arm in result.arms)
    if not count:
        return ""
    return f"of {count} verified edits the verifier was tested on other classes: there are no images of the label"


def _unverified(result: EditResult) -> list[str]:
    """Say why the verifier cannot tell some labels."""
    reasons = {unit.label: str(unit.numbers.get("verifier_reason") or "") for unit in result.units}
    told = [f"{label!r:.60}: {reason}" for label, reason in reasons.items() if reason]
    return [f"Cannot be verified: {_some(told)}."] if told and result.evaluation.verifier != NONE else []


def _some(texts: Sequence[str]) -> str:
    return "; ".join(texts[:5]) + (" ..." if len(texts) > 5 else "")


def _number(unit: EditedUnit, name: str) -> float:
    return as_float(unit.numbers.get(name))


def _interval(summary: Summary) -> tuple[float, float, float]:
    return summary.mean, summary.low, summary.high


def _arms_of(result: EditResult, arm: EditArm) -> Mapping[str, tuple[EditArm, ...]]:
    """Return the arms of the same image and unit."""
    same = [one for one in result.arms if (one.unit, one.place) == (arm.unit, arm.place)]
    return {name: tuple(one for one in same if one.arm == name and one.image) for name in ARMS}


_Pair = tuple[EditEvaluation, EditedUnit, Mapping[str, tuple[EditArm, ...]]]


def _typical(results: Sequence[EditResult]) -> list[_Pair]:
    """Return, of the first units with verified edits, the image with the median fall."""
    pairs: list[_Pair] = []
    for result in results[:1]:
        for unit in result.units:
            verified = [arm for arm in result.arms if arm.unit == unit.unit and arm.verdict == OK]
            ranked = sorted(verified, key=lambda arm: arm.activation)
            if ranked:
                pairs.append((result.evaluation, unit, _arms_of(result, ranked[len(ranked) // 2])))
    return pairs[:_SHOWN_UNITS]


def _draw_pairs(pairs: Sequence[_Pair], store: Path) -> Figure:
    from line_neurons.eval.reports.figures import COLOURS, draw_stored_image, panels, shortened

    figure, axes = panels(len(pairs), 4, 1.7, width_ratios=(1, 1, 1, 1.2))
    for row, (evaluation, unit, arms) in zip(axes, pairs, strict=True):
        shown = [(name, arms[name][0]) for name in ("original", "concept", "elsewhere") if arms[name]]
        titles = {
            "original": shortened(f"unit {unit.unit}: {unit.label}"),
            "concept": evaluation.how,
            "elsewhere": "control edit",
        }
        for panel in row[:3]:
            panel.set_axis_off()
        for panel, (name, arm) in zip(row, shown, strict=False):
            draw_stored_image(panel, store, arm.image, _SIDE)
            panel.set_title(titles[name])
        values = [arm.activation for _, arm in shown]
        bars = row[3].barh(range(len(shown)), values, color=[COLOURS[at] for at in range(len(shown))])
        row[3].bar_label(bars, [f"{value:.1f}" for value in values], padding=2)
        row[3].set_yticks(range(len(shown)), [name for name, _ in shown])
        row[3].invert_yaxis()
        row[3].margins(x=0.3)
        row[3].spines["left"].set_visible(False)
        row[3].tick_params(axis="y", length=0)
        row[3].grid(visible=False, axis="y")
        effect = _number(unit, "effect")
        row[3].set_title(f"effect {effect:.2f}, n = {unit.numbers.get('ok')}" if isfinite(effect) else "")
    return figure


def _draw_failures(failures: Sequence[tuple[EditResult, EditArm, EditArm]], store: Path) -> Figure:
    from line_neurons.eval.reports.figures import draw_stored_image, panels, shortened

    figure, axes = panels(-(-len(failures) // 2), 4, 1.8)
    flat = [panel for row in axes for panel in row]
    for panel in flat:
        panel.set_axis_off()
    for at, (_, arm, original) in enumerate(failures):
        draw_stored_image(flat[2 * at], store, original.image, _SIDE)
        flat[2 * at].set_title(shortened(f"{original.activation:.1f}: {arm.concept}", 28))
        draw_stored_image(flat[2 * at + 1], store, arm.image, _SIDE)
        flat[2 * at + 1].set_title(f"{arm.activation:.1f}: {arm.verdict}")
    return figure
