"""CLIP-Dissect (Oikarinen and Weng, 2023): the word whose similarities to probe images fit a unit best.

Each function of ``SIMILARITIES`` takes the similarities of images and words, [n_images, n_words], and the units'
activations on the images, [n_images, n_units], and returns [n_units, n_words], higher for a better word; with
``of`` for some of the units alone. The defaults are those of the authors' code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from line_neurons.agent.activations import SparseActivations, columns_of
from line_neurons.agent.errors import MissingPartError, UsageError
from line_neurons.agent.near_names import choices
from line_neurons.eval.baselines.image_text import (
    CAPTIONS,
    DEFAULT,
    embed_images,
    embed_texts,
    open_encoder,
)
from line_neurons.eval.baselines.task import BaselineTask
from line_neurons.eval.labels.labels import Labels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from line_neurons.agent.ports import Activations

    Matrix = NDArray[np.float64] | NDArray[np.float32]
    Responses = Activations | SparseActivations
    Units = Sequence[int] | None

    class Similarity(Protocol):
        """See the module."""

        def __call__(self, words: Matrix, units: Responses, *, of: Units = None) -> NDArray[np.float64]:
            """Return how well each word fits each unit."""


_TINY = 1e-7
_WORDS_AT_ONCE = 1024
_UNITS_AT_ONCE = 256


def label(task: BaselineTask, *, encoder: str = DEFAULT, similarity: str = "soft_wpmi") -> Labels:
    """Return the most similar word for each unit.

    The probability of a word is over all units of the layer, also where only some are labelled.

    Args:
        encoder: see ``open_encoder``; ``captions`` is a stand-in, and part of the method's name then.
        similarity: key of ``SIMILARITIES``.

    Raises:
        UsageError: there is no such similarity or encoder, or the probe images do not fit it.
        LineError: the encoder is missing, or failed.
    """
    if similarity not in SIMILARITIES:
        raise UsageError(f"there is no similarity {similarity!r:.40}", choices(similarity, SIMILARITIES))
    words = task.words
    seen = _by_captions(task, words) if encoder == CAPTIONS else _by_encoder(task, words, encoder)
    scores = SIMILARITIES[similarity](seen, task.control.activations, of=task.units)
    return task.best(f"clip-dissect ({CAPTIONS})" if encoder == CAPTIONS else "clip-dissect", scores, words)


def _by_encoder(task: BaselineTask, words: tuple[str, ...], spec: str) -> NDArray[np.float32]:
    """Return the similarity of each probe image and word, [n_images, n_words]."""
    components = task.components
    images = task.images()
    try:
        encoder = open_encoder(spec, device=components.settings.device, download=components.settings.download)
    except MissingPartError as error:
        error.remedy += f"; or, as a stand-in, --encoder {CAPTIONS}"
        raise
    vectors = embed_images(encoder, images, components.cache, task.progress_for("image embeddings"))
    return vectors @ embed_texts(encoder.fingerprint, words, components.cache, encoder.texts).T


def _by_captions(task: BaselineTask, words: tuple[str, ...]) -> NDArray[np.float32]:
    """Return the similarities with the embedding of an image's class in place of the image's."""
    from line_neurons.tools.image_bank.text_encoder import SentenceEncoder

    encoder, bank = SentenceEncoder(task.components.assets / "minilm"), task.components.cache
    captions, texts = (
        embed_texts(encoder.fingerprint, several, bank, encoder.encode) for several in (task.captions, words)
    )
    if (task.control.labels < 0).any():
        raise UsageError("a probe image has no class to use as its caption", "name images in class folders")
    return (captions @ texts.T)[task.control.labels]


def soft_wpmi(
    words: Matrix, units: Responses, *, of: Units = None, top_k: int = 100, a: float = 10, lam: float = 1,
    start: float = 0.998, end: float = 0.97,
) -> NDArray[np.float64]:  # fmt: skip
    """Compute the soft weighted pointwise mutual information, in which the top images count most.

    Args:
        of: the units of which words are wanted; None: all.
        top_k: number of top images of a unit; all of them where there are fewer.
        a: factor of the similarities before the softmax over the words.
        lam: weight of a word's probability over all units of the layer.
        start: probability that the first of the top images is in the unit's set.
        end: what it falls towards over the ``top_k`` images.
    """
    top_k = min(top_k, units.shape[0])
    sure = start - np.arange(top_k)[:, None] / top_k * (start - end)
    return _mutual(words, units, of, top_k, a, lam, lambda chances: np.log(1 + sure * (chances - 1) + _TINY))


def wpmi(
    words: Matrix, units: Responses, *, of: Units = None, top_k: int = 28, a: float = 2, lam: float = 0.6
) -> NDArray[np.float64]:
    """Compute the weighted pointwise mutual information: the ``top_k`` images are the set; see ``soft_wpmi``."""
    return _mutual(words, units, of, min(top_k, units.shape[0]), a, lam, lambda chances: np.log(chances + _TINY))


def _mutual(
    words: Matrix, units: Responses, of: Units, top_k: int, a: float, lam: float,
    log_chances: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> NDArray[np.float64]:  # fmt: skip
    places = _places(units, of)
    found = np.empty((len(places), words.shape[1]))
    overall = np.full(words.shape[1], -np.inf)
    for unit, column in enumerate(_columns(units)):
        strongest = _strongest(column, top_k)
        given = log_chances(_softmax(a * words[strongest].astype(np.float64))).sum(0)
        overall = np.logaddexp(overall, given)
        if unit in places:
            found[places[unit]] = given
    return np.asarray(found - lam * (overall - np.log(units.shape[1])))


def rank_reorder(
    words: Matrix,
    units: Responses,
    *,
    of: Units = None,
    p: float = 3,
    top: float = 0.05,
    scale: float = 0.5,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Compute how little the activations change if a unit's top images are put into the order of the word.

    The change is divided by that of five random orders, and by the mean similarity of the images and the word to
    the power ``scale``; a word with no positive mean similarity is the worst.

    Args:
        of: the units of which words are wanted; None: all.
        p: power of the differences.
        top: share of the images that counts, the top ones; at least two.
        scale: see above.
    """
    count = min(units.shape[0], max(2, int(units.shape[0] * top)))
    rng = np.random.default_rng(seed)
    places = _places(units, of)
    found = np.empty((len(places), words.shape[1]))
    for unit, column in enumerate(_columns(units)):
        # Drawn for all units, so that a unit's orders do not depend on which are wanted.
        orders = [rng.permutation(count) for _ in range(5)]
        if unit not in places:
            continue
        strongest = _strongest(column, count)
        own = column[strongest].astype(np.float64)
        rising = own[::-1]
        shuffled = np.stack([rising[order] for order in orders], 1)
        by_chance = (np.abs(rising[:, None] - shuffled) ** p).mean()
        seen = words[strongest].astype(np.float64)
        order = seen.argsort(0, kind="stable").argsort(0, kind="stable")
        change = (np.abs(own[:, None] - rising[order]) ** p).mean(0)
        with np.errstate(divide="ignore", invalid="ignore"):
            error = change / by_chance / np.maximum(seen.mean(0), 0) ** scale
        found[places[unit]] = -np.nan_to_num(error, nan=np.inf, posinf=np.inf)
    return found


