"""JSON from files and databases."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError


def loads(text: str | bytes, **options: Any) -> Any:
    """Parse JSON; text that is nested too deeply is refused as any malformed text is.

    Raises:
        ValueError: it is not valid JSON.
    """
    try:
        return json.loads(text, **options)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def invalid_field(error: ValidationError) -> str:
    """Describe the first field that does not fit, without its value."""
    first = error.errors(include_input=False, include_url=False)[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
