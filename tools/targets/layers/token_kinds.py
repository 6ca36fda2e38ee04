"""Determine what the tokens of a layer stand for: the image, its patches, registers, or a detector's queries."""

from __future__ import annotations

from collections.abc import Collection
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

    from line_neurons.tools.targets.layers.outputs import Form

_QUERY_COUNTS = ("num_queries", "num_detection_tokens")
_TOKENS: frozenset[Form] = frozenset({"tokens", "sequence"})


def query_counts(model: nn.Module) -> frozenset[int]:
    """Return how many queries a detector of transformers has, by its configuration; empty for other models."""
    config = getattr(model, "config", None)
    counts = (getattr(config, name, None) for name in _QUERY_COUNTS)
    return frozenset(count for count in counts if isinstance(count, int))


class TokenKinds:
    """Track what the tokens of layers are, from the layers so far.

    Tokens that are parameters (class token, registers) are the same for every image where they enter, and no other
    is. Later layers with as many tokens have the same ones. Queries are parameters altogether where they enter.

    Args:
        has_class_token: the model has a parameter of that name.
        queries: how many queries the model has, where it says so.
    """

    def __init__(self, has_class_token: bool, queries: Collection[int] = ()) -> None:
        self._named = has_class_token
        self._by_count: dict[int, bool | None] = {}
        self._extra: dict[int, bool | None] = {}
        self._places: dict[int, frozenset[int]] = {}
        self._grids: set[int] = set()
        self._counts: set[int] = set()
        self._queries = set(queries)

    def first_is_class(self, form: Form, shape: tuple[int, ...], fixed: Tensor | None) -> bool | None:
        """Whether the first token stands for the whole image; None where that is not known.

        Args:
            fixed: bool [T], the tokens that are the same for every image.
        """
        if form in {"map", "map-last"} and len(shape) == 3:
            self._grids.add(prod(shape[1:] if form == "map" else shape[:2]))
        if form not in _TOKENS:
            return False
        count = shape[0]
        if count == 1:
            return True
        fixed_count = 0 if fixed is None else int(fixed.sum())
        if fixed is not None and fixed_count == count and count not in self._counts:
            self._queries.add(count)
        self._counts.add(count)
        if fixed is not None and 0 < fixed_count < count:
            # One extra token is a class token; of several, the first is one if the model names a class token.
            first = bool(fixed[0])
            several = None if self._named or fixed_count == 1 else False
            found = True if first and (self._named or fixed_count == 1) else several
            if count not in self._by_count:
                self._places[count] = frozenset(fixed.nonzero().flatten().tolist())
            self._by_count.setdefault(count, found)
            self._extra.setdefault(fixed_count, found)
        if count in self._by_count:
            return self._by_count[count]
        if count in self._grids:
            return False
        for extra, found in self._extra.items():
            if count - extra in self._grids:
                return found
        return None if self._named or self._extra or count - 1 in self._grids else False

    def are_queries(self, form: Form, shape: tuple[int, ...]) -> bool:
        """Tell whether the tokens of a layer that was looked at are a detector's queries."""
        count = shape[0]
        apart = count not in self._by_count and count not in self._grids
        return form in _TOKENS and count > 1 and apart and count in self._queries

    def no_patches(self, form: Form, shape: tuple[int, ...]) -> frozenset[int] | None:
        """Return the places of tokens of a layer that was looked at that are no patches; None if not known."""
        if form not in _TOKENS:
            return frozenset()
        count = shape[0]
        if count == 1 or self.are_queries(form, shape):
            return frozenset(range(count))
        if count in self._places:
            return self._places[count]
        if count in self._grids:
            return frozenset()
        for places in self._places.values():
            # In front they stay in front, whatever the size of the grid; elsewhere that is not certain.
            if count - len(places) in self._grids and places == frozenset(range(len(places))):
                return places
        return None if self._named or self._extra or count - 1 in self._grids else frozenset()
