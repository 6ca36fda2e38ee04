"""A unit's name and label, with what the label was found with."""

from __future__ import annotations

from rich.text import Text

from line_neurons.agent.text import format_score
from line_neurons.tools.label_marks import UNLABELLED, describe_marks
from line_neurons.tui.formatting import number, origin, plain
from line_neurons.tui.unit_view import UnitView


def title_of(view: UnitView) -> str:
    """Which unit it is, in words."""
    name = f" ({plain(view.unit.name)})" if view.unit.name else ""
    return f"{plain(view.run.target_name)} {plain(view.run.layer)} unit {view.unit.unit}{name}"


def best_of(view: UnitView) -> tuple[str, float | None]:
    """The label with its score; of a unit that has none yet, the best concept so far."""
    if view.unit.label is not None:
        return view.unit.label, view.unit.score
    scored = [one for one in view.steps if one.score is not None and one.concept]
    if not scored:
        return "", None
    best = max(scored, key=lambda one: one.score or 0.0)
    return best.concept or "", best.score


def head_text(view: UnitView) -> Text:
    """The label with its score, margin, AUC, MAD, origin and the second label; what is not known is left out."""
    unit = view.unit
    concept, score = best_of(view)
    shown = Text()
    if unit.status in UNLABELLED:
        shown.append(f"no label: {plain(describe_marks(unit.marks))}", "bold")
        return shown
    if not concept:
        shown.append("no label yet", "dim")
        return shown
    shown.append("label " if unit.label is not None else "best so far ", "dim")
    shown.append(plain(concept), "bold")
    first = (unit.initial_label, unit.initial_score) if unit.initial_label is not None else _best_first(view)
    margin = None if score is None or first[1] is None else score - first[1]
    above = f"+{format_score(margin)} over {plain(first[0])}" if margin else "0, it is the best of the first board"
    known = [
        ("marked", plain(describe_marks(unit.marks)) if unit.label is not None else ""),
        ("score", number(score)),
        ("margin", above if first[0] else ""),
        ("AUC", "" if unit.auc is None else f"{unit.auc:.3f}"),
        ("MAD", "" if unit.mad is None else format_score(unit.mad)),
        ("origin", plain(origin(unit))),
        ("second", f"{plain(unit.second_label)} {number(unit.second_score)}" if unit.second_label else ""),
    ]
    if (run := view.run).forked_from is not None:
        known.append(("fork of", f"{plain(run.forked_from)} after step {run.forked_step}"))
    for name, value in known:
        if value:
            shown.append(f"   {name} ", "dim")
            shown.append(value)
    return shown


def _best_first(view: UnitView) -> tuple[str | None, float | None]:
    first = [one for one in view.steps if one.kind == "initial" and one.step == 0 and one.score is not None]
    best = max(first, key=lambda one: one.score or 0.0, default=None)
    return (best.concept, best.score) if best else (None, None)
