"""Parse unit selectors (numbers, ranges, names, a random draw, a file) into unit indices."""

from __future__ import annotations

import csv
import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from line_neurons.agent.errors import UsageError
from line_neurons.agent.near_names import CLOSE, near_names
from line_neurons.tools.json_text import loads

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_NUMBERS = re.compile(r"(-?[0-9]+)(?:\s*-\s*([0-9]+))?")
_DRAWN = re.compile(r"random:\s*(.*)", re.IGNORECASE)
_RESPONDING = re.compile(
    r"(?:alive|density:(?P<low>[0-9.]+)-(?P<high>[0-9.]+))(?::random:\s*(?P<drawn>.*))?|strongest:\s*(?P<strongest>.*)",
    re.IGNORECASE,
)
_COSY_SEED, _COSY_UNITS = 42, 50
_EXAMPLES = 5
_UNIT_COLUMNS = ("unit", "neuron")
_FORMS = 'a file has a column unit or neuron, a unit a line, or is JSON: {"LAYER": [UNIT, ...]}'


class Responses(Protocol):
    """How the units of a layer respond on the control set; see ``UnitStatistics``."""

    @property
    def density(self) -> NDArray[np.float64]:
        """Share of the images on which each unit is above 0."""

    @property
    def maximum(self) -> NDArray[np.float32]:
        """Largest activation of each unit; minus infinity of one that is not to be selected."""

    @property
    def alive(self) -> NDArray[np.bool_]:
        """Whether each unit is not the same on all images."""


def parse_units(
    selectors: Iterable[str],
    n_units: int,
    names: Sequence[str] | None = None,
    *,
    seed: int,
    layer: str,
    statistics: Callable[[], Responses] | None = None,
) -> list[int]:
    """Return the indices of the units that ``selectors`` name, in the given order, each once.

    Args:
        selectors: ``7``, ``10-20`` (both ends included), ``all``, a class name in any case, ``random:50`` (50
            units drawn with the seed), ``cosy`` (the units of the CoSy benchmark: 50 drawn with seed 42, or all in
            that order where the layer has fewer), ``@FILE`` (see ``read_selectors``); by how they respond on the
            control set: ``alive``, ``density:.001-.1`` (share of the images, both ends included), either with
            ``:random:50``, and ``strongest:100`` (those with the largest activations); or several of these with
            commas between. A name that itself has a comma is understood as a whole first.
        layer: dotted path of the layer; picks the rows of a file that has a column for it.
        statistics: how the units respond on the control set; called where a selector needs it.

    Raises:
        UsageError: a number is out of range, a name is unknown or names several units, a file cannot be read, or
            nothing is named.
    """
    known = _Layer(layer, n_units, names, seed, statistics)
    units = dict.fromkeys(unit for selector in selectors for unit in _select(selector.strip(), known))
    if not units:
        raise UsageError("no unit is named", f"give numbers or ranges in 0-{n_units - 1}")
    return list(units)


def check_selectors(selectors: Iterable[str], layer: str | None = None) -> None:
    """Check the files that selectors name before a model is loaded; the units in them are looked up later.

    Without ``layer`` all rows of a table are taken.

    Raises:
        UsageError: a file cannot be read, or names no unit of the layer.
    """
    for selector in selectors:
        if _is_file(text := selector.strip()):
            read_selectors(Path(text[1:]).expanduser(), layer)


