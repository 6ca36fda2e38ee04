"""Names of new runs; light, so that a command can say the name before anything is loaded."""

from __future__ import annotations

import re
from collections.abc import Collection

from line_neurons.tools.target_specs import unversioned_spec


def free_name(used: Collection[str], model: str, layer: str) -> str:
    """Return a readable id for a new run: model without its version, layer, the first free number."""
    base = unversioned_spec(model)
    stem = re.sub(r"[^A-Za-z0-9._-]+", "_", f"{base.partition(':')[2] or base}-{layer}")[:60]
    number = 1
    while f"{stem}-{number}" in used:
        number += 1
    return f"{stem}-{number}"
