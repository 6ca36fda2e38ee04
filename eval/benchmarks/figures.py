"""What a benchmark found, as lines for people and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """One number that was measured.

    Args:
        what: its name.
        value: the number.
        n: how many things it was measured on.
        of: what those are.
        unit: the number's unit; empty for a ratio or a count.
        aim: what it should be, in words; empty if nothing is asked of it.
        detail: what it was made from.
    """

    what: str
    value: float
    n: int
    of: str = "units"
    unit: str = ""
    aim: str = ""
    detail: str = ""

    def __str__(self) -> str:
        """The number with how many things it was measured on, its aim and what it was made from."""
        number = f"{self.value:,.0f}" if float(self.value).is_integer() else f"{self.value:,.4g}"
        notes = [f"n = {self.n:,} {self.of}", f"aim {self.aim}" if self.aim else "", self.detail]
        return f"{self.what}: {number}{' ' * bool(self.unit)}{self.unit} ({'; '.join(filter(None, notes))})"


Found = Iterator[Figure | str]
"""Figures as they come, and remarks on how they were measured."""


def show(found: Iterable[Figure | str], file: Path | None) -> None:
    """Print each as it comes; at the end write all to a JSON file, if one is named."""
    kept: list[Figure | str] = []
    for one in found:
        print(one, flush=True)
        kept.append(one)
    if file:
        values = {
            "figures": [asdict(one) for one in kept if isinstance(one, Figure)],
            "remarks": [one for one in kept if isinstance(one, str)],
        }
        file.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