@dataclass(frozen=True)
class _Layer:
    path: str
    units: int
    names: Sequence[str] | None
    seed: int
    statistics: Callable[[], Responses] | None = None
    by_name: dict[str, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for index, name in enumerate(self.names or ()):
            self.by_name.setdefault(name.casefold(), []).append(index)


def _select(text: str, layer: _Layer) -> Iterable[int]:
    """Return the units of one selector."""
    found = _listed(text, layer)
    if found is not None:
        return found
    if text.casefold() in {"all", "cosy"}:
        cosy = text.casefold() == "cosy"
        return _drawn(min(_COSY_UNITS, layer.units), layer.units, _COSY_SEED) if cosy else range(layer.units)
    if _is_file(text):
        return _from_file(text[1:], layer)
    if "," in text:
        parts = [part.strip() for part in text.split(",") if part.strip()]
        return [unit for part in parts for unit in _select(part, layer)]
    if drawn := _DRAWN.fullmatch(text):
        return _drawn(_count(drawn[1], text, layer.units, layer), layer.units, layer.seed)
    if responding := _RESPONDING.fullmatch(text):
        return _by_response(text, responding, layer)
    raise _unknown(text, layer)


def _count(text: str, selector: str, most: int, layer: _Layer) -> int:
    count = int(text) if re.fullmatch("[0-9]{1,18}", text) else 0
    if not 1 <= count <= most:
        raise UsageError(
            f"{selector!r:.80} does not say how many units to draw", f"layer {layer.path} has 1 to {most}"
        )
    return count


def _by_response(text: str, found: re.Match[str], layer: _Layer) -> list[int]:
    """Return the units that respond on the control set as a selector says."""
    import numpy as np

    if layer.statistics is None:
        raise UsageError(f"{text!r:.80} needs a control set", "name units by number, or random:50")
    if found["strongest"] is not None:
        count = _count(found["strongest"], text, layer.units, layer)
        maximum = layer.statistics().maximum
        order = np.argsort(-maximum, kind="stable")[:count]
        return [int(unit) for unit in order if maximum[unit] > -np.inf]
    low, high = 0.0, 1.0
    if found["low"] is not None:
        low, high = (_share(found[name], text) for name in ("low", "high"))
        if low > high:
            raise UsageError(f"{text!r:.80} runs backwards", f"write density:{found['high']}-{found['low']}")
    known = layer.statistics()
    within = (known.density >= low) & (known.density <= high)
    chosen = np.flatnonzero(known.alive if found["low"] is None else within)
    if not len(chosen):
        raise UsageError(
            f"{text!r:.80} fits none of the {layer.units:,} units of {layer.path}",
            "`line units` lists how they respond",
        )
    if found["drawn"] is None:
        return [int(unit) for unit in chosen]
    count = _count(found["drawn"], text, len(chosen), layer)
    return [int(chosen[place]) for place in _drawn(count, len(chosen), layer.seed)]


def _share(text: str, selector: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UsageError(f"{selector!r:.80} names no share of the images", "write it as density:.001-.1")
    return share


def _is_file(text: str) -> bool:
    """Tell whether a selector names a file; a name of a class may begin with ``@``, too."""
    return text.startswith("@") and ("," not in text or Path(text[1:]).expanduser().is_file())


def _drawn(count: int, n_units: int, seed: int) -> list[int]:
    return random.Random(seed).sample(range(n_units), count)


def _from_file(name: str, layer: _Layer) -> Iterable[int]:
    for line, text in read_selectors(Path(name).expanduser(), layer.path):
        try:
            found = _listed(text, layer)
            if found is None:
                raise _unknown(text, layer)
        except UsageError as error:
            error.message = f"{name}{f' line {line}' if line else ''}: {error.message}"
            raise
        yield from found


def _listed(text: str, layer: _Layer) -> Iterable[int] | None:
    """Return the units of a number, a range or a name; None if it is none of these."""
    last = layer.units - 1
    if numbers := _NUMBERS.fullmatch(text):
        first, end = (int(number) if len(number) < 20 else -1 for number in (numbers[1], numbers[2] or numbers[1]))
        if 0 <= end < first <= last:
            raise UsageError(f"the range {text:.80} runs backwards", f"write {end}-{first}")
        if not 0 <= first <= end <= last:
            raise UsageError(f"unit {text:.80} is not one of this layer's", f"units are 0-{last}")
        return range(first, end + 1)
    named = layer.by_name.get(text.casefold())
    if named and len(named) > 1:
        raise UsageError(f"{text!r} names the units {' and '.join(map(str, named))}", "give the number instead")
    return named


def _unknown(text: str, layer: _Layer) -> UsageError:
    last = layer.units - 1
    if layer.names is None:
        return UsageError(
            f"unit {text!r:.80} is not a number, and this layer's units have no names", f"units are 0-{last}"
        )
    near = near_names(text, layer.names, least=CLOSE)
    listed = ", ".join(layer.names[:_EXAMPLES]) + (", ..." if len(layer.names) > _EXAMPLES else "")
    return UsageError(
        f"no unit is named {text!r:.80}{'; ' + near if near else ''}",
        f"units are named {listed:.200}, or by number 0-{last}",
    )


def read_selectors(path: Path, layer: str | None) -> list[tuple[int, str]]:
    """Read the units in a UTF-8 file, each with its line number (from 1; 0 where a file has JSON).

    A JSON object has lists of units by layer, as MAIA's files of units do.
    A first line that has a column ``unit`` or ``neuron`` makes it a CSV table; of a table with a column ``layer``
    only the rows of this layer are taken, or all if it is None. Any other file names a unit in each line that is
    not blank.

    Raises:
        UsageError: the file cannot be read, is not UTF-8, is no CSV, or names no unit of the layer.
    """
    text = _read(path)
    if text.lstrip().startswith("{"):
        return _of_json(path, text, layer)
    lines = text.splitlines()
    table = csv.reader(lines)
    try:
        heading = [cell.strip().casefold() for cell in next(table, [])]
        column = next((heading.index(name) for name in _UNIT_COLUMNS if name in heading), None)
        if column is None:
            found = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
        else:
            rows = [(table.line_num, row) for row in table if any(cell.strip() for cell in row)]
            found = _of_layer(path, rows, column, heading.index("layer") if "layer" in heading else None, layer)
    except csv.Error as error:
        raise UsageError(f"{path} line {table.line_num} is no CSV: {error}", _FORMS) from None
    if not found:
        raise UsageError(f"{path} names no unit", _FORMS)
    return found


def _of_json(path: Path, text: str, wanted: str | None) -> list[tuple[int, str]]:
    try:
        by_layer = loads(text)
    except ValueError as error:
        raise UsageError(f"{path} is no JSON: {error}", _FORMS) from None
    for layer, units in by_layer.items():
        if not isinstance(units, list) or not all(type(unit) in {int, str} for unit in units):
            raise UsageError(f"{path} has no list of units for {layer!r:.80}", _FORMS)
    found = [(0, str(unit)) for layer, units in by_layer.items() if wanted in {None, layer} for unit in units]
    if not found:
        raise UsageError(
            f"{path} names no unit of layer {wanted}", f"its layers: {', '.join(by_layer)[:200] or 'none'}"
        )
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}", _FORMS) from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", "name a file with @FILE") from None
    except ValueError as error:
        raise UsageError(f"{str(path)!r} is not the name of a file: {error}", "name a file with @FILE") from None


def _of_layer(
    path: Path, rows: list[tuple[int, list[str]]], unit: int, layer: int | None, wanted: str | None
) -> list[tuple[int, str]]:
    for number, row in rows:
        if max(unit, layer or 0) >= len(row) or not row[unit].strip():
            raise UsageError(f"{path} line {number} has no unit", _FORMS)
    found = [
        (number, row[unit].strip())
        for number, row in rows
        if layer is None or wanted in {None, row[layer].strip()}
    ]
    if rows and layer is not None and not found:
        others = ", ".join(dict.fromkeys(row[layer].strip() for _, row in rows))
        raise UsageError(f"{path} names no unit of layer {wanted}", f"its layers: {others:.200}")
    return found
