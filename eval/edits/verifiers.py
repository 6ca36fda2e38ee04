"""Verifiers: does an image show a concept? Calibrated for each concept; never the target itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from line_neurons.agent.concepts import concept_key
from line_neurons.agent.errors import UsageError
from line_neurons.agent.near_names import choices
from line_neurons.agent.seeds import derive_rng
from line_neurons.agent.settings import Settings
from line_neurons.eval.labels.imagenet import imagenet_table
from line_neurons.eval.labels.wordnet import WordNet
from line_neurons.graphs.runs.components import Components
from line_neurons.tools.control_sets import control_activations
from line_neurons.tools.control_sets.image_list import ImageList
from line_neurons.tools.scorers import auc

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Scores = NDArray[np.float64]

KNOWN, NONE = "known", "none"
POSITIVES, NEGATIVES = 20, 200
"""Images that a verifier is calibrated on: of the concept, and of the control set."""
FALSE_ALARMS = 0.05
LEAST_AUC = 0.8
LEAST_POSITIVES = 5
"""With fewer images of the concept a verifier cannot be calibrated."""
SPECS = ("target:MODEL", "hf:ID_OR_FOLDER", "open_clip:NAME/WEIGHTS", NONE)

_PROMPT = "a photo of a {}"
_OTHERS = 20


class Verifier(Protocol):
    """Scores how much images show a concept."""

    name: str

    @property
    def fingerprint(self) -> str:
        """Identity of the model."""

    def knows(self, concept: str) -> bool:
        """Return whether it can tell the concept at all."""

    def scores(self, concept: str, images: Sequence[str]) -> Scores:
        """Score images of the cache, by their ids; higher if the concept is more likely there."""

    def list_scores(self, concept: str, images: ImageList) -> Scores:
        """Score images that are not in the cache."""


@dataclass(frozen=True)
class Calibration:
    """A verifier's threshold for a concept.

    Args:
        threshold: score above which 5 % of the control images lie; nan where the verifier cannot tell.
        auc: of the concept's images against those of the control set; nan if it was not measured.
        positives: number of the concept's images.
        reason: why the verifier cannot tell; empty if it can.
    """

    threshold: float
    auc: float = math.nan
    positives: int = 0
    reason: str = ""


def calibrate(positives: Scores, negatives: Scores) -> Calibration:
    """Set a verifier's threshold at 5 % false alarms.

    Args:
        positives: scores of images of the concept.
        negatives: of images of other things.
    """
    if len(positives) < LEAST_POSITIVES or len(negatives) < LEAST_POSITIVES:
        reason = f"only {len(positives)} images of it and {len(negatives)} of other things"
        return Calibration(math.nan, math.nan, len(positives), reason)
    area = float(auc(positives.astype(np.float32), negatives.astype(np.float32)))
    threshold = float(np.quantile(negatives, 1 - FALSE_ALARMS, method="higher"))
    if area < LEAST_AUC:
        reason = f"its AUC for it is {area:.2f}, below {LEAST_AUC}"
        return Calibration(math.nan, area, len(positives), reason)
    # Control images at the threshold are no alarms.
    return Calibration(float(np.nextafter(threshold, math.inf)), area, len(positives))


class TargetVerifier:
    """Another classifier: log probability of the classes that are the concept or below it in WordNet.

    Args:
        components: of the classifier and the cache.
        layer: its output layer.
        words: WordNet.

    Raises:
        UsageError: its classes are not those of ImageNet-1K.
    """

    def __init__(self, components: Components, layer: str, words: WordNet) -> None:
        self._components = components
        self._layer = layer
        self._words = words
        self.name = f"target:{components.shown_model}"
        names = components.target.unit_names(layer) or ()
        if len(names) != len(imagenet_table()):
            raise UsageError(
                f"the verifier {self.name} has {len(names)} named classes, not those of ImageNet-1K",
                "name a classifier of ImageNet, such as target:keras:resnet50",
            )

    @cached_property
    def fingerprint(self) -> str:
        """Fingerprint of the classifier."""
        return f"{self._components.target.fingerprint} {self._layer}"

    def knows(self, concept: str) -> bool:
        """Return whether a class is the concept or below it."""
        return bool(self._classes(concept))

    def _classes(self, concept: str) -> list[int]:
        senses = set(self._words.senses(concept))
        key = concept_key(concept)
        found = []
        for index, entry in enumerate(imagenet_table()):
            if key in {concept_key(name) for name in (entry.name, *entry.also)} or senses & {
                entry.synset,
                *self._words.hypernyms(entry.synset),
            }:
                found.append(index)
        return found

    def scores(self, concept: str, images: Sequence[str]) -> Scores:
        """See ``Verifier.scores``."""
        rows = self._components.cache.activations(images, self._components.target, self._layer)
        return self._log_probability(concept, rows)

    def list_scores(self, concept: str, images: ImageList) -> Scores:
        """See ``Verifier.list_scores``."""
        components = self._components
        found = control_activations(components.cache, components.target, [self._layer], images)
        return self._log_probability(concept, found[self._layer].dense())

    def _log_probability(self, concept: str, rows: NDArray[np.float32]) -> Scores:
        logits = rows.astype(np.float64)
        # Keras' networks end in probabilities: their logarithms are logits.
        if rows.min() >= 0 and np.allclose(rows.sum(1), 1, atol=1e-3):
            logits = np.log(np.maximum(logits, 1e-12))
        return np.asarray(
            np.logaddexp.reduce(logits[:, self._classes(concept)], axis=1) - np.logaddexp.reduce(logits, axis=1)
        )


class EncoderVerifier:
    """An image-text encoder: similarity to the concept, less the mean similarity to random words.

    Args:
        components: the cache and the device.
        spec: see ``image_text.open_encoder``.
        words: to draw the random words from.
        seed: of the random words.
    """

    def __init__(self, components: Components, spec: str, words: Sequence[str], seed: int) -> None:
        from line_neurons.eval.baselines.image_text import EncoderTarget, open_encoder

        settings = components.settings
        self.name = spec
        self._components = components
        self._encoder = open_encoder(spec, device=settings.device, download=settings.download)
        self._side = EncoderTarget(self._encoder)
        self._others = derive_rng("verifier", seed).sample(sorted(words), min(_OTHERS, len(words)))

    @cached_property
    def fingerprint(self) -> str:
        """Of the encoder and the random words."""
        return f"{self._encoder.fingerprint} {','.join(self._others)}"

    def knows(self, concept: str) -> bool:
        """An encoder knows any words."""
        return True

    def scores(self, concept: str, images: Sequence[str]) -> Scores:
        """See ``Verifier.scores``."""
        layer = self._side.layers()[0].path
        return self._similarity(concept, self._components.cache.activations(images, self._side, layer))

    def list_scores(self, concept: str, images: ImageList) -> Scores:
        """See ``Verifier.list_scores``."""
        layer = self._side.layers()[0].path
        found = control_activations(self._components.cache, self._side, [layer], images)[layer]
        return self._similarity(concept, found.dense())

    def _similarity(self, concept: str, rows: NDArray[np.float32]) -> Scores:
        texts = self._encoder.texts([_PROMPT.format(word) for word in (concept, *self._others)])
        similar = rows.astype(np.float64) @ texts.T.astype(np.float64)
        return np.asarray(similar[:, 0] - similar[:, 1:].mean(1))


def open_verifier(
    spec: str, components: Components, words: Callable[[], Sequence[str]], seed: int
) -> Verifier | None:
    """Open a verifier; None for ``none``.

    Raises:
        UsageError: there is none of this name, or it is the target.
        MissingPartError: a package or weights are missing.
    """
    kind, _, name = spec.partition(":")
    if spec == NONE:
        return None
    if kind == "target" and name:
        other = Components(name, _plain_settings(components), components.on_progress)
        if other.target.fingerprint == components.target.fingerprint:
            raise UsageError(
                f"the verifier {spec!r:.80} is the target itself",
                "an independent model has to see what an edit did; name another one with --verify",
            )
        return TargetVerifier(other, other.target.layers()[-1].path, WordNet(components.assets / "wordnet"))
    if kind in {"hf", "open_clip"} and name:
        return EncoderVerifier(components, spec, words(), seed)
    raise UsageError(f"there is no verifier {spec!r:.80}", choices(spec, SPECS))


def _plain_settings(components: Components) -> Settings:
    """Return settings for another model: weights and pooling of the target do not concern it."""
    return components.settings.model_copy(update={"weights": None, "pool": "auto", "layout": ()})
