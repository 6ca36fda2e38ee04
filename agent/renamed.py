"""Settings' names and values of earlier versions: in files, environments, calls and recorded runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RENAMED: Mapping[str, str] = {
    "in_flight": "max_concurrent_units",
    "batch_wait": "batch_timeout",
    "give_up": "max_consecutive_failures",
    "hotter": "retry_temperature_step",
}
"""Settings' names by the names that they had before."""

_RENAMED_VALUES: Mapping[tuple[str, str], str] = {("init", "bank"): "cache"}


def current_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings under their current names and values; a current name wins over an old one."""
    renamed: dict[str, Any] = {}
    for name, value in settings.items():
        current = RENAMED.get(name, name)
        if current == name or current not in settings:
            known = isinstance(value, str) and (current, value) in _RENAMED_VALUES
            renamed[current] = _RENAMED_VALUES[current, value] if known else value
    return renamed
