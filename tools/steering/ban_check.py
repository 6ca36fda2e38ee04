"""Check before a ban is sent whether the search can come to the concept at all, or whether it is a slip."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from line_neurons.agent.concepts import describe_near, find_duplicate, normalise_concept
from line_neurons.agent.errors import LineError, NotDrawableError
from line_neurons.agent.settings import revised
from line_neurons.tools.image_bank.opening import open_bank_generator, open_image_bank, uses_image_bank
from line_neurons.tools.store.records import Run
from line_neurons.tools.store.runs import RunStore
from line_neurons.tools.store.steering_queue import commands

_SIMILAR = 0.8
"""Lowest similarity of the letters of two words that count as one with a slip: "castel", "castle"."""

_MOST = 3


@dataclass(frozen=True)
class DoubtfulBan:
    """A ban of a concept that nobody knows.

    Args:
        concept: the concept, normalised.
        reason: what is known of it, in words that follow the concept.
        near: concepts that may be meant, those of the history first, with where they come from.
    """

    concept: str
    reason: str
    near: str

    def __str__(self) -> str:
        """Return the doubt as a sentence without its end."""
        return f"{self.concept!r} {self.reason}" + (f"; near it: {self.near}" if self.near else "")


def doubtful_ban(runs: RunStore, run: Run, unit: int, concept: str, assets: Path) -> DoubtfulBan | None:
    """Return why a ban may be a slip; None where the concept is known.

    Known are the concepts of the unit's history, steering commands and initial scoreboard's words, and what the
    generator can draw, unless its letters are nearly those of a concept of the history.

    Args:
        runs: the store.
        run: the unit's run.
        unit: index of the unit.
        concept: the concept to be banned.
        assets: the folder of asset packs; an image bank may be opened, which takes seconds.
    """
    try:
        named = normalise_concept(concept)
    except ValueError:
        # No concept at all, which is refused when it is sent.
        return None
    history = list(dict.fromkeys(step.concept for step in runs.steps(run.id, unit) if step.concept))
    sent = [command.concept for command in commands(runs, run.id, unit) if command.counts]
    if find_duplicate(named, [*history, *sent, *(run.vocabulary or ())]) is not None:
        return None
    near = _similar(named, history)
    cannot, captions, nearest = _not_drawable(runs, run, named, assets)
    if not cannot and not near:
        return None
    described = [f"{other} (in its history)" for other in near]
    spelled = [caption for caption in _similar(named, captions) if caption not in near]
    described += [f"{caption} (in the image bank)" for caption in spelled]
    if text := describe_near([pair for pair in nearest if pair[0] not in {*near, *spelled}], _MOST):
        described.append(text)
    reason = "is neither on the scoreboard nor in the history" + (f", and {cannot}" if cannot else "")
    return DoubtfulBan(named, reason, ", ".join(described))


def _similar(concept: str, others: Sequence[str]) -> list[str]:
    return difflib.get_close_matches(concept, others, n=_MOST, cutoff=_SIMILAR)


def _not_drawable(
    runs: RunStore, run: Run, concept: str, assets: Path
) -> tuple[str, Sequence[str], Sequence[tuple[str, float]]]:
    """Return why a concept cannot be generated, empty if it can, all captions, and those near it, best first."""
    captions: Sequence[str] = ()
    try:
        settings = revised(run.settings, {})
        if not uses_image_bank(settings.generator):
            # A text-to-image model generates anything.
            return "", (), ()
        bank = open_image_bank(settings, assets)
        captions = bank.captions("search")
        open_bank_generator(bank, settings, "search", assets=assets, store=runs.path.parent).plan(concept)
    except NotDrawableError as error:
        return "the generator has no image of it", captions, error.nearest
    except LineError as error:
        return f"the generator's images cannot be looked up here ({error.message})", captions, ()
    return "", (), ()
