"""Names that resemble a mistyped one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import PurePath

SIMILAR = 0.5
"""Similarity from which a name is suggested, as difflib computes it."""
CLOSE = 0.7
"""Similarity from which a name is suggested where there may be thousands, such as of classes and files."""
MISTYPED = 0.8
"""Similarity from which a name is taken for a mistyped one."""
_MOST = 5


def similar_names(name: str, names: Iterable[str], *, least: float = SIMILAR) -> list[str]:
    """Return up to five of ``names`` that resemble ``name`` in any case, the most similar first."""
    known = {candidate.casefold(): candidate for candidate in names}
    return [known[key] for key in difflib.get_close_matches(name.casefold(), known, n=_MOST, cutoff=least)]


def near_names(name: str, names: Iterable[str], *, least: float = SIMILAR, prefix: str = "") -> str:
    """Suggest up to five similar ``names``, as ``near: a, b``; empty if none is similar.

    A ``prefix`` that all have does not count for their similarity. Below ``MISTYPED`` names that contain ``name``
    are similar, too.

    >>> near_names("radnom", ["random", "embedded"])
    'near: random'
    """
    known = {candidate.removeprefix(prefix).casefold(): candidate for candidate in names}
    folded = name.removeprefix(prefix).casefold()
    near = similar_names(folded, known, least=least)
    if least < MISTYPED:
        near += [key for key in known if folded and folded in key and key not in near]
    return "near: " + ", ".join(known[key] for key in near[:_MOST]) if near else ""


def near_paths(path: str, beside: Iterable[str]) -> str:
    """Suggest the paths ``beside`` a missing one with nearly its name; folders and extensions do not count.

    >>> near_paths("data/photos", ["data/fotos", "data/labels"])
    'near: data/fotos'
    """
    stems = {other: PurePath(other).stem.casefold() for other in beside}
    near = similar_names(PurePath(path).stem, stems.values(), least=CLOSE)
    found = [other for name in near for other, stem in stems.items() if stem == name]
    return "near: " + ", ".join(found[:_MOST]) if found else ""


def choices(name: str, names: Iterable[str]) -> str:
    """Return the remedy for an unknown name: similar ``names`` first, then all of them.

    >>> choices("paepr", ["paper"])
    'near: paper; choose from paper'
    """
    known = list(names)
    near = near_names(name, known)
    return f"{near + '; ' if near else ''}choose from {', '.join(known)}"
