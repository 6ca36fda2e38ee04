"""Select the units of a layer, also by how they respond on the control set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

from line_neurons.agent.errors import UsageError
from line_neurons.graphs.runs.components import Components
from line_neurons.graphs.runs.preflight import check_selection
from line_neurons.tools.control_sets.unit_statistics import UnitStatistics, unit_statistics
from line_neurons.tools.targets.base import find_layer
from line_neurons.tools.targets.unit_selectors import parse_units


def select_units(
    components: Components, layer: str, selectors: Sequence[str]
) -> tuple[list[int], Sequence[str] | None]:
    """Return the selected units, and the names of all units of the layer if they have names.

    The control set is measured only where a selector needs it.

    Raises:
        UsageError: there is no such layer or unit, or a setting does not fit the layer.
        LineError: the control set cannot be measured.
    """
    units, names, _ = _select(components, layer, selectors, measured=False)
    return units, names


def select_with_statistics(
    components: Components, layer: str, selectors: Sequence[str]
) -> tuple[list[int], Sequence[str] | None, UnitStatistics]:
    """Return selected units, the names of all, and their statistics; see ``select_units``."""
    units, names, found = _select(components, layer, selectors, measured=True)
    assert found is not None
    return units, names, found


def measured_statistics(components: Components, layer: str) -> Callable[[], UnitStatistics]:
    """Return what measures the control set at a layer when it is first called.

    Called, it raises a UsageError where there is no control set.
    """

    @lru_cache(1)
    def statistics() -> UnitStatistics:
        control = components.control(layer)
        if control is None:
            raise UsageError(
                "how units respond is known from a control set, and there is none",
                "name one with --control, such as bank",
            )
        return unit_statistics(control)

    return statistics


def _select(
    components: Components, layer: str, selectors: Sequence[str], *, measured: bool
) -> tuple[list[int], Sequence[str] | None, UnitStatistics | None]:
    check_selection(components, layer, selectors)
    names = components.target.unit_names(layer)
    info = find_layer(components.target.layers(), layer, components.model)
    statistics = measured_statistics(components, layer)
    units = parse_units(
        selectors, info.units, names, seed=components.settings.seed, layer=layer, statistics=statistics
    )
    components.check(layer)
    return units, names, statistics() if measured else None
