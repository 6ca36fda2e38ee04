"""Check before a ban is sent whether the search can come to the concept at all, or whether it is a slip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from line_neurons.agent.concepts import describe_near, find_duplicate, normalise_concept
from line_neurons.agent.errors import LineError, NotDrawableError
from line_neurons.agent.near_names import MISTYPED, similar_names
from line_neurons.agent.settings import revised
from line_neurons.tools.image_bank.opening import open_bank_generator, open_image_bank, uses_image_bank
from line_neurons.tools.store.records import Run
from line_neurons.tools.store.runs import RunStore
from line_neurons.tools.store.steering_queue import commands

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
    generator can draw, unless its letters are nearly those of a concept of the history or of a caption.

    Args:
        assets: the folder of asset packs; a text encoder may be loaded from it, which takes seconds.
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
    near = dict.fromkeys(_similar(named, history), "in its history")
    reason = "is neither on the scoreboard nor in the history"
    nearest: Sequence[tuple[str, float]] = ()
    try:
        settings = revised(run.settings, {})
        if uses_image_bank(settings.generator):
            bank = open_image_bank(settings, assets)
            captions = bank.captions("search")
            known = find_duplicate(named, captions) is not None
            if not known:
                near = dict.fromkeys(_similar(named, captions), "in the image bank") | near
            if not known and not near:
                # What letters do not show takes a text encoder, which loads for seconds.
                open_bank_generator(bank, settings, "search", assets=assets, store=runs.path.parent).plan(named)
            reason += ", nor in the image bank" if not known else ""
    except NotDrawableError as error:
        reason, nearest = f"{reason}, and cannot be generated", error.nearest
    except LineError as error:
        reason += f", and the generator's images cannot be looked up here ({error.message})"
    else:
        # A text-to-image model generates anything, and a bank what it has.
        if not near:
            return None
    described = [f"{other} ({where})" for other, where in sorted(near.items(), key=_from_bank)]
    if text := describe_near(nearest, _MOST):
        described.append(text)
    return DoubtfulBan(named, reason, ", ".join(described))


def _similar(concept: str, others: Sequence[str]) -> list[str]:
    return similar_names(concept, others, least=MISTYPED)[:_MOST]


def _from_bank(near: tuple[str, str]) -> bool:
    """Sort what is in the history first."""
    return near[1] == "in the image bank"
