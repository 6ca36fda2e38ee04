"""CLIP-Dissect (Oikarinen and Weng, 2023): the word whose similarities to probe images fit a unit best."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from line_neurons.agent.errors import MissingPartError, UsageError
from line_neurons.eval.baselines.image_text import (
    CAPTIONS,
    DEFAULT,
    embedded_images,
    embedded_texts,
    open_encoder,
)
from line_neurons.eval.baselines.similarities import SIMILARITIES
from line_neurons.eval.baselines.task import Task
from line_neurons.eval.labels.formats import Labels

if TYPE_CHECKING:
    from numpy.typing import NDArray


def label(task: Task, *, encoder: str = DEFAULT, similarity: str = "soft_wpmi") -> Labels:
    """The most similar word for each unit.

    How probable a word is counts over all units of the layer, also where only some are labelled.

    Args:
        task: units, probe images and words.
        encoder: see ``open_encoder``; ``captions`` is the stand-in, and the method is then called so.
        similarity: key of ``SIMILARITIES``.

    Raises:
        UsageError: there is no such similarity or encoder, or the probe images do not fit it.
        LineError: the encoder is not here, or failed.
    """
    if similarity not in SIMILARITIES:
        raise UsageError(f"there is no similarity {similarity!r:.40}", f"use {', '.join(SIMILARITIES)}")
    words = task.words
    seen = _by_captions(task, words) if encoder == CAPTIONS else _by_encoder(task, words, encoder)
    scores = SIMILARITIES[similarity](seen, task.control.activations)[list(task.units)]
    return task.best(f"clip-dissect ({CAPTIONS})" if encoder == CAPTIONS else "clip-dissect", scores, words)


def _by_encoder(task: Task, words: tuple[str, ...], spec: str) -> NDArray[np.float32]:
    """Similarity of each probe image and word, [n_images, n_words]."""
    components = task.components
    images = task.images()
    try:
        encoder = open_encoder(spec, device=components.settings.device, download=components.settings.download)
    except MissingPartError as error:
        error.remedy += f"; or, as a stand-in, --encoder {CAPTIONS}"
        raise
    vectors = embedded_images(encoder, images, components.bank, task.told("image embeddings"))
    return vectors @ embedded_texts(encoder.fingerprint, words, components.bank, encoder.texts).T


def _by_captions(task: Task, words: tuple[str, ...]) -> NDArray[np.float32]:
    """The same with the embedding of an image's caption, its class, in the place of the image's."""
    from line_neurons.tools.image_bank.text_encoder import SentenceEncoder

    encoder, bank = SentenceEncoder(task.components.assets / "minilm"), task.components.bank
    captions, texts = (
        embedded_texts(encoder.fingerprint, several, bank, encoder.encode) for several in (task.captions, words)
    )
    if (task.control.labels < 0).any():
        raise UsageError(
            "a probe image has no class that could stand for its caption", "name images in class folders"
        )
    return (captions @ texts.T)[task.control.labels]
