"""Compare a run with its replay: their environments, then unit by unit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from line_neurons.graphs.replay.provenance import named_in, provenance
from line_neurons.graphs.replay.replay import Plan
from line_neurons.tools.cache.reader import stored_activations
from line_neurons.tools.label_marks import DONE
from line_neurons.tools.store.records import Run, Step, Unit
from line_neurons.tools.store.runs import RunStore

SCHEMA = "line-neurons/replay/1"
"""Name and version of a comparison as JSON."""

Verdict = Literal["identical", "within tolerance", "same label", "different"]

VERDICTS: dict[Verdict, str] = {
    "identical": "every step, image and score is the same",
    "within tolerance": "everything is the same but for scores within the tolerance",
    "same label": "the label is the same, but not every step",
    "different": "the label differs, or there is none",
}
"""Meaning of each verdict; the first two count as agreement."""

_LEVELS = tuple(VERDICTS)
_OTHER = len(_LEVELS) - 1

# Memory does not affect results; how images are read is in the fingerprints where it does.
_IDLE = {"machine.memory", "images"}
# In the order of cause and effect; the language model's fingerprint is compared once for the run.
_COMPARED = (
    "kind", "prompt", "seed", "temperature", "reply", "concept", "outcome", "origin", "images", "score", "removed",
    "board", "detail",
)  # fmt: skip
_SHOWN = {"detail": "reason"}
_RESULTS = ("label", "score", "auc", "mad", "second_label", "second_score", "discovered", "found_by", "images")
_SEARCHED = ("search_label", "search_score")


@dataclass(frozen=True)
class Difference:
    """A difference between a run's environment and the current one; ``what`` is such as ``versions.torch``.

    ``then`` are several values if the run was resumed in a different environment.
    """

    what: str
    then: tuple[str, ...]
    now: str


@dataclass(frozen=True)
class Divergence:
    """The first difference between the history of a unit and that of its replay.

    Args:
        attempt: index of the attempt within the step.
        what: what differs first: the prompt, the reply, the concept, the images, the score ...
        then: the recorded value.
        now: the value of the replay.
    """

    step: int
    attempt: int
    what: str
    then: Any
    now: Any


@dataclass(frozen=True)
class Agreement:
    """The agreement of a unit with its replay.

    Args:
        name: its name, if it is an output class.
        verdict: see ``VERDICTS``.
        label: its recorded label; None where it had none.
        steps: number of compared entries of the history.
        equal_steps: number of them before the first that differs.
        parted: the first that differs; None if none does.
        images: number of compared images, by the hash of their files.
        equal_images: number of them that are equal to the bit.
        score_difference: maximum over concepts that both scored in the same step; None where there are none.
        activation_difference: maximum over images in the same place; None where none is stored.
    """

    unit: int
    name: str | None
    verdict: Verdict
    label: str | None
    label_now: str | None
    score: float | None
    score_now: float | None
    steps: int
    equal_steps: int
    parted: Divergence | None
    images: int
    equal_images: int
    score_difference: float | None
    activation_difference: float | None
    note: str = ""

    @property
    def agrees(self) -> bool:
        """Whether the verdict counts as agreement."""
        return self.verdict in {"identical", "within tolerance"}


def compare_environment(runs: RunStore, run: Run, here: Mapping[str, Any]) -> tuple[list[Difference], list[str]]:
    """Compare the recorded environments of a run with the current one, before replaying.

    Returns:
        the differences, those of components first; and the names of what was not recorded.
    """
    document = provenance(runs, run.id)
    now = _flat({**here, "prompts": {kind: text["sha256"] for kind, text in here["prompts"].items()}})
    known: dict[str, list[str]] = {}
    for environment in document["environments"]:
        for name, value in _flat({**environment, "fingerprints": None}).items():
            if value not in known.setdefault(name, []):
                known[name].append(value)
    differ, unknown = [], []
    for part, fingerprint in here["fingerprints"].items():
        then = run.fingerprints.get(part)
        if then is None:
            unknown.append(part)
        elif then != fingerprint:
            differ.append(Difference(f"parts.{part}", (str(then),), str(fingerprint)))
            differ += _why(part, (document["parts"].get(part) or {}).get("made_of"), str(then), here)
    for name, value in now.items():
        if name.startswith("fingerprints.") or name.startswith("made_of.") or name in _IDLE:
            continue
        if name not in known:
            unknown.append(name)
        elif known[name] != [value]:
            differ.append(Difference(name, tuple(known[name]), value))
    absent = [name for name in known if name not in now and name not in _IDLE]
    differ += [Difference(name, tuple(known[name]), "nothing") for name in absent]
    for group in ("machine", "prompts"):
        # A group of which nothing was recorded is named as a whole.
        leaves = {name for name in now if name.startswith(f"{group}.")} - _IDLE
        if leaves and leaves <= set(unknown):
            unknown = [*(name for name in unknown if name not in leaves), group]
    return differ, unknown


def _why(part: str, made_of: Mapping[str, Any] | None, then: str, here: Mapping[str, Any]) -> Iterator[Difference]:
    """Yield the differing values that a fingerprint names or that are behind its hash."""
    before = {**named_in(then), **(made_of or {})}
    after = {**named_in(str(here["fingerprints"][part])), **here["made_of"].get(part, {})}
    for name in sorted(before.keys() & after.keys()):
        if before[name] != after[name]:
            yield Difference(f"parts.{part}.{name}", (str(before[name]),), str(after[name]))


def _flat(values: Mapping[str, Any], above: str = "") -> dict[str, str]:
    """Return the leaves of a tree by dotted name, without those that are None."""
    leaves: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            leaves |= _flat(value, f"{above}{name}.")
        elif value is not None:
            leaves[f"{above}{name}"] = str(value)
    return leaves


def compare_units(
    runs: RunStore, plan: Plan, again: RunStore, replay: Run, tolerance: float = 0
) -> list[Agreement]:
    """Compare each unit of a plan with its replay in the store ``again``, as far as both are recorded.

    ``tolerance`` is the largest difference of scores that count as equal.
    """
    units = {unit.unit: unit for unit in again.units(replay.id)}
    return [_agreement(runs, plan, again, replay, unit, units.get(unit.unit), tolerance) for unit in plan.units]


def _agreement(
    runs: RunStore, plan: Plan, again: RunStore, replay: Run, unit: Unit, other: Unit | None, tolerance: float
) -> Agreement:
    then = {(step.step, step.attempt): step for step in _own(runs.steps(plan.run.id, unit.unit))}
    now = {(step.step, step.attempt): step for step in _own(again.steps(replay.id, unit.unit))}
    ended = unit.status in DONE
    keys = sorted(then.keys() | now.keys() if ended else then.keys())
    parted, worst, equal = None, 0, 0
    for key in keys:
        parted, level = _divergence(key, then.get(key), now.get(key), tolerance)
        worst = max(worst, level)
        if parted:
            break
        equal += 1
    ends = _ends_apart(plan, unit, other, tolerance) if ended else _OTHER if parted else 0
    both = [(then[key], now[key]) for key in keys if key in then and key in now]
    images = [pair for one, two in both for pair in zip(one.images, two.images, strict=False)]
    scores = [
        abs(one.score - two.score)
        for one, two in both
        if one.score is not None and two.score is not None and one.concept == two.concept
    ]
    label, score = _SEARCHED if plan.searches_only else _RESULTS[:2]
    return Agreement(
        unit=unit.unit,
        name=unit.name,
        verdict=_LEVELS[max(ends, worst)],
        label=getattr(unit, label),
        label_now=getattr(other, label, None),
        score=getattr(unit, score),
        score_now=getattr(other, score, None),
        steps=len(keys),
        equal_steps=equal,
        parted=parted,
        images=len(images),
        equal_images=sum(one == two for one, two in images),
        score_difference=max(scores, default=None),
        activation_difference=_activations_apart(runs, plan.run, again, replay, unit.unit, both),
        note=_note(unit, other, keys),
    )


def _note(unit: Unit, other: Unit | None, keys: Sequence[tuple[int, int]]) -> str:
    if unit.status not in DONE:
        return f"recorded as {unit.status} in step {keys[-1][0]}, and compared up to there"
    if other is None or other.status != unit.status:
        return (
            f"the replay is {other.status}{f': {other.error}' if other.error else ''}" if other else "not replayed"
        )
    return ""


def _own(history: Iterable[Step]) -> Iterator[Step]:
    """Yield the entries of the search itself."""
    return (step for step in history if step.kind != "revisit")


def _divergence(
    key: tuple[int, int], then: Step | None, now: Step | None, tolerance: float
) -> tuple[Divergence | None, int]:
    """Find the first difference of a step beyond the tolerance, and the level of its difference."""
    if then is None or now is None:
        kinds = [f"{step.kind}: {step.outcome}" if step else None for step in (then, now)]
        return Divergence(*key, "step", *kinds), _LEVELS.index("same label")
    worst = 0
    for name in _COMPARED:
        one, two = getattr(then, name), getattr(now, name)
        # Earlier versions recorded neither the hash of a prompt nor its hints.
        if then.prompt is None and name in {"prompt", "detail"}:
            continue
        if name == "detail":
            one, two = _without_new(one, two)
        apart = _apart(one, two, tolerance)
        if name == "prompt" and tolerance:
            # It lists scores: a different digit matters only if the reply differs.
            apart = min(apart, 1)
        if apart == _OTHER:
            return Divergence(*key, _SHOWN.get(name, name), one, two), _LEVELS.index("same label")
        worst = max(worst, apart)
    return None, worst


def _without_new(one: Any, two: Any) -> tuple[Any, Any]:
    """Leave out of two details of steps what earlier versions did not record: the similarity of near concepts."""
    if not all(isinstance(detail, dict) and "reason" in detail for detail in (one, two)):
        return one, two
    kept = [{key: value for key, value in detail.items() if key != "nearest"} for detail in (one, two)]
    return kept[0], kept[1]


def _ends_apart(plan: Plan, unit: Unit, other: Unit | None, tolerance: float) -> int:
    """Return the level of difference of two results; what was not recorded is not compared."""
    if other is None or other.status != unit.status:
        return _OTHER
    names = _SEARCHED if plan.searches_only else _RESULTS
    apart = {
        name: _apart(getattr(unit, name), getattr(other, name), tolerance)
        for name in names
        if getattr(unit, name) not in {None, ()}
    }
    if apart.get(names[0], 0):
        return _OTHER
    return min(max(apart.values(), default=0), _LEVELS.index("same label"))


def _apart(one: Any, two: Any, tolerance: float) -> int:
    """Return the level of difference of two values: 0 equal, 1 within the tolerance, ``_OTHER`` beyond."""
    if one == two:
        return 0
    if isinstance(one, float | int) and isinstance(two, float | int):
        return 1 if abs(one - two) <= tolerance else _OTHER
    if isinstance(one, list | tuple) and isinstance(two, list | tuple) and len(one) == len(two):
        return max((_apart(*pair, tolerance) for pair in zip(one, two, strict=True)), default=0)
    if isinstance(one, Mapping) and isinstance(two, Mapping) and one.keys() == two.keys():
        return max((_apart(one[name], two[name], tolerance) for name in one), default=0)
    return _OTHER


def _activations_apart(
    runs: RunStore, run: Run, again: RunStore, replay: Run, unit: int, both: Iterable[tuple[Step, Step]]
) -> float | None:
    """Return the largest difference of activations on images of one concept in the same place."""
    places = [
        pair
        for one, two in both
        if one.concept == two.concept
        for pair in zip(one.images, two.images, strict=False)
    ]
    sides = ((runs, run, [one for one, _ in places]), (again, replay, [two for _, two in places]))
    then, now = (
        stored_activations(opened.path.parent, images, str(of.fingerprints.get("target")), of.layer, unit)
        for opened, of, images in sides
    )
    found = [abs(one - two) for one, two in zip(then, now, strict=True) if one is not None and two is not None]
    return max(found, default=None)
