"""Findings of the checks of the installation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warn", "missing", "broken"]


@dataclass(frozen=True)
class Finding:
    """Result of the check of one component.

    Args:
        status: ``warn`` stops nothing; ``missing`` and ``broken`` need the remedy.
        detail: a version, a number, or what is wrong; one line.
        remedy: what to do; empty if there is nothing to do.
    """

    part: str
    status: Status
    detail: str
    remedy: str = ""
