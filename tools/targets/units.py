"""Turn what a user typed for units (numbers, ranges, class names) into unit indices."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from line_neurons.agent.errors import UsageError
from line_neurons.tools.targets.lookup import near_names

_NUMBERS = re.compile(r"(-?\d+)(?:\s*-\s*(\d+))?")


def parse_units(selectors: Iterable[str], n_units: int, names: Sequence[str] | None = None) -> list[int]:
    """Indices of the units that ``selectors`` name, in the order given, each once.

    Args:
        selectors: ``7``, ``10-20`` (both ends included), ``all``, a class name in any case, or several of
            these with commas between. A name that itself has a comma is understood as a whole first.
        n_units: number of units of the layer.
        names: the units' names if they are output classes.

    Raises:
        UsageError: a number is out of range, a name is unknown or names several units, or nothing is named.
    """
    by_name: dict[str, list[int]] = {}
    for index, name in enumerate(names or ()):
        by_name.setdefault(name.casefold(), []).append(index)
    units = dict.fromkeys(
        unit for selector in selectors for unit in _select(selector.strip(), n_units, names, by_name)
    )
    if not units:
        raise UsageError("no unit is named", f"give numbers or ranges in 0-{n_units - 1}")
    return list(units)


def _select(text: str, n_units: int, names: Sequence[str] | None, by_name: dict[str, list[int]]) -> Iterable[int]:
    numbers = _NUMBERS.fullmatch(text)
    if numbers:
        first = int(numbers[1])
        last = int(numbers[2]) if numbers[2] else first
        if not 0 <= first <= last < n_units:
            raise UsageError(f"unit {text} is not one of this layer's", f"units are 0-{n_units - 1}")
        return range(first, last + 1)
    named = by_name.get(text.casefold(), [])
    if len(named) > 1:
        numbered = " and ".join(map(str, named))
        raise UsageError(f"{text!r} names the units {numbered}", "give the number instead")
    if named:
        return named
    if text.casefold() == "all":
        return range(n_units)
    if "," in text:
        parts = [part.strip() for part in text.split(",") if part.strip()]
        return [unit for part in parts for unit in _select(part, n_units, names, by_name)]
    if names is None:
        raise UsageError(
            f"unit {text!r} is not a number, and this layer's units have no names",
            f"units are 0-{n_units - 1}",
        )
    near = near_names(text, names)
    raise UsageError(
        f"no unit is named {text!r}{'; ' + near if near else ''}", f"units by number are 0-{n_units - 1}"
    )
