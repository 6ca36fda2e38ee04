"""Values of records as ``evaluations.db`` holds them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from line_neurons.agent.text import storable_text
from line_neurons.tools.json_text import loads

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def stored_fields(record: DataclassInstance) -> dict[str, Any]:
    """Return the fields of a record: texts that can be stored, and None for a number that is not finite."""
    return {
        name: storable_text(value) if isinstance(value, str) else value
        for name, value in finite(asdict(record)).items()
    }


def finite(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Return numbers by name, with None for one that is not finite."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in numbers.items()
    }


def read_numbers(text: Any) -> dict[str, Any]:
    """Read numbers by name from the JSON object in a column.

    Raises:
        TypeError: it is no object, or no text.
        ValueError: it is no JSON.
    """
    found = loads(text)
    if not isinstance(found, dict):
        raise TypeError("no object")
    return found
