"""What was measured guides a unit's search: candidates ranked by expected improvement or by nearness.

A guide learns from what is fixed while a run lasts, the control set, and from the unit's own history; so its
choices are the same in whatever order, and beside whatever others, units are searched, and after a resume.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from line_neurons.agent.concepts import concept_key
from line_neurons.agent.scoreboard import Entry, Scoreboard
from line_neurons.agent.setting_groups.guidance import WITHOUT_LANGUAGE_MODEL
from line_neurons.agent.settings import Settings
from line_neurons.tools.cache.embeddings import embed_once
from line_neurons.tools.control_sets.class_scores import rank_classes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from line_neurons.agent.ports import Control
    from line_neurons.tools.guidance.response_model import LayerModel, UnitModel, UnitPrior
    from line_neurons.tools.image_bank.text_encoder import TextEncoder

By = Literal["guided", "near"]
"""What candidates are ranked by: expected improvement, or nearness to the best three concepts."""

_BEST = 3
_MOST_PRIORS = 1024
_FORMAT = 1
"""Raised whenever the same history would lead to other choices."""
_REMEMBERED = 4096
# What else was in a batch of texts changes the last bits of an embedding.
_EMBEDDING_DIGITS = 5
_DIGITS = 4


@dataclass(frozen=True)
class Guess:
    """The response model's prediction of a concept's score before it was generated.

    Args:
        improvement: expected improvement over the unit's best score.
        knows: rank correlation of each known score with its prediction from all others; None where it is not
            defined.
    """

    score: float
    deviation: float
    improvement: float
    knows: float | None


@dataclass(frozen=True)
class Ranking:
    """Candidates that were not tried, best first.

    Args:
        improvements: the expected ones; empty where nearness ranks them.
        knows: see ``Guess``; None also where nearness was asked for.
        fell_back: nearness ranks them because the response model knows nothing of the unit.
    """

    concepts: tuple[str, ...]
    improvements: tuple[float, ...]
    total: int
    knows: float | None = None
    fell_back: bool = False


@dataclass(frozen=True)
class _Opened:
    """What the units of the layer share, once it is opened.

    Args:
        vectors: float32 [candidates, d], their embeddings.
        classes: the control classes by key, with their places.
        class_vectors: float32 [classes, d].
    """

    words: tuple[str, ...]
    keys: tuple[str, ...]
    vectors: NDArray[np.float32]
    classes: dict[str, int]
    class_vectors: NDArray[np.float32]
    model: LayerModel


class Guide:
    """Ranks candidates for the units of one layer; may be used from several threads.

    Args:
        control: returns the layer's control activations; None without a control set.
    """

    def __init__(
        self,
        settings: Settings,
        words: Callable[[], Sequence[str]],
        encoder: Callable[[], TextEncoder],
        control: Callable[[], Control | None],
        folder: Path,
    ) -> None:
        self._settings, self._words, self._encoder = settings, words, encoder
        self._control, self._folder = control, folder
        self._opening = threading.Lock()
        self._shared: _Opened | None = None
        self._priors: dict[int, UnitPrior] = {}
        self._vectors: dict[str, NDArray[np.float32]] = {}

    def rank(
        self, unit: int, scored: Sequence[Entry], board: Scoreboard, avoid: Sequence[str], limit: int, by: By
    ) -> Ranking:
        """Rank the candidates that are not among those to avoid.

        Args:
            scored: what it was scored on, in order.
            board: its scoreboard; improvements are over its best concept, and nearness is to its best three.
            avoid: concepts that were tried or are banned.
            by: expected improvement, or nearness; where the response model knows nothing, nearness too.

        Raises:
            UsageError: there are no candidates to choose from, or an embedding is not finite.
            MissingPartError: the text encoder, or WordNet, is not installed.
        """
        import numpy as np

        layer, known = self._opened(), {concept_key(concept) for concept in avoid}
        model = self._unit(unit, scored) if by == "guided" else None
        if model is not None and not model.knows_nothing:
            rows = np.array([row for row in model.rows if layer.keys[row] not in known], np.intp)
            found = model.predict(rows)
            worth = found.improvement(board.best.score)
            # Where all are as good as hopeless, the highest prediction comes first.
            order = np.lexsort((rows, -_significant(found.mean), -_significant(worth)))[:limit]
            names, values = (layer.words[rows[at]] for at in order), (float(worth[at]) for at in order)
            return Ranking(tuple(names), tuple(values), len(layer.words), model.correlation)
        near = self._nearness(layer.vectors, board)
        order = np.lexsort((np.arange(len(near)), -near))
        names = (layer.words[at] for at in order if layer.keys[at] not in known)
        ranked = tuple(name for name, _ in zip(names, range(limit), strict=False))
        knows = None if model is None else model.correlation
        return Ranking(ranked, (), len(layer.words), knows, fell_back=model is not None)

    def order(self, unit: int, scored: Sequence[Entry], board: Scoreboard, concepts: Sequence[str]) -> Ranking:
        """Rank concepts, candidates or not; of equal ones the first comes first. See ``rank``."""
        import numpy as np

        vectors, model = np.stack([self._vector(concept) for concept in concepts]), self._unit(unit, scored)
        places = np.arange(len(concepts))
        if model.knows_nothing:
            order = np.lexsort((places, -self._nearness(vectors, board)))
            worth = None
        else:
            found = model.predict_at(vectors)
            worth = found.improvement(board.best.score)
            order = np.lexsort((places, -_significant(found.mean), -_significant(worth)))
        names = tuple(concepts[at] for at in order)
        values = () if worth is None else tuple(float(worth[at]) for at in order)
        return Ranking(names, values, len(names), model.correlation, fell_back=worth is None)

    def _nearness(self, vectors: NDArray[np.float32], board: Scoreboard) -> NDArray[np.float64]:
        """Return the similarity of embeddings to the nearest of the best three concepts."""
        import numpy as np

        best = np.stack([self._vector(entry.concept) for entry in board.top(_BEST)])
        return np.asarray(np.round((vectors @ best.T).max(1).astype(np.float64), _DIGITS))

    def guess(self, unit: int, scored: Sequence[Entry], board: Scoreboard, concept: str) -> Guess:
        """Predict the score of a concept, which may be no candidate; errors as of ``rank``."""
        model = self._unit(unit, scored)
        found = model.predict_at(self._vector(concept)[None])
        improvement = found.improvement(board.best.score)
        return Guess(float(found.mean[0]), float(found.deviation[0]), float(improvement[0]), model.correlation)

    def _unit(self, unit: int, scored: Sequence[Entry]) -> UnitModel:
        """Return the response model of a unit; what may not be known of it is forgotten."""
        from line_neurons.tools.guidance.response_model import Observation

        layer, settings = self._opened(), self._settings
        prior = self._priors.get(unit)
        if prior is None:
            prior = layer.model.prior(self._class_scores(unit))
            if len(self._priors) >= _MOST_PRIORS:
                self._priors.clear()
            self._priors[unit] = prior
        excluded = {concept_key(name) for name in (*settings.exclude, *settings.exclude_for.get(unit, ()))}
        forgotten = [
            Observation(f"class {key}", layer.class_vectors[at], float(prior.values[at]), at, removed=True)
            for key, at in layer.classes.items()
            if key in excluded
        ]
        own = [
            Observation(key, self._vector(entry.concept), entry.score, layer.classes.get(key, -1))
            for entry in scored
            for key in [concept_key(entry.concept)]
        ]
        return layer.model.unit(prior, [*forgotten, *own])

    def _class_scores(self, unit: int) -> list[float]:
        control = self._control()
        scores = {} if control is None else rank_classes(control, unit, self._settings.scorer)
        return [scores[name] for name in sorted(scores)]

    def _opened(self) -> _Opened:
        with self._opening:
            if self._shared is None:
                self._shared = self._open()
            return self._shared

    def _open(self) -> _Opened:
        from line_neurons.tools.guidance.response_model import LayerModel

        words, control = tuple(self._words()), self._control()
        # Which classes have images is the same for all units.
        classes = [] if control is None else sorted(rank_classes(control, 0, "mean"))
        vectors = self._embedded(words)
        class_vectors = self._embedded(classes) if classes else vectors[:0]
        keys: dict[str, int] = {}
        for at, name in enumerate(classes):
            keys.setdefault(concept_key(name), at)
        return _Opened(
            words,
            tuple(map(concept_key, words)),
            vectors,
            keys,
            class_vectors,
            LayerModel(class_vectors, vectors),
        )

    def _embedded(self, texts: Sequence[str]) -> NDArray[np.float32]:
        import numpy as np

        encoder = self._encoder()
        return np.round(embed_once(encoder.encode, encoder.fingerprint, texts, self._folder), _EMBEDDING_DIGITS)

    def _vector(self, concept: str) -> NDArray[np.float32]:
        import numpy as np

        vector = self._vectors.get(concept)
        if vector is None:
            vector = np.round(self._encoder().encode([concept])[0], _EMBEDDING_DIGITS)
            if len(self._vectors) >= _REMEMBERED:
                self._vectors.clear()
            self._vectors[concept] = vector
        return vector


def uses_response_model(settings: Settings) -> bool:
    """Return whether the response model takes part in a search."""
    hinted = settings.hints_by == "improvement"
    return settings.llm == "guided" or hinted or settings.until > 0 or ranks_proposals(settings)


def ranks_proposals(settings: Settings) -> bool:
    """Return whether the response model chooses among several proposals of a request."""
    return settings.generate < settings.proposals and settings.llm not in WITHOUT_LANGUAGE_MODEL


def uses_guide(settings: Settings) -> bool:
    """Return whether a search needs candidates and a text encoder."""
    return uses_response_model(settings) or settings.llm in WITHOUT_LANGUAGE_MODEL


def guide_fingerprint(encoder: TextEncoder, words: Sequence[str]) -> str:
    """Return the fingerprint of what ranks candidates: the text encoder and the candidates."""
    digest = hashlib.sha256(json.dumps(list(words)).encode()).hexdigest()
    return f"guide:{_FORMAT} encoder={encoder.fingerprint} candidates={len(words)} sha256={digest[:16]}"


def _significant(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round values to four digits of the largest, so that threads, which change the last bits, change no order."""
    import numpy as np

    largest = float(np.abs(values).max(initial=0.0))
    if largest == 0:
        return values
    step = 10.0 ** (np.floor(np.log10(largest)) - _DIGITS)
    return np.asarray(np.round(values / step), np.float64)
