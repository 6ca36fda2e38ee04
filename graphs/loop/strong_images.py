"""Candidates for a first board from the control images that excite a unit most, against those in the middle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from line_neurons.agent.concepts import concept_key, normalise_concept
from line_neurons.agent.ports import Control
from line_neurons.agent.prompts import images_prompt
from line_neurons.agent.seeds import derive_seed
from line_neurons.graphs.loop.prompting import ModelReply, request_proposal
from line_neurons.graphs.loop.state import Deps
from line_neurons.tools.control_sets.image_captions import class_captions

_IMAGES = 20
"""Most captions of each kind that a request names."""
_EXAMINED = 200
"""Most images of each kind that are captioned, as captions may repeat."""
BOTH, HALF = "both halves", "one half"


@dataclass(frozen=True)
class NamedConcept:
    """A concept that the language model named, or a refused reply.

    Args:
        concept: the concept; empty for a refused reply.
        images: ``both halves`` if each half of the strongest images led to it, else ``one half``.
        request: the request and its reply, by column of the history; empty for further concepts of a reply.
    """

    concept: str
    images: str
    refused: str
    request: dict[str, Any]


def named_concepts(
    deps: Deps, unit: int, again: tuple[int, ...], fits: Callable[[str], bool]
) -> Iterator[NamedConcept]:
    """Let the language model name what the strongest control images share and those in the middle lack.

    Three requests: with each half of the strongest images, so that it shows what depends on single ones, and with
    all of them. Concepts that more requests named come first. Classes that do not fit are not shown.

    ``again`` holds the restart, if it is one; ``fits`` tells whether a concept may come on the board.
    """
    strong, middle = captions_of(deps, unit, fits)
    replies: list[tuple[int, ModelReply]] = []
    for part, shown in enumerate((strong[::2], strong[1::2], strong)):
        for attempt in range(deps.settings.retries + 1 if shown else 0):
            deps.check_drain()
            seed = derive_seed("ask images", deps.settings.seed, unit, part, attempt, *again)
            prompt = images_prompt(shown, middle, max(2, deps.settings.top))
            reply = request_proposal(deps, prompt, seed, attempt)
            if not reply.refusal:
                replies.append((part, reply))
                break
            yield NamedConcept("", "", reply.refusal, _columns(reply))
    named: dict[str, tuple[str, set[int], int]] = {}
    for place, (part, reply) in enumerate(replies):
        for text in reply.named:
            try:
                concept = normalise_concept(text)
            except ValueError:
                continue
            named.setdefault(concept_key(concept), (concept, set(), place))[1].add(part)
    recorded: set[int] = set()
    for concept, parts, place in sorted(named.values(), key=lambda found: -len(found[1])):
        if not fits(concept):
            continue
        request = {} if place in recorded else _columns(replies[place][1])
        recorded.add(place)
        yield NamedConcept(concept, BOTH if {0, 1} <= parts else HALF, "", request)


def captions_of(deps: Deps, unit: int, fits: Callable[[str], bool]) -> tuple[list[str], list[str]]:
    """Return captions of the strongest control images and of those in the middle, each caption once."""
    import numpy as np

    control = deps.control()
    assert control is not None
    column = control.column(unit)
    order = [int(row) for row in np.argsort(-column, kind="stable") if _is_shown(control, int(row), fits)]
    # Thirds of a small set, so that no image is of both kinds.
    most = min(_EXAMINED, max(1, len(order) // 3))
    begin = (len(order) - most) // 2
    strong = _distinct(deps.captions(order[:most]), ())
    return strong, _distinct(deps.captions(order[begin : begin + most]), strong)


def _is_shown(control: Control, row: int, fits: Callable[[str], bool]) -> bool:
    (name,) = class_captions(control, [row])
    return not name or fits(name)


def _distinct(captions: Sequence[str], others: Sequence[str]) -> list[str]:
    return [caption for caption in dict.fromkeys(captions) if caption and caption not in others][:_IMAGES]


def _columns(reply: ModelReply) -> dict[str, Any]:
    """Return a request and its reply by column of the history."""
    columns = asdict(reply)
    for name in ("concept", "refusal", "named"):
        del columns[name]
    return columns
