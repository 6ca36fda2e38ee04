"""Edits of a unit's images as rows and sentences, for the command, the app and the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from line_neurons.agent.text import short_score
from line_neurons.tools.store.results.edits import EditArm, EditedUnit, EditResult

_UNKNOWN = "–"  # noqa: RUF001 - what typesetters put there


@dataclass(frozen=True)
class EditedImage:
    """An image with its edit and its control edit.

    Args:
        detail: why there is none, or what speaks against it.
        arms: those with an image, of original, concept and elsewhere.
    """

    name: str
    verdict: str
    detail: str
    arms: tuple[EditArm, ...]

    @property
    def images(self) -> tuple[str, ...]:
        """Ids of the images."""
        return tuple(arm.image for arm in self.arms)

    @property
    def activations(self) -> tuple[float, ...]:
        """The unit's activation on each image."""
        return tuple(arm.activation for arm in self.arms)


@dataclass(frozen=True)
class UnitEdits:
    """One evaluation of a unit's edits.

    Args:
        title: what was edited, how and by what.
    """

    title: str
    summary: str
    images: tuple[EditedImage, ...]


def unit_edits(results: Sequence[EditResult]) -> tuple[UnitEdits, ...]:
    """Return the evaluations of one unit's edits, in their order."""
    return tuple(
        UnitEdits(_title(result, unit), _summary(unit), _images(result))
        for result in results
        for unit in result.units
    )


def _title(result: EditResult, unit: EditedUnit) -> str:
    evaluation = result.evaluation
    return f"{evaluation.how} {unit.label}: editor {evaluation.editor}, verifier {evaluation.verifier}"


def _summary(unit: EditedUnit) -> str:
    numbers = unit.numbers
    verified, pictures = int(numbers.get("ok") or 0), int(numbers.get("pictures") or 0)
    if not verified:
        return f"0 of {pictures} edits verified; over all edits the effect is {_number(numbers.get('effect_all'))}"
    interval = ""
    if numbers.get("low") is not None and numbers.get("high") is not None:
        interval = f" [{_number(numbers['low'])}, {_number(numbers['high'])}]"
    p = numbers.get("p")
    tested = "" if p is None else f", p {'< .0001' if p < 0.0001 else f'= {p:.2g}'}"
    rank = numbers.get("rank")
    ranked = "" if rank is None else f", rank {rank} of {numbers.get('units')} units"
    return (
        f"effect {_number(numbers.get('effect'))}{interval}{tested}{ranked}; "
        f"{verified} of {pictures} edits verified"
    )


def _number(value: object) -> str:
    return short_score(float(value)) if isinstance(value, int | float) else _UNKNOWN


def _images(result: EditResult) -> tuple[EditedImage, ...]:
    places: dict[tuple[int, int], dict[str, EditArm]] = {}
    for arm in result.arms:
        places.setdefault((arm.unit, arm.place), {})[arm.arm] = arm
    found = []
    for arms in places.values():
        concept = arms.get("concept")
        if concept is not None and "original" in arms:
            shown = tuple(
                arms[name] for name in ("original", "concept", "elsewhere") if name in arms and arms[name].image
            )
            found.append(EditedImage(concept.name, concept.verdict, concept.detail, shown))
    return tuple(found)
