"""Text formatting of numbers, times, units, labels and steps, the same on every screen."""

from __future__ import annotations

import datetime
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.cells import cell_len, set_cell_size

from line_neurons.agent.text import clean_text, format_spread, short_score
from line_neurons.agent.text import counted as counted  # noqa: PLC0414 - imported from here, too
from line_neurons.tools.label_marks import ENDED
from line_neurons.tools.store.activity import Phase, WorkerStatus
from line_neurons.tools.store.best_so_far import UNFINISHED
from line_neurons.tools.store.leases import LeaseStatus
from line_neurons.tools.store.records import Run, Unit

if TYPE_CHECKING:
    from line_neurons.graphs.runs.revisit import Revisited
    from line_neurons.tools.store.unit_table import UnitRow


MAX_CELL = 4000
"""Longest text of a table cell, in characters."""

MISSING = "–"  # noqa: RUF001 - a dash
"""Text of a number that is not known."""

NOT_RECORDED = "not recorded"
"""Text of what a provenance document lacks."""


class Estimate(NamedTuple):
    """A score and its spread, as a table cell; a spread of None is not known."""

    score: float
    spread: float | None

    def __str__(self) -> str:
        return f"{short_score(self.score)} {format_spread(self.spread)}"


def estimate(score: float | None, spread: float | None) -> Estimate | None:
    """Return a score with its spread; None without a score."""
    return None if score is None else Estimate(score, spread)


def plain(value: object) -> str:
    """Return a value as text of a cell: numbers with three digits, text cleaned, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return short_score(value)
    return clean_text(str(value), MAX_CELL)


def setting_text(value: Any) -> str:
    """Return the value of a setting as text."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if value in (None, "", (), [], {}):
        return "not set"
    if isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False, default=str)
    return ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def setting_texts(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings of a recorded run as text, by name; an entry of a table is ``diffusion.steps``.

    Arguments of a LangChain chat model may be secrets: only their number is shown.
    """
    texts: dict[str, str] = {}
    for name, value in settings.items():
        if name == "langchain" and isinstance(value, Mapping):
            texts[name] = f"{len(value)} (not shown)" if value else setting_text(value)
        elif name == "diffusion" and isinstance(value, Mapping):
            texts |= {f"{name}.{entry}": setting_text(given) for entry, given in value.items()}
        else:
            texts[name] = setting_text(value)
    return texts


def number(value: float | None) -> str:
    """Return a number with three digits, or a dash for one that is missing."""
    return MISSING if value is None else short_score(value)


def megabytes(size: int, digits: int = 1) -> str:
    """Return a number of bytes in megabytes."""
    return f"{size / 1e6:,.{digits}f} MB"


def gigabytes(size: int) -> str:
    """Return a number of bytes in gigabytes."""
    return f"{size / 1e9:,.1f} GB"


def when(seconds: float) -> str:
    """Return a time since the epoch as date and local time; empty for one out of the calendar's range."""
    try:
        return datetime.datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):
        return ""


def duration(seconds: float) -> str:
    """Return a duration in seconds, from 90 s on in minutes, and from two hours on in hours."""
    if seconds >= 2 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


_EIGHTHS = " ▏▎▍▌▋▊▉█"


def bar(value: float, low: float, high: float, width: int) -> str:
    """Draw a value as a bar from zero; below zero it grows to the left of an axis.

    Args:
        value: drawn at most as long as ``low`` or ``high``.
        low: the lowest value of all bars; the axis is drawn if it is below zero.
        width: cells from ``low`` to ``high``.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    value = min(max(value, low), high)
    if low == high:
        return ""
    if low == 0.0:
        return _rightward(value / high, width)
    left = width - 1 if high == 0.0 else min(max(round((width - 1) * low / (low - high)), 1), width - 2)
    if value < 0:
        halves = round(2 * left * value / low)
        return f"{'▐' * (halves % 2)}{'█' * (halves // 2)}".rjust(left) + "│"
    return " " * left + "│" + (_rightward(value / high, width - 1 - left) if high else "")


def _rightward(share: float, width: int) -> str:
    eighths = round(share * width * 8)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def fit_middle(text: str, width: int) -> str:
    """Shorten text to a width in cells; an ellipsis replaces its middle."""
    if cell_len(text) <= width:
        return text
    tail = max(width - 1, 0) * 3 // 5
    head = max(width - 1 - tail, 0)
    end = text
    while cell_len(end) > tail:
        end = end[1:]
    return set_cell_size(text, head) + "…" + end


def is_unfinished(run: Run, states: Iterable[str], asked: Collection[int]) -> bool:
    """Return whether resuming a run has work to do; failed units are left to a retry.

    Args:
        asked: its units with pending steering commands.
    """
    return bool(asked) or not {run.status, *states} <= ENDED


def origin(unit: Unit | UnitRow) -> str:
    """Return the origin of a label as text."""
    if unit.origin == "revisit":
        return found_by(unit)
    if unit.origin in {None, "predefined"}:
        return unit.origin or ""
    if unit.origin == "typed":
        return f"typed in, step {unit.label_step}"
    where = "summary" if unit.origin == "summary" else f"step {unit.label_step}"
    return f"{'discovered' if unit.discovered else 'proposed'}, {where}"


def label_text(unit: Unit) -> str | None:
    """Return a unit's label; the best so far of an unfinished search ends with an ellipsis."""
    unfinished = any(mark.code == UNFINISHED for mark in unit.marks)
    return f"{unit.label} …" if unfinished else unit.label


