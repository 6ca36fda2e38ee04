"""Count the replies of the language model that a run refused, and why, from the histories of its units."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from line_neurons.agent.concepts import describe_near
from line_neurons.tools.store.records import Step

if TYPE_CHECKING:
    from line_neurons.tools.store.runs import RunStore

# A history has the sentence that was sent to the model; each reason has words of its own.
_PHRASES = {
    "was cut off": "truncated",
    "answer was empty": "empty",
    "not a single JSON object": "not_json",
    "must have exactly": "schema",
    "must be text": "schema",
    "was named already": "duplicate",
}
_WORDS = {
    "truncated": "cut off",
    "empty": "empty",
    "not_json": "not JSON",
    "schema": "not in the form",
    "concept": "no concept",
    "duplicate": "repeated",
    "not_drawable": "not drawable",
}
_ANOTHER = "another model (--llm)"
_LONGER = "a longer --reply-tokens"
_THINK_OFF = {"auto": "--think off", "on": "--think off", "off": ""}
_OTHER_THINK = {"auto": "--think on or off", "on": "--think off", "off": "--think on"}
_OF_OLLAMA: Mapping[str, Sequence[str | Mapping[str, str]]] = {
    "truncated": (_LONGER, _THINK_OFF),
    "empty": (_THINK_OFF, _LONGER),
    "not_json": (_OTHER_THINK,),
    "schema": (_OTHER_THINK,),
}
_OF_OPENAI: Mapping[str, Sequence[str | Mapping[str, str]]] = {"truncated": (_LONGER,), "empty": (_LONGER,)}
_OF_SERVERS = {"ollama": _OF_OLLAMA, "openai": _OF_OPENAI}
"""What helps a model of a server, by reason of the refusals; some of it by the setting ``think``."""
_REMEDIES = {
    "duplicate": "fewer iterations, a higher --temperature, or another model (--llm)",
    "not_drawable": "another --generator, a lower --threshold, or more --hints",
}

_REPLIES = (
    " (kind IN ('iteration', 'summary') AND coalesce(origin, '') != 'typed'"
    " OR kind = 'initial' AND origin = 'proposed' AND seed IS NOT NULL)"
    # Of several proposals of a reply, only the one that is recorded with the reply counts.
    " AND NOT (seed IS NULL AND json_valid(detail) AND json_extract(detail, '$.proposals') IS NOT NULL)"
)
_REASON = "CASE WHEN json_valid(detail) THEN json_extract(detail, '$.reason') END"


@dataclass(frozen=True)
class Refusals:
    """Refused replies of the language model.

    Args:
        answers: number of replies; what a user typed in is none.
        reasons: number of refused ones, by reason: a kind of ``ReplyError``, ``duplicate`` or ``not_drawable``.
        stalled: steps that ended without a usable reply.
    """

    answers: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    stalled: int = 0

    @property
    def refused(self) -> int:
        """Number of refused replies."""
        return sum(self.reasons.values())

    @property
    def all_refused(self) -> bool:
        """Whether there were replies and none was usable, so that no label comes from the language model."""
        return 0 < self.answers == self.refused

    @property
    def mostly(self) -> bool:
        """Whether half of the replies or more were refused, more than the method itself accounts for."""
        return 0 < self.answers <= 2 * self.refused

    @property
    def most(self) -> str:
        """The most frequent reason; empty for none."""
        return max(self.reasons, key=lambda reason: self.reasons[reason], default="")


def refusals(runs: RunStore, run: str, unit: int | None = None) -> Refusals:
    """Count the refusals of a run, or of one of its units.

    Raises:
        StoreError: the store cannot be read.
    """
    return _counted(runs, run, unit).get(run, Refusals())


def refusals_by_run(runs: RunStore) -> dict[str, Refusals]:
    """Count the refusals of all runs that have any reply, by id of the run.

    Raises:
        StoreError: the store cannot be read.
    """
    return _counted(runs, None, None)


def _counted(runs: RunStore, run: str | None, unit: int | None) -> dict[str, Refusals]:
    known = {name: value for name, value in (("run", run), ("unit", unit)) if value is not None}
    where = "FROM steps WHERE " + "".join(f"{name} = ? AND " for name in known) + _REPLIES
    outcomes: dict[str, Counter[str]] = defaultdict(Counter)
    for name, outcome, count in runs.rows(f"SELECT run, outcome, count(*) {where} GROUP BY 1, 2", *known.values()):
        outcomes[name][outcome] += count
    unusable = f"SELECT run, {_REASON}, count(*) {where} AND outcome = 'invalid' GROUP BY 1, 2"
    reasons: dict[str, Counter[str]] = defaultdict(Counter)
    for name, detail, count in runs.rows(unusable, *known.values()):
        reasons[name][_kind(str(detail))] += count
    found = {}
    for name, counts in outcomes.items():
        for outcome in ("duplicate", "not_drawable"):
            if counts[outcome]:
                reasons[name][outcome] += counts[outcome]
        stalled = counts.pop("stalled", 0)
        found[name] = Refusals(counts.total(), dict(reasons[name].most_common()), stalled)
    return found


def _kind(detail: str) -> str:
    return next((kind for words, kind in _PHRASES.items() if words in detail), "concept")


def reason_of_refusal(step: Step) -> str:
    """Return why a proposal was refused, in words; empty if it was not.

    Near concepts are named with their similarity. Where an earlier version recorded none, they are left out.
    """
    detail = step.detail or {}
    reason, nearest = str(detail.get("reason") or ""), detail.get("nearest")
    if step.outcome != "not_drawable":
        return reason
    pairs = [pair for pair in nearest if _is_similarity(pair)] if isinstance(nearest, list) else []
    why = reason.partition("; near it: ")[0].rstrip(".").replace("cannot be pictured", "cannot be generated")
    near = describe_near(pairs)
    return f"{why or 'it cannot be generated'}; near it: {near}" if near else why


def _is_similarity(pair: Any) -> bool:
    return isinstance(pair, list) and [type(value) for value in pair] == [str, float]


def summary(found: Refusals) -> str:
    """Describe refusals, the most frequent reasons first; empty where no reply was refused."""
    if not found.refused:
        return ""
    why = ", ".join(f"{count:,} {_WORDS[reason]}" for reason, count in found.reasons.items())
    return f"{found.refused:,} of {found.answers:,} replies refused ({why})"


def remedy(found: Refusals, settings: Mapping[str, Any]) -> str:
    """Return what helps against the most frequent reason, with the settings of the run."""
    of_server = _OF_SERVERS.get(str(settings.get("llm")).partition(":")[0], {})
    if found.most not in of_server:
        return _REMEDIES.get(found.most, _ANOTHER)
    think = str(settings.get("think", "auto"))
    helps = (help_ if isinstance(help_, str) else help_[think] for help_ in of_server[found.most])
    *first, last = [*filter(None, helps), _ANOTHER]
    return f"{', '.join(first)}{',' if len(first) > 1 else ''} or {last}"
