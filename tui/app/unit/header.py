"""Title and label of a unit."""

from __future__ import annotations

from rich.text import Text

from line_neurons.agent.text import short_score
from line_neurons.tools.label_marks import IN_DOUBT, UNLABELLED, describe_marks
from line_neurons.tui.app.chrome import Flow
from line_neurons.tui.formatting import estimate, number, origin, plain
from line_neurons.tui.guidance_text import knows
from line_neurons.tui.unit_view import UnitView


def unit_name(view: UnitView) -> str:
    """Return index and name of a unit."""
    name = f" ({plain(view.unit.name)})" if view.unit.name else ""
    return f"unit {view.unit.unit}{name}"


def unit_title(view: UnitView) -> str:
    """Return run, index and name of a unit."""
    return f"{plain(view.run.id)} {unit_name(view)}"


def layer_title(view: UnitView) -> str:
    """Return model and layer of a unit."""
    return f"{plain(view.run.target_name)} {plain(view.run.layer)}"


def best_concept(view: UnitView) -> tuple[str, float | None]:
    """Return the label with its score or, without a label, the best concept so far."""
    if view.unit.label is not None:
        return view.unit.label, view.unit.score
    scored = [step for step in view.steps if step.score is not None and step.concept]
    if not scored:
        return "", None
    best = max(scored, key=lambda step: step.score or 0.0)
    return best.concept or "", best.score


def label_text(view: UnitView) -> Flow:
    """Describe the label: score, margin, AUC, mean activation difference, origin and runner-up, if known."""
    unit = view.unit
    concept, score = best_concept(view)
    if unit.status in UNLABELLED:
        return Flow([Text(f"no label: {plain(describe_marks(unit.marks))}", "bold")])
    if not concept:
        return Flow([Text("no label yet", "dim")])
    facts = [
        Text.assemble(("label " if unit.label is not None else "best so far ", "dim"), (plain(concept), "bold"))
    ]
    initial = (unit.initial_label, unit.initial_score) if unit.initial_label is not None else _best_initial(view)
    margin = None if score is None or initial[1] is None else score - initial[1]
    over = f"+{short_score(margin)} over {plain(initial[0])}" if margin else "0, best of the initial board"
    reply_metadata = [
        ("score", plain(estimate(score, view.spreads.get((concept, score or 0.0))))),
        ("margin", over if initial[0] else ""),
        ("marked", _marked(view) if unit.label is not None else ""),
        ("AUC", "" if unit.auc is None else f"{unit.auc:.3f}"),
        ("MAD", "" if unit.mad is None else short_score(unit.mad)),
        ("origin", plain(origin(unit))),
        ("knows this unit", knows(view.steps)),
        ("runner-up", f"{plain(unit.second_label)} {number(unit.second_score)}" if unit.second_label else ""),
    ]
    if (run := view.run).forked_from is not None:
        reply_metadata.append(("fork of", f"{plain(run.forked_from)} after step {run.forked_step}"))
    facts += [Text.assemble((f"{name} ", "dim"), value) for name, value in reply_metadata if value]
    return Flow(facts)


def _marked(view: UnitView) -> str:
    """Return the marks of the label; why all labels of the run are in doubt is shown with the run."""
    return plain("; ".join(filter(None, [describe_marks(view.unit.marks), IN_DOUBT if view.doubts else ""])))


def _best_initial(view: UnitView) -> tuple[str | None, float | None]:
    initial = [step for step in view.steps if step.kind == "initial" and step.step == 0 and step.score is not None]
    best = max(initial, key=lambda step: step.score or 0.0, default=None)
    return (best.concept, best.score) if best else (None, None)
