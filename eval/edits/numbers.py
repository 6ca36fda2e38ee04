"""Numbers of a unit from its measured edits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING, Any

import numpy as np

from line_neurons.eval.edits.checks import OK, VERDICTS
from line_neurons.eval.edits.effects import Effect, effect_of, relative_drop, specificity
from line_neurons.tools.store.results.edits import EditArm

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from line_neurons.agent.ports import Control

    Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Measured:
    """The arms of one image, with the activations of the layer.

    Args:
        arms: see ``EditArm``.
        vectors: float32 [n_units] of each arm that has an image.
    """

    arms: Sequence[EditArm]
    vectors: Mapping[str, Vector]

    @property
    def verdict(self) -> str:
        """The verdict on the edit."""
        return next(arm.verdict for arm in self.arms if arm.arm == "concept")

    @property
    def is_edited(self) -> bool:
        """Return whether there is an edit, verified or not."""
        return "concept" in self.vectors

    @property
    def control(self) -> Vector:
        """Activations on the control edit; on the unchanged image where there is none of the same size."""
        return next(self.vectors[arm] for arm in ("elsewhere", "unchanged", "original") if arm in self.vectors)

    def effect(self, how: str) -> NDArray[np.float64]:
        """Return what the concept adds to the activation of each unit of the layer."""
        difference = self.control.astype(np.float64) - self.vectors["concept"]
        return -difference if how == "insert" else difference


def unit_numbers(
    measured: Sequence[Measured],
    unit: int,
    how: str,
    control: Control | None,
    deviations: NDArray[np.float64] | None,
    seed: int,
) -> tuple[dict[str, Any], NDArray[np.float64] | None]:
    """Compute the numbers of a unit.

    Args:
        control: activations on the control set; None without one.
        deviations: [n_units], standard deviations on the control set; None without one.

    Returns:
        the numbers by name, and the mean effect on every unit in standard deviations of the control set; None
        without a verified edit or a control set. Without a verified edit the numbers are nan, never 0.
    """
    edited = [one for one in measured if one.is_edited]
    verified = [one for one in edited if one.verdict == OK]
    effect, effect_all = (_effect(images, unit, how, seed) for images in (verified, edited))
    originals = _column(verified, "original", unit)
    numbers: dict[str, Any] = {
        "pictures": len(measured),
        **_verdicts(measured),
        "edited": len(edited),
        "unmatched": sum("elsewhere" not in one.vectors for one in verified),
        **{arm: _mean(_column(verified, arm, unit)) for arm in ("original", "unchanged", "concept", "elsewhere")},
        "drop": _mean(_differences(verified, "original", "concept", unit)),
        "control_drop": _mean(_differences(verified, "original", "elsewhere", unit)),
        "fell": sum(bool(one.effect(how)[unit] > 0) for one in verified),
        **_effect_numbers(effect, ""),
        **_effect_numbers(effect_all, "_all"),
        **dict.fromkeys(("relative", "z", "rank", "units", "other_unit", "other_max"), nan),
    }
    if control is None or deviations is None or not verified:
        return numbers, None
    if how != "insert":
        concept = _column(verified, "concept", unit)
        numbers["relative"] = relative_drop(originals, concept, float(control.column(unit).mean()))
    effects = np.stack([one.effect(how) for one in verified])
    found = specificity(effects, deviations, unit)
    if found:
        numbers |= {
            "z": found.z, "rank": found.rank, "units": found.units, "other_unit": found.other,
            "other_max": found.other_max,
        }  # fmt: skip
    numbers["rank_raw"] = 1 + int((effects.mean(0) > effects.mean(0)[unit]).sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        return numbers, np.where(deviations > 0, effects.mean(0) / deviations, -np.inf)


def own_first_units(effects: Mapping[int, NDArray[np.float64]]) -> dict[int, bool]:
    """Tell of each unit whether, of all evaluated units, it responds most to its own label's edits."""
    units = sorted(effects)
    return {unit: max(units, key=lambda other: effects[unit][other]) == unit for unit in units}


def _verdicts(measured: Sequence[Measured]) -> dict[str, int]:
    counted = Counter(one.verdict for one in measured)
    return {verdict.replace(" ", "_"): counted[verdict] for verdict in VERDICTS}


def _effect(images: Sequence[Measured], unit: int, how: str, seed: int) -> Effect:
    return effect_of([float(one.effect(how)[unit]) for one in images], seed)


def _effect_numbers(effect: Effect, suffix: str) -> dict[str, Any]:
    summary = effect.summary
    named = {"effect": summary.mean, "low": summary.low, "high": summary.high, "test": effect.test, "p": effect.p}
    return {f"{name}{suffix}": value for name, value in named.items()}


def _column(images: Sequence[Measured], arm: str, unit: int) -> list[float]:
    return [float(one.vectors[arm][unit]) for one in images if arm in one.vectors]


def _differences(images: Sequence[Measured], one: str, other: str, unit: int) -> list[float]:
    return [
        float(image.vectors[one][unit] - image.vectors[other][unit]) for image in images if other in image.vectors
    ]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else nan