def cos_similarity(words: Matrix, units: Responses, *, of: Units = None) -> NDArray[np.float64]:
    """Compute the cosine of a word's similarities and a unit's activations; 0 where either is all zeros."""
    return _cosines(words, units, of, lambda table: table, 0)


def cos_similarity_cubed(words: Matrix, units: Responses, *, of: Units = None) -> NDArray[np.float64]:
    """Compute the cosine of the third powers of the differences from the mean: the top images count most."""
    return _cosines(words, units, of, lambda table: (table - table.mean(0)) ** 3, 1e-3)


SIMILARITIES: dict[str, Similarity] = {
    "soft_wpmi": soft_wpmi,
    "wpmi": wpmi,
    "rank_reorder": rank_reorder,
    "cos_similarity": cos_similarity,
    "cos_similarity_cubed": cos_similarity_cubed,
}
"""By the names that the authors' code has for them."""


def _cosines(
    words: Matrix,
    units: Responses,
    of: Units,
    prepare: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    least: float,
) -> NDArray[np.float64]:
    """Return cosines of the prepared columns; lengths below ``least`` count as that."""
    wanted = list(_places(units, of))
    ours = _unit_length(prepare(columns_of(units, wanted).astype(np.float64)), least).T
    # All words of a large vocabulary at double precision would take twice the memory of their table again.
    parts = (words[:, start : start + _WORDS_AT_ONCE] for start in range(0, words.shape[1], _WORDS_AT_ONCE))
    return np.concatenate([ours @ _unit_length(prepare(part.astype(np.float64)), least) for part in parts], 1)


def _places(units: Responses, of: Units) -> dict[int, int]:
    """Return the place of each wanted unit in the result."""
    return {unit: place for place, unit in enumerate(range(units.shape[1]) if of is None else of)}


def _columns(units: Responses) -> Iterator[Matrix]:
    """Yield the activations of each unit, [n_images]; a few units at a time are made dense."""
    for start in range(0, units.shape[1], _UNITS_AT_ONCE):
        yield from columns_of(units, range(start, min(start + _UNITS_AT_ONCE, units.shape[1]))).T


def _strongest(column: Matrix, count: int) -> NDArray[np.int64]:
    """Return indices of the images by activation of a unit, highest first, [count]; ties by index."""
    return np.argsort(-column, kind="stable")[:count]


def _softmax(table: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(table - table.max(1, keepdims=True))
    found: NDArray[np.float64] = powers / powers.sum(1, keepdims=True)
    return found


def _unit_length(table: NDArray[np.float64], least: float) -> NDArray[np.float64]:
    length = np.maximum(np.linalg.norm(table, axis=0), least)
    found: NDArray[np.float64] = table / np.where(length > 0, length, 1)
    return found
