"""Tell the singular of English nouns, so that a concept and its plural count as the same.

inflect forms plurals well, but its singulars are made by stripping: "lens" becomes "len". So a word in -s is taken
for a plural only where inflect cannot make a plural of it, the few words left are in a table, and what is returned
need not be a word, as long as both numbers of a noun lead to it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import inflect

# All plurals that inflect knows end so; other words need not wait for its import.
_LIKE_A_PLURAL = re.compile(r"(?:s|men|people|children|brethren|oxen|geese|feet|teeth|mice|lice|dice|ae|ia)$")
# "magpies" could be of "magpie" or "magpy", "wrasses" of "wrasse" or "wrass": the two count as one.
_SPELLINGS = ((re.compile(r"(?<=..)ie$"), "y"), (re.compile(r"(?<=ss|ch|sh|tz|.x)e$"), ""))

_SINGULARS = frozenset({
    "christmas", "clematis", "cyclops", "flandres", "hercules", "mars", "necropolis", "pampas", "pancreas",
    "patas", "pyrenees", "tennis", "thermos", "triceratops",
})  # fmt: skip
"""Singular nouns of which inflect makes no plural in -es."""

_PLURALS = {
    **{f"{noun}s": noun for noun in (
        "bayou", "borzoi", "bureau", "caribou", "chateau", "clipper", "emu", "gateau", "gnu", "guru", "haiku",
        "hoopoe", "kudu", "luau", "marabou", "menu", "pajama", "picchu", "pilau", "plateau", "portmanteau",
        "pyjama", "sudoku", "tableau", "tamandu", "taxi", "tinamou", "titi", "tofu", "tutu", "tzu", "wapiti",
        "zebu",
    )},
    "antennae": "antenna", "appendices": "appendix", "bureaux": "bureau", "cacti": "cactus", "chateaux": "chateau",
    "fungi": "fungus", "gateaux": "gateau", "hippopotami": "hippopotamus", "indices": "index", "larvae": "larva",
    "matrices": "matrix", "octopi": "octopus", "plateaux": "plateau", "tableaux": "tableau",
    "vertebrae": "vertebra", "vertices": "vertex",
}  # fmt: skip
"""Plurals that inflect takes for singulars, and plurals of Latin and French that it does not know."""


@lru_cache(maxsize=65_536)
def singular(word: str) -> str:
    """Reduce a noun in lower case to the form that its singular and its plural share."""
    # Again, where a singular looks like a plural: "omens" is "omen", which inflect reads as men.
    for _ in range(3):
        word = _without_plural(word)
    for ending, common in _SPELLINGS:
        word = ending.sub(common, word)
    return word


def _without_plural(word: str) -> str:
    if word in _PLURALS:
        return _PLURALS[word]
    if len(word) <= 3 or word in _SINGULARS or not word.isalpha() or not _LIKE_A_PLURAL.search(word):
        return word
    engine = _engine()
    if word.endswith("s") and engine.plural_noun(word) != f"{word}s":
        return word
    return str(engine.singular_noun(word) or word)


_IMPORTING = Lock()


@lru_cache(maxsize=1)
def _engine() -> inflect.engine:
    from unittest.mock import patch

    # typeguard rewrites each of inflect's methods to check the types of its arguments, which takes two seconds.
    with _IMPORTING, patch("typeguard.typechecked", lambda method: method):
        import inflect

    return inflect.engine()
