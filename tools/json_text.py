"""JSON from files and databases."""

from __future__ import annotations

import json
from typing import Any


def loads(text: str | bytes, **options: Any) -> Any:
    """Parse JSON; text that is nested too deeply is refused as any malformed text is.

    Raises:
        ValueError: it is not valid JSON.
    """
    try:
        return json.loads(text, **options)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
