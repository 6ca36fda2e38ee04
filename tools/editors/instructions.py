"""What models that edit images are told, by kind of edit: the usual words, or a user's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from line_neurons.agent.errors import UsageError
from line_neurons.agent.near_names import choices
from line_neurons.agent.ports import EditRequest
from line_neurons.agent.prompts import EDIT_WORDS, FILL_WORDS

_PLACES = {"remove": ("{concept}",), "replace": ("{concept}", "{other}"), "insert": ("{concept}",)}
"""The placeholders that an instruction needs."""
_FILL_PLACES: dict[str, tuple[str, ...]] = {"remove": (), "replace": ("{other}",)}
"""Those that a description of what fills a region needs."""
_LONGEST = 500


def parse_words(texts: Sequence[str]) -> dict[str, str]:
    """Parse instructions written as ``KIND=TEXT``, such as ``remove=Erase the {concept}.``.

    Raises:
        UsageError: a kind is unknown or named twice, or a text is empty or too long.
    """
    words: dict[str, str] = {}
    for text in texts:
        kind, _, said = (part.strip() for part in text.partition("="))
        if kind not in _PLACES:
            raise UsageError(f"{text!r:.80} does not begin with a kind of edit and =", choices(kind, _PLACES))
        if kind in words:
            raise UsageError(f"there are two instructions to {kind}", "give one --words for each kind")
        if not said or len(said) > _LONGEST:
            raise UsageError(
                f"the instruction to {kind} has {len(said)} characters, not 1 to {_LONGEST}", "shorten it"
            )
        words[kind] = said
    return words


def instructions_of(words: Mapping[str, str], *, fills: bool = False) -> dict[str, str]:
    """Return the words of every kind of edit, a user's in the place of the usual ones.

    Args:
        fills: they describe what fills a region, and are no instruction.

    Raises:
        UsageError: a placeholder is missing, or the kind of edit is not made by filling.
    """
    usual, places = (FILL_WORDS, _FILL_PLACES) if fills else (EDIT_WORDS, _PLACES)
    for kind, said in words.items():
        if kind not in places:
            raise UsageError(
                f"a model that fills a region cannot {kind}", f"it takes words to {' and '.join(places)}"
            )
        for place in places[kind]:
            if place not in said:
                raise UsageError(
                    f"the instruction to {kind} {said!r:.80} has no {place}", f"write {place} where the name goes"
                )
    return {**usual, **words}


def instruction(words: Mapping[str, str], request: EditRequest) -> str:
    """Return what a model is told to make a request's edit."""
    return words[request.kind].replace("{concept}", request.concept).replace("{other}", request.other)
