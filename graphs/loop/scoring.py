"""Generate, measure and score one concept for one unit, as the first board and every step do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from line_neurons.agent.concepts import concept_key
from line_neurons.agent.errors import BackendError
from line_neurons.agent.prompts import image_requests
from line_neurons.graphs.loop.state import Deps
from line_neurons.tools import label_marks as marks
from line_neurons.tools.label_marks import Mark
from line_neurons.tools.scorers import scorer_of
from line_neurons.tools.store.records import Trial

if TYPE_CHECKING:
    from line_neurons.agent.ports import Activations


@dataclass(frozen=True)
class Measurement:
    """A concept's images (ids in the cache), the unit's activation on each, and the score."""

    images: list[str]
    activations: list[float]
    score: float


def generate(deps: Deps, concept: str, repeat: int = 0) -> list[str]:
    """Generate a concept's images, or take them from the cache; returns their ids.

    ``repeat`` is how often the unit was scored on the concept before: each time has images of its own.

    Raises:
        NotDrawableError: the generator cannot draw it.
    """
    settings = deps.settings
    requests = image_requests(
        concept,
        settings.images,
        settings.seed,
        first=repeat * settings.images,
        per_concept=settings.modifiers == "per-concept",
        template=settings.template,
    )
    return deps.cache.images(requests, deps.generator, deps.on_image)


def activate(deps: Deps, unit: int, images: list[str]) -> list[float]:
    """Measure the unit's activation on each image; the whole layer's vectors are cached.

    Raises:
        LostImageError: an image without cached vectors is missing, and cannot be generated again.
    """
    vectors = deps.cache.activations(
        images, deps.target, deps.layer, also=deps.also_layers, generator=deps.generator, unit=unit
    )
    return [float(value) for value in vectors[:, 0]]


def whole_activations(deps: Deps, images: Sequence[str]) -> Activations:
    """Measure all units of the layer on each image, float32 [n_images, n_units]; see ``activate``."""
    return deps.cache.activations(
        list(images), deps.target, deps.layer, also=deps.also_layers, generator=deps.generator
    )


def score(deps: Deps, unit: int, activations: list[float], scorer: str | None = None) -> float:
    """Score the unit's activations on a concept's images, with the scorer of the settings or another one.

    Raises:
        BackendError: the activations cannot be scored.
    """
    import numpy as np

    chosen = scorer_of(scorer or deps.settings.scorer)
    values = np.asarray(activations, dtype=np.float32)
    control = deps.control() if chosen.needs_control else None
    compared = control.column(unit) if control else np.empty(0, np.float32)
    try:
        return chosen.one(values, compared)
    except ValueError as error:
        raise BackendError(f"unit {unit} cannot be scored: {error}") from error


def measure(deps: Deps, unit: int, concept: str) -> Measurement:
    """Generate, measure and score a concept.

    Raises:
        NotDrawableError: the generator cannot draw it.
    """
    images = generate(deps, concept)
    activations = activate(deps, unit, images)
    return Measurement(images, activations, score(deps, unit, activations))


def times_scored(concept: str, tried: list[str]) -> int:
    """Count how often a concept was tried."""
    return sum(concept_key(other) == concept_key(concept) for other in tried)


def constant_mark(deps: Deps, unit: int, history: Iterable[Trial] = ()) -> Mark | None:
    """Return the mark of a unit whose activation is the same on all known images; None if it varies.

    These are the control images and those of ``history``. Without a control set it takes two concepts at least.
    """
    import numpy as np

    scored = [trial for trial in history if trial.score is not None]
    control = deps.control()
    column = np.empty(0, np.float32) if control is None else control.column(unit)
    if control is not None and marks.constant_mark(column, "") is None:
        return None
    if control is None and len({concept_key(trial.concept or "") for trial in scored}) < 2:
        return None
    if len({trial.score for trial in scored}) > 1:
        return None
    images = list(dict.fromkeys(image for trial in scored for image in trial.images))
    values = np.asarray(activate(deps, unit, images) if images else [], np.float32)
    where = " and ".join(
        [*(["control images"] if control else []), *(["images that it was scored on"] if images else [])]
    )
    return marks.constant_mark(np.concatenate([column, values]), where)
