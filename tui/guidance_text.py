"""What the response model expected of a unit's steps, as users read it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from line_neurons.agent.concepts import concept_key
from line_neurons.agent.setting_groups.guidance import promises_little
from line_neurons.agent.text import short_score
from line_neurons.tools.store.records import Step
from line_neurons.tools.store.steering_queue import SteeringCommand
from line_neurons.tui.formatting import Estimate

MAX_CANDIDATES = 5
"""Most candidates of the response model that can be tried at once."""
_NEXT = 3
"""Next candidates that are named."""


def predicted(step: Step) -> Estimate | None:
    """Return the score that was predicted for a concept, with its deviation; None where none was."""
    score, deviation = (_number(_detail(step, "guidance").get(name)) for name in ("score", "deviation"))
    return None if score is None or deviation is None else Estimate(score, deviation)


def promise(step: Step) -> str:
    """Say what was expected of a step's concept, and which candidates came next; empty where nothing was."""
    guidance, score = _detail(step, "guidance"), predicted(step)
    said = [] if score is None else [f"predicted {score}"]
    if (improvement := _number(guidance.get("improvement"))) is not None:
        said.append(f"expected improvement {short_score(improvement)}")
    if guidance.get("by") == "nearness":
        said.append("nearest concepts, as the response model knows nothing of the unit")
    others = [
        f"{pair[0]} {short_score(float(pair[1]))}"
        for pair in _pairs(guidance.get("candidates"))
        if pair[0] != step.concept
    ]
    if others:
        said.append(f"next candidates: {', '.join(others[:_NEXT])}")
    return "; ".join([*said, *_of_proposals(step), *filter(None, [image_source(step)])])


def next_candidates(history: Iterable[Step], commands: Iterable[SteeringCommand] = ()) -> tuple[str, ...]:
    """Return the most promising concepts that the last step recorded and nobody proposed, best first.

    They are candidates of the response model and proposals that wait; at most ``MAX_CANDIDATES``, none of a search
    without a response model, and none for which one of the commands is waiting.
    """
    steps = list(history)
    known = {concept_key(step.concept) for step in steps if step.concept}
    known |= {concept_key(command.concept) for command in commands if command.state == "waiting"}
    last = next(
        (step for step in reversed(steps) if _detail(step, "guidance") or _detail(step, "proposals")), None
    )
    if last is None:
        return ()
    waiting = [entry[:2] for entry in _entries(_detail(last, "proposals").get("waiting"))]
    worth = dict(_pairs([*_entries(_detail(last, "guidance").get("candidates")), *waiting]))
    fresh: dict[str, str] = {}
    for name in sorted(worth, key=lambda name: -worth[name]):
        if (key := concept_key(name)) not in known:
            fresh.setdefault(key, name)
    return tuple(fresh.values())[:MAX_CANDIDATES]


def image_source(step: Step) -> str:
    """Say which of the strongest control images led to a concept of the initial scoreboard; empty for others."""
    images = (step.detail or {}).get("images")
    return f"from {images} of the strongest images" if step.kind == "initial" and isinstance(images, str) else ""


def named_in(step: Step) -> str:
    """Say which earlier request named a concept that had none of its own; empty where it had one."""
    named = _detail(step, "proposals").get("step")
    return f"named in step {named}" if step.seed is None and isinstance(named, int) else ""


def _of_proposals(step: Step) -> list[str]:
    """Say where a concept comes from that is one of several proposals of a request, and which others wait."""
    proposals = _detail(step, "proposals")
    named, cut = (proposals.get(name) for name in ("step", "cut"))
    said = [f"named in step {named}"] if isinstance(named, int) and named != step.step else []
    if isinstance(cut, int):
        said.append(f"{cut} more than requested, not used")
    if entries := _entries(proposals.get("waiting")):
        shown = [
            f"{concept}{'' if (promise := _number(worth)) is None else f' {short_score(promise)}'}"
            for concept, worth, *_ in entries[:_NEXT]
        ]
        more = f" and {len(entries) - _NEXT} more" if len(entries) > _NEXT else ""
        said.append(f"less promising, waiting: {', '.join(shown)}{more}")
    return said


def knows(history: Iterable[Step]) -> str:
    """Say how well the response model knows the unit of a history; empty where it took no part."""
    steps = [step for step in history if _detail(step, "guidance")]
    if not steps:
        return ""
    correlation = _number(_detail(steps[-1], "guidance").get("knows"))
    if correlation is None:
        return "too few scores to tell"
    return f"{correlation:.2f}{', nothing' if correlation <= 0 else ''}"


def early_end(settings: Mapping[str, Any], history: Sequence[Step]) -> str:
    """Say that a search ended because of ``until``; empty if it did not."""
    share, known = _number(settings.get("until")) or 0.0, [step for step in history if _expected(step) is not None]
    iterations = {step.step for step in history if step.kind == "iteration"}
    searches = 1 + sum(int(settings.get(name) or 0) for name in ("restarts", "facets"))
    most = int(settings.get("iterations") or 0) * searches
    if not share or not known or not known[-1].board or len(iterations) >= most:
        return ""
    expected, best = _expected(known[-1]) or 0.0, float(known[-1].board[0][1])
    if not promises_little(expected, best, share):
        return ""
    before = "" if iterations else ", before any proposal"
    return (
        f"search ended by until {share:g}{before}: the expected improvement was {short_score(expected)}, "
        f"the best score {short_score(best)}"
    )


def _expected(step: Step) -> float | None:
    return _number((step.detail or {}).get("expected"))


def _detail(step: Step, name: str) -> dict[str, Any]:
    found = (step.detail or {}).get(name)
    return found if isinstance(found, dict) else {}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _entries(value: object) -> list[list[Any]]:
    return [entry for entry in value if isinstance(entry, list)] if isinstance(value, list) else []


def _pairs(value: object) -> list[tuple[str, float]]:
    return [
        (str(pair[0]), number)
        for pair in _entries(value)
        if len(pair) == 2 and (number := _number(pair[1])) is not None
    ]
