"""Files that name units: a CSV table with a column for them, or a plain list."""

from __future__ import annotations

import csv
from pathlib import Path

from line_neurons.agent.errors import UsageError

_UNIT_COLUMNS = ("unit", "neuron")
_FORMS = "a file has a column unit or neuron, or a unit a line"


def read_selectors(path: Path, layer: str) -> list[tuple[int, str]]:
    """Units that a file names, each with its line (from 1).

    A first line that has a column ``unit`` or ``neuron`` makes it a CSV table; of a table with a column ``layer``
    only the rows of this layer are taken. Any other file names a unit in each line that is not blank.

    Args:
        path: the file, UTF-8.
        layer: dotted path of the layer.

    Raises:
        UsageError: the file cannot be read, is not UTF-8, is no CSV, or names no unit of the layer.
    """
    lines = _read(path).splitlines()
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
    path: Path, rows: list[tuple[int, list[str]]], unit: int, layer: int | None, wanted: str
) -> list[tuple[int, str]]:
    for number, row in rows:
        if max(unit, layer or 0) >= len(row) or not row[unit].strip():
            raise UsageError(f"{path} line {number} has no unit", _FORMS)
    found = [(number, row[unit].strip()) for number, row in rows if layer is None or row[layer].strip() == wanted]
    if rows and layer is not None and not found:
        others = ", ".join(dict.fromkeys(row[layer].strip() for _, row in rows))
        raise UsageError(f"{path} names no unit of layer {wanted}", f"its layers: {others:.200}")
    return found
