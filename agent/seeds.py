"""Seeds: every random choice is a function of the run's seed and of what is being chosen."""

from __future__ import annotations

import hashlib
import json
from random import Random

SEED_LIMIT = 2**31


def derive_seed(*parts: str | int) -> int:
    """Return a seed in [0, 2**31) that depends on every part and on nothing else."""
    digest = hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).digest()
    return int.from_bytes(digest[:8], "big") % SEED_LIMIT


def derive_rng(*parts: str | int) -> Random:
    """Return a random generator seeded by ``derive_seed(*parts)``."""
    return Random(derive_seed(*parts))
