"""Verifiers: does an image show a concept? Calibrated for each concept; never the target itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Scores = NDArray[np.float64]

KNOWN, NONE = "known", "none"
SECOND_NETWORK = "keras:resnet50"
"""Another network of ImageNet than the target, which an asset pack has."""
NEGATIVES = 200
"""Control images that a verifier is calibrated on."""
ASKED = 60
"""Control images for a verifier that is asked about each: three false alarms are 5 %."""
SPECS = ("target:MODEL", "hf:ID_OR_FOLDER", "open_clip:NAME/WEIGHTS", "ollama:VISION_MODEL", NONE)

_PROMPT = "a photo of a {}"
_OTHERS = 20


class Verifier(Protocol):
    """Scores how much images show a concept."""

    name: str
    negatives: int
    """Number of control images that it is calibrated on."""

    @property
    def fingerprint(self) -> str:
        """Identity of the model."""

    def knows(self, concept: str) -> bool:
        """Return whether it can tell the concept at all."""

    def scores(self, concept: str, images: Sequence[str]) -> Scores:
        """Score images of the cache, by their ids; higher if the concept is more likely there."""

    def list_scores(self, concept: str, images: ImageList) -> Scores:
        """Score images that are not in the cache."""


class TargetVerifier:
    """Another classifier: log probability of the classes that are the concept or below it in WordNet.

    Raises:
        UsageError: its classes are not those of ImageNet-1K.
    """

    negatives = NEGATIVES

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
        spec: see ``image_text.open_encoder``.
    """

    negatives = NEGATIVES

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


class AskedVerifier:
    """A vision model of Ollama that is asked about each image: 1 for yes, 0 for no.

    Raises:
        UsageError: the name is not valid, or the model cannot read images.
        MissingPartError: no server has it.
        BackendError: no server can be reached.
    """

    negatives = ASKED

    def __init__(self, components: Components, name: str) -> None:
        from line_neurons.tools.language_models.ollama.address import server_urls
        from line_neurons.tools.language_models.ollama.presence import OllamaPresence
        from line_neurons.tools.language_models.reply_cache import ReplyCache

        settings = components.settings
        self.name = f"ollama:{name}"
        self._components = components
        self._model = OllamaPresence(
            name, server_urls(settings.ollama), timeout=settings.timeout,
            cache=ReplyCache(components.store / "replies.db"),
        )  # fmt: skip
        # Before anything is edited.
        self.fingerprint = self._model.fingerprint

    def knows(self, concept: str) -> bool:
        """It can be asked for anything."""
        return True

    def scores(self, concept: str, images: Sequence[str]) -> Scores:
        """See ``Verifier.scores``."""
        return self._answers(concept, [self._components.cache.image_bytes(image) for image in images])

    def list_scores(self, concept: str, images: ImageList) -> Scores:
        """See ``Verifier.list_scores``."""
        return self._answers(concept, images.images)

    def _answers(self, concept: str, images: Sequence[bytes]) -> Scores:
        progress = self._components.progress_for(f"asking {self.name} for {concept!r:.40}")
        answers = []
        for done, image in enumerate(images):
            if progress and len(images) > 2:
                progress(done, len(images))
            answers.append(float(self._model.is_shown(concept, image)))
        return np.array(answers, np.float64)


def open_verifier(
    spec: str, components: Components, words: Callable[[], Sequence[str]], seed: int
) -> Verifier | None:
    """Open a verifier; None for ``none``.

    Raises:
        UsageError: there is none of this name, or it is the target.
        MissingPartError: a package or weights are missing.
        BackendError: no server can be reached.
    """
    kind, _, name = spec.partition(":")
    if spec == NONE:
        return None
    if kind == "target" and name:
        other = Components(name, plain_settings(components), components.on_progress)
        if other.target.fingerprint == components.target.fingerprint:
            raise UsageError(
                f"the verifier {spec!r:.80} is the target itself",
                "an independent model has to see what an edit did; name another one with --verify",
            )
        return TargetVerifier(other, other.target.layers()[-1].path, WordNet(components.assets / "wordnet"))
    if kind in {"hf", "open_clip"} and name:
        return EncoderVerifier(components, spec, words(), seed)
    if kind == "ollama" and name:
        return AskedVerifier(components, name)
    raise UsageError(f"there is no verifier {spec!r:.80}", choices(spec, SPECS))


def usual_verifier(components: Components) -> str | None:
    """Return the verifier where none is named: another network, if it is installed and not the target."""
    there = all((components.assets / pack).is_dir() for pack in ("resnet50", "wordnet"))
    return f"target:{SECOND_NETWORK}" if there and not components.model.startswith("keras:") else None


def plain_settings(components: Components) -> Settings:
    """Return settings for another model: weights and pooling of the target do not concern it."""
    return components.settings.model_copy(update={"weights": None, "pool": "auto", "layout": ()})
