"""How units, their labels and their steps are told in words, wherever people read of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from line_neurons.tools.label_marks import ENDED
from line_neurons.tools.store.leases import LeaseStatus
from line_neurons.tools.store.records import Run, Step, Unit

if TYPE_CHECKING:
    from line_neurons.graphs.runs.revisit import Revisited
    from line_neurons.tools.store.unit_table import UnitRow


def is_unfinished(run: Run, states: Iterable[str], asked: Collection[int]) -> bool:
    """Whether a resume has work on a run; it leaves failed units alone.

    Args:
        run: the run.
        states: those of its units.
        asked: its units of which something is asked.
    """
    return bool(asked) or not {run.status, *states} <= ENDED


def origin(unit: Unit | UnitRow) -> str:
    """Where a label came from, in words."""
    if unit.origin == "revisit":
        return found_by(unit)
    if unit.origin in {None, "predefined"}:
        return unit.origin or ""
    if unit.origin == "typed":
        return f"typed in, step {unit.label_step}"
    where = "summary" if unit.origin == "summary" else f"step {unit.label_step}"
    return f"{'discovered' if unit.discovered else 'proposed'}, {where}"


def found_by(one: Unit | UnitRow | Revisited) -> str:
    """Whose search a label of a revisit came from, in words."""
    other = f" of {one.found_in}" if one.found_in not in {None, one.run} else ""
    return f"found by unit {one.found_by}{other}"


def step_name(entry: Step) -> str:
    """A step as it is called: its number, S for a summary, R for a revisit."""
    return {"summary": "S", "revisit": "R"}.get(entry.kind, str(entry.step))


def drawn_from(provenances: Sequence[Mapping[str, Any]]) -> str:
    """What an image bank drew a concept from: captions with their similarity, and how many source images."""
    captions: dict[str, float] = {}
    files = set()
    for provenance in provenances:
        subjects = provenance.get("subjects")
        # Another program may have written the store: what is no such account is passed over.
        for subject in subjects if isinstance(subjects, list) else ():
            try:
                caption, similarity, file = str(subject["caption"]), float(subject["similarity"]), subject["file"]
            except (KeyError, TypeError, ValueError):
                continue
            captions.setdefault(caption, similarity)
            files.add(str(file))
    if not files:
        return ""
    named = ", ".join(
        caption if similarity >= 1 else f"{caption} {similarity:.2f}" for caption, similarity in captions.items()
    )
    return f"{named} ({len(files)} image{'' if len(files) == 1 else 's'})"


def is_worked_on(held: LeaseStatus | None) -> bool:
    """Whether a living process holds a run."""
    return held is not None and not held.stale


def state_of(run: Run, held: LeaseStatus | None) -> str:
    """A run's state; one that nobody works on is not running, whatever its killed process wrote last."""
    return "interrupted" if run.status == "running" and not is_worked_on(held) else run.status
