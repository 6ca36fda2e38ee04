"""Tables and strips of what excites units most (the paper's section 4.3, figures 4 and 9)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import isfinite, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from line_neurons.eval.reports.statistics import compare, summarise
from line_neurons.eval.reports.table import TEST_COLUMNS, Report, Table, number, tested_rows
from line_neurons.eval.visual.runner import NUMBERS
from line_neurons.tools.store.results.visual import LINE, ImageSet, VisualResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOTE = (
    "robust: share of the activation that is left, on average, over 16 fixed views (turned, shifted, scaled, with "
    "noise). transfer: the class's rise in the second network, 1 for the strongest control image. spectrum, "
    "inside: do they look like control images, by power spectrum and by the second network's features? distance: "
    "mean of 1 - cosine of these features between images."
)
_TEST_NOTE = "Over units, positive where LINE's images have more; p by Holm over all rows."
_SHOWN_UNITS = 4
_ON_SCREEN = (
    "unit", "label", "set", "activation", "robust", "transfer", "spectrum", "inside", "distance", "consistent",
)  # fmt: skip
_COMPARED = tuple(name for name in NUMBERS if name not in {"shaken", "relative"})


def visual_report(result: VisualResult, store: Path) -> Report:
    """Return the tables of an evaluation, and a figure of strips."""
    columns = ("unit", "label", "set", "images", *NUMBERS, "missing")
    rows = tuple(
        (one.unit, one.label, one.name, len(one.images), *(_number(one, name) for name in NUMBERS), one.missing)
        for one in result.sets
        if one.images
    )
    units = Table(
        "visual-units", "What excites units most", columns, rows, NOTE,
        tuple(name for name in columns if name not in _ON_SCREEN),
    )  # fmt: skip
    names = list(dict.fromkeys(one.name for one in result.sets))
    means = tuple(_mean_row(name, [one for one in result.sets if one.name == name]) for name in names)
    mean_columns = ("set", "units", *NUMBERS)
    sets = Table(
        "visual-sets", "Means over units", mean_columns, means, "",
        tuple(name for name in mean_columns if name not in {*_ON_SCREEN, "units", "auc", "relative"}),
    )  # fmt: skip
    images = Table(
        "visual-images", "Images", ("unit", "set", "image", "name", "activation", "shaken"),
        tuple(
            (one.unit, one.name, image.image, image.name, image.activation, image.shaken)
            for one in result.sets for image in one.images
        ), "", ("unit", "set", "image", "name", "activation", "shaken"),
    )  # fmt: skip
    figures: dict[str, Callable[[], Figure]] = {}
    shown = [one for one in result.sets if one.images]
    if shown:
        figures["visual-strips"] = partial(_draw, shown, store)
    tables = (units, sets, *_tests(result, names), images)
    return Report("visual", "What excites units most", tables, figures, _notes(result))


def _number(one: ImageSet, name: str) -> float:
    value = one.numbers.get(name)
    return float(value) if isinstance(value, int | float) else nan


def _mean_row(name: str, sets: Sequence[ImageSet]) -> tuple[Any, ...]:
    there = [one for one in sets if one.images]
    return (name, len(there), *(summarise([_number(one, number) for one in there]).mean for number in NUMBERS))


def _tests(result: VisualResult, names: Sequence[str]) -> tuple[Table, ...]:
    """Return the paired comparison of LINE's images with each other set; nothing for fewer than three units."""
    by_set = {name: {one.unit: one for one in result.sets if one.name == name and one.images} for name in names}
    compared = []
    for measure in _COMPARED:
        for name in names:
            shared = sorted(by_set.get(LINE, {}).keys() & by_set[name].keys())
            if name == LINE or len(shared) < 3:
                continue
            own, other = ([_number(by_set[which][unit], measure) for unit in shared] for which in (LINE, name))
            pairs = [(a, b) for a, b in zip(own, other, strict=True) if isfinite(a) and isfinite(b)]
            if len(pairs) >= 3:
                paired = compare([a for a, _ in pairs], [b for _, b in pairs])
                compared.append(((measure, f"{LINE} - {name}"), paired))
    if not compared:
        return ()
    columns = ("measure", "difference of", *TEST_COLUMNS)
    return (
        Table(
            "visual-tests", "LINE's images against the others", columns, tuple(tested_rows(compared)),
            _TEST_NOTE, ("normality p", "effect"),
        ),
    )  # fmt: skip


def _notes(result: VisualResult) -> tuple[str, ...]:
    evaluation, notes = result.evaluation, []
    count = len({one.unit for one in result.sets})
    if count < 3:
        notes.append("Fewer than three units are too few for tests over units.")
    reasons: dict[tuple[str, str], list[int]] = {}
    for one in result.sets:
        if one.missing:
            reasons.setdefault((one.name, one.missing), []).append(one.unit)
        if reason := one.numbers.get("verifier_reason"):
            reasons.setdefault(("consistent", f"{one.label}: {reason}"), []).append(one.unit)
    for (name, reason), units in reasons.items():
        listed = ", ".join(map(str, dict.fromkeys(units)))
        notes.append(f"{name}: empty for unit {listed:.80}: {reason}.")
    if evaluation.second:
        notes.append(f"Second network: {evaluation.second}.")
    else:
        notes.append("Without a second network transfer, inside, distance and vendi are empty.")
    return tuple(notes)


def _draw(sets: Sequence[ImageSet], store: Path) -> Figure:
    from line_neurons.eval.reports.figures import draw_stored_image, panels, shortened

    units = list(dict.fromkeys(one.unit for one in sets))[:_SHOWN_UNITS]
    rows = [one for one in sets if one.unit in units]
    columns = max(len(one.images) for one in rows)
    figure, axes = panels(len(rows), columns + 1, 1.35, width_ratios=(1.1, *[1] * columns))
    for one, row in zip(rows, axes, strict=True):
        for panel in row:
            panel.set_axis_off()
        robust = one.numbers.get("robust")
        left = "" if robust is None else f"\n{robust:.0%} left when shaken"
        row[0].text(0, 0.5, f"unit {one.unit}: {shortened(one.label, 18)}\n{one.name}{left}", va="center")
        for panel, image in zip(row[1:], one.images, strict=False):
            draw_stored_image(panel, store, image.image, 160)
            panel.set_title(f"{number(image.activation)} / {number(image.shaken)}")
    return figure