def found_by(unit: Unit | UnitRow | Revisited) -> str:
    """Return the unit whose search found the label of a revisit."""
    other = f" of {unit.found_in}" if unit.found_in not in {None, unit.run} else ""
    return f"found by unit {unit.found_by}{other}"


def drawn_from(provenances: Sequence[Mapping[str, Any]]) -> str:
    """Return the captions, with similarity, and the images that an image bank used for a concept.

    Images are counted, by kind where they record what they are: ``stamp``, ``photograph`` or ``icon``.
    """
    captions: dict[str, float] = {}
    files: dict[str, str] = {}
    for provenance in provenances:
        subjects = provenance.get("subjects")
        # Another program may have written the store: invalid entries are skipped.
        for subject in subjects if isinstance(subjects, list) else ():
            try:
                caption, similarity, file = str(subject["caption"]), float(subject["similarity"]), subject["file"]
            except (KeyError, TypeError, ValueError):
                continue
            captions.setdefault(caption, similarity)
            files[str(file)] = str(subject.get("source", "")).partition(" ")[0]
    if not files:
        return ""
    named = ", ".join(
        caption if similarity >= 1 else f"{caption} {similarity:.2f}" for caption, similarity in captions.items()
    )
    kinds = Counter(filter(None, files.values()))
    of_kinds = ", ".join(counted(number, plain(kind)) for kind, number in sorted(kinds.items()))
    return f"{named} ({of_kinds or counted(len(files), 'image')})"


def phase_text(phase: Phase, now: float) -> str:
    """Return what a process does for a run as a whole, how far it is, for how long, and how long it still takes.

    ``now`` is the time by that process's clock, in seconds since the epoch.
    """
    done = f" {phase.done}/{phase.total}" if phase.total else f" {phase.done}" if phase.done else ""
    return f"{phase.what}{done}, {phase_time(phase, now)}"


def phase_time(phase: Phase, now: float) -> str:
    """Return for how long a phase lasts, and how long it still takes where that is known."""
    left = phase.seconds_left(now)
    return f"for {duration(max(now - phase.since, 0.0))}" + (
        "" if left is None else f", about {duration(left)} left"
    )


def workers_text(workers: Sequence[WorkerStatus]) -> str:
    """Return how many workers a run has, how busy they are, and how many images a second they make."""
    if not workers:
        return ""
    busy = sum(worker.busy for worker in workers) / len(workers)
    rate = sum(worker.rate for worker in workers)
    return f"{counted(len(workers), 'worker')}, {busy:.0%} busy, {rate:.1f} images/s"


def is_worked_on(held: LeaseStatus | None) -> bool:
    """Return whether a live process holds a run."""
    return held is not None and not held.stale


def state_of(run: Run, held: LeaseStatus | None) -> str:
    """Return a run's state; a killed process may have left it as running."""
    return "interrupted" if run.status == "running" and not is_worked_on(held) else run.status


def machine_rows(machine: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Format a machine as (name, value) pairs; None: it was not recorded."""
    if machine is None:
        return [("machine", NOT_RECORDED)]
    rows = [
        ("system", f"{machine.get('os')}"),
        ("processor", f"{machine.get('cpu')}, {machine.get('cores')} cores, {_gigabytes(machine.get('memory'))}"),
    ]
    torch = mapping_of(machine.get("torch"))
    gpus = torch.get("gpus")
    rows += [
        (
            "GPU",
            f"{gpu.get('name')}, {_gigabytes(gpu.get('memory'))}, driver {torch.get('driver')}, "
            f"CUDA {torch.get('cuda')}, cuDNN {torch.get('cudnn')}",
        )
        for gpu in map(mapping_of, gpus if isinstance(gpus, list) else ())
    ]
    if torch:
        rows.append(("torch", f"{torch.get('threads')} threads, {torch.get('cpu_capability')}"))
    return rows


def format_moment(moment: str | None) -> str:
    """Format a time in UTC, to the second."""
    return f"{moment[:10]} {moment[11:19]} UTC" if moment else NOT_RECORDED


def format_versions(versions: Mapping[str, Any] | None) -> str:
    """Format packages with their versions in one line."""
    return ", ".join(f"{name} {number}" for name, number in (versions or {}).items()) or NOT_RECORDED


def mapping_of(value: Any) -> Mapping[str, Any]:
    """Return a value of the store if it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}


def _gigabytes(size: Any) -> str:
    return f"{size / 1e9:.0f} GB" if isinstance(size, int) else "memory not known"
