"""Spreads of recorded scores: their standard errors, computed from the activations in the cache.

Nothing of them is stored, so runs of every version have them. A spread is None where an activation is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from line_neurons.tools.cache.reader import control_key, stored_control, unit_activations
from line_neurons.tools.store.records import Run, Step, Unit

if TYPE_CHECKING:
    from line_neurons.agent.ports import Activations, Control

_Scored = tuple[int, tuple[str, ...]]
"""A unit, and the images that it was scored on."""


class Spreads:
    """The spreads of the scores of a run; see ``tools.scorers.standard_error``.

    Each is computed once. One that is not known yet is looked up again by the next call, since a process may be
    measuring the images.
    """

    def __init__(self, store: Path, run: Run) -> None:
        self._store = store
        self._run = run
        self._known: dict[_Scored, float] = {}
        self._control: Control | None = None

    def of_units(self, units: Iterable[Unit]) -> list[float | None]:
        """Return the spread of each unit's label; None without a score too.

        Raises:
            StoreError: the cache cannot be read.
        """
        return self._read([(unit.unit, () if unit.score is None else unit.images) for unit in units])

    def of_steps(self, steps: Iterable[Step]) -> list[float | None]:
        """Return the spread of each step's concept; errors as of ``of_units``."""
        return self._read([(step.unit, () if step.score is None else step.images) for step in steps])

    def of_board(
        self, board: Sequence[tuple[str, float]], history: Sequence[Step]
    ) -> dict[tuple[str, float], float | None]:
        """Return the spread of each entry of a unit's scoreboard.

        A concept may have been scored several times: the step that gave this score counts.
        """
        by_score = {(step.concept, step.score): step for step in history if step.outcome == "scored"}
        entries = [entry for entry in dict.fromkeys(board) if entry in by_score]
        spreads = self.of_steps(by_score[entry] for entry in entries)
        return dict.fromkeys(board) | dict(zip(entries, spreads, strict=True))

    def _read(self, scored: Sequence[tuple[int, Sequence[str]]]) -> list[float | None]:
        # A repeated image tells nothing new.
        keys = [(unit, tuple(dict.fromkeys(images))) for unit, images in scored]
        unknown = [key for key in dict.fromkeys(keys) if key[1] and key not in self._known]
        target = self._run.fingerprints.get("target")
        if unknown and isinstance(target, str):
            wanted = ((image, unit) for unit, images in unknown for image in images)
            values = unit_activations(self._store, target, self._run.layer, wanted)
            self._compute(unknown, values)
        return [self._known.get(key) for key in keys]

    def _compute(self, unknown: Iterable[_Scored], values: Mapping[tuple[str, int], float]) -> None:
        import numpy as np

        from line_neurons.tools.scorers import SCORERS, standard_error

        scorer = str(self._run.settings.get("scorer"))
        if scorer not in SCORERS:
            return
        for unit, images in unknown:
            activations = [values[image, unit] for image in images if (image, unit) in values]
            control = self._control_of(unit) if SCORERS[scorer].needs_control else np.empty(0, np.float32)
            if control is None or len(activations) < len(images):
                continue
            try:
                error = standard_error(scorer, np.asarray(activations, np.float32), control)
            except ValueError:
                # Control activations that are not finite, which no version keeps.
                continue
            if error is not None:
                self._known[unit, images] = error

    def _control_of(self, unit: int) -> Activations | None:
        """Return a unit's activations on the control set; None if the store has none."""
        names = [self._run.fingerprints.get("target"), self._run.layer, self._run.fingerprints.get("control")]
        known = [name for name in names if isinstance(name, str)]
        if self._control is None and len(known) == len(names):
            self._control = stored_control(self._store, control_key(*known))
        if self._control is None or not 0 <= unit < self._control.units:
            return None
        return self._control.column(unit)
