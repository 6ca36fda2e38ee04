"""The image bank as a generator: images of concept phrases from captioned images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from line_neurons.agent.errors import NotDrawableError, UsageError
from line_neurons.agent.ports import DrawnImage, ImageRequest, Progress
from line_neurons.tools.image_bank.backdrops import Scenery
from line_neurons.tools.image_bank.bank import Bank, Selection
from line_neurons.tools.image_bank.matching import Matcher
from line_neurons.tools.image_bank.painter import Painter
from line_neurons.tools.image_bank.phrases import PLACES, Phrase, normalise, parse
from line_neurons.tools.image_bank.plans import ImageSource, Plan, PlannedSubject
from line_neurons.tools.image_bank.text_encoder import TextEncoder

FORMAT = 1
"""Raised whenever the same request would give other pixels or provenance."""

_REMEMBERED_PLANS = 4096


@dataclass(frozen=True)
class BankSettings:
    """How phrases are matched and how large images are.

    Args:
        size: side of the images in pixels, at least 32.
        threshold: lowest cosine similarity of a phrase and a usable caption, in (0, 1].
        margin: captions less than this below the best are used too, at least 0.
        max_captions: most captions used for one subject that is matched by similarity, at least 1.
    """

    size: int = 256
    threshold: float = 0.75
    margin: float = 0.03
    max_captions: int = 8

    def __post_init__(self) -> None:
        checks = {
            "size": self.size >= 32,
            "threshold": 0 < self.threshold <= 1,
            "margin": self.margin >= 0,
            "max_captions": self.max_captions >= 1,
        }
        for name, fits in checks.items():
            if not fits:
                raise UsageError(f"image bank: {name} cannot be {getattr(self, name)}", "see docs/image-bank.md")


class ImageBankGenerator:
    """Composes images of concepts from one split of a bank; implements the port ``Generator``.

    May be used from several threads.

    Args:
        encoder: measures the similarity of phrases and captions.
        split: ``search`` or ``heldout`` uses only that split's images; ``all`` uses every image.
        cache: folder for embeddings of the bank's names; None computes them in every process.

    Raises:
        UsageError: the split holds no image of a subject.
    """

    def __init__(
        self,
        bank: Bank,
        encoder: TextEncoder,
        split: Selection = "search",
        settings: BankSettings | None = None,
        cache: Path | None = None,
    ) -> None:
        if not bank.captions(split):
            raise UsageError(
                f"image bank {bank.name!r} has no image in the split {split!r}",
                "add images, or more images of the same caption",
            )
        self._bank = bank
        self._encoder = encoder
        self._split = split
        self._settings = settings or BankSettings()
        self._matcher = Matcher(
            bank,
            encoder,
            split,
            threshold=self._settings.threshold,
            margin=self._settings.margin,
            cache=cache,
        )
        self._painter = Painter(bank, split, self._settings.size)
        self._plans: dict[str, Plan] = {}

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the bank, the encoder, the split, the settings and the format of the images."""
        identity = [
            FORMAT, self._bank.fingerprint, self._encoder.fingerprint, self._split, asdict(self._settings),
            *self._painter.identity,
        ]  # fmt: skip
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        return f"image-bank:{self._bank.name}:{self._split}:{digest[:32]}"

    def identity(self) -> dict[str, Any]:
        """The contents of the fingerprint, by name."""
        return {
            "format": FORMAT,
            "image_bank": self._bank.fingerprint,
            "text_encoder": self._encoder.fingerprint,
            "split": self._split,
            **asdict(self._settings),
            **({"renderer": self._painter.identity} if self._painter.identity else {}),
        }

    @property
    def batch_size(self) -> int:
        """One: images are composed one after another."""
        return 1

    @property
    def remarks(self) -> tuple[str, ...]:
        """What the bank skipped, a line for each reason, and each image that could not be read."""
        return (*self._bank.remarks, *self._bank.skipped)

    def synthesize(self, requests: Sequence[ImageRequest], progress: Progress | None = None) -> list[DrawnImage]:
        """Compose images for the requests, in order; deterministic in (fingerprint, request).

        Raises:
            NotDrawableError: a concept is not in the bank or cannot be composed; no image is made then.
            BackendError: an image of the bank can no longer be read.
        """
        for request in requests:
            self.plan(request.concept)
        drawn: list[DrawnImage] = []
        parts = self._painter.parts

        def painted(part: int) -> None:
            if progress is not None:
                progress(len(drawn) * parts + part, len(requests) * parts)

        for request in requests:
            drawn.append(self.compose(request, progress=painted))
            painted(0)
        return drawn

    def compose(
        self,
        request: ImageRequest,
        leave_out: frozenset[int] = frozenset(),
        instead: str | None = None,
        progress: Callable[[int], None] | None = None,
        scenery: Scenery | None = None,
    ) -> DrawnImage:
        """Compose the image of a request, or the same one with one thing changed.

        Args:
            leave_out: indices of the subjects that are not shown; see ``sources``.
            instead: a concept with a first subject that takes the place of the image's first.
            progress: see ``Painter.paint``.
            scenery: what takes the place of the backdrop.

        Raises:
            NotDrawableError: a concept cannot be composed, a subject is not a cut-out, or the image does not show
                the scene that is to be taken out.
            BackendError: an image of the bank can no longer be read.
        """
        return self._painter.paint(
            self.plan(request.concept),
            request.angle,
            request.lighting,
            key=f"{request.prompt}\0{request.seed}",
            turn=request.seed,
            progress=progress,
            leave_out=leave_out,
            instead=None if instead is None else self.plan(instead),
            scenery=scenery,
        )

    def sources(self, request: ImageRequest) -> list[ImageSource]:
        """Return the image that stands for each subject in the image of a request.

        Raises:
            NotDrawableError: see ``plan``.
        """
        return self._painter.sources(self.plan(request.concept), request.seed)

    @property
    def size(self) -> int:
        """Side of the images in pixels."""
        return self._settings.size

    def captions(self) -> tuple[str, ...]:
        """Return the distinct captions of the split's subjects, sorted."""
        return self._bank.captions(self._split)

    @property
    def places(self) -> tuple[str, ...]:
        """The places that there are backgrounds of, sorted."""
        return tuple(sorted(set(PLACES) & self._painter.scenes))

    def suggest(self, concepts: Sequence[str], limit: int) -> list[str]:
        """Suggest up to ``limit`` distinct captions near ``concepts``, nearest first."""
        return self._matcher.suggest(concepts, limit)

    def match(self, phrase: str) -> list[tuple[str, float]]:
        """Return the captions that a phrase matches and their similarity to it, best first.

        Raises:
            NotDrawableError: nothing is close enough, or it cannot be composed.
        """
        best: dict[str, float] = {}
        for thing in self.plan(phrase).things:
            for source in thing.sources:
                caption = source.entry.caption
                best[caption] = max(source.similarity, best.get(caption, -1.0))
        return sorted(best.items(), key=lambda pair: (-pair[1], pair[0]))

    def absent(self, concepts: Sequence[str], progress: Progress | None = None) -> list[str]:
        """Return the concepts that no image can be composed of, in order."""
        found = []
        for done, concept in enumerate(concepts, 1):
            try:
                self.plan(concept)
            except NotDrawableError:
                found.append(concept)
            if progress is not None:
                progress(done, len(concepts))
        return found

    def vocabulary(self, seed: int, share: float | None = None) -> tuple[str, ...]:
        """Return a seeded share of the search captions, sorted; see ``Bank.vocabulary``."""
        return self._bank.vocabulary(seed, share)

    def plan(self, concept: str) -> Plan:
        """Plan the image of a concept.

        Raises:
            NotDrawableError: it is not in the bank, or cannot be composed from it.
        """
        plan = self._plans.get(concept)
        if plan is None:
            phrase = parse(concept, self._matcher.known, self._painter.scenes, counted=self._bank.has_models)
            plan = self._painter.prepare(self._things(concept, phrase))
            if len(self._plans) >= _REMEMBERED_PLANS:
                self._plans.clear()
            self._plans[concept] = plan
        return plan

    def _things(self, concept: str, phrase: Phrase) -> Plan:
        if not phrase.subjects and not phrase.scenes:
            raise NotDrawableError(concept, self._matcher.nearest(phrase.text))
        if len(phrase.subjects) > 1 or phrase.scenes or any(s.colour for s in phrase.subjects):
            # A caption near the whole phrase beats putting it together ("cat on the lawn").
            whole = self._whole(phrase)
            if whole is not None:
                return Plan(concept, (whole,))
        things: list[PlannedSubject] = []
        for subject in phrase.subjects:
            try:
                sources = self._sources(subject.text)
                things.append(PlannedSubject(subject.text, sources, subject.colour, subject.count))
            except NotDrawableError as error:
                raise NotDrawableError(concept, error.nearest) from None
        return Plan(concept, tuple(things), phrase.place, phrase.conditions, phrase.ignored)

    def _whole(self, phrase: Phrase) -> PlannedSubject | None:
        words = set(normalise(phrase.text).split())
        for name, similarity in self._matcher.nearest(phrase.text, 1):
            if similarity >= self._settings.threshold and words <= {*normalise(name).split(), "a", "the"}:
                return PlannedSubject(phrase.text, self._sources(name))
        return None

    def _sources(self, text: str) -> tuple[ImageSource, ...]:
        matches = self._matcher.match(text)
        if matches[0].similarity < 1:
            matches = matches[: self._settings.max_captions]
        found: dict[str, ImageSource] = {}
        for match in matches:
            for entry in match.entries:
                found.setdefault(entry.id, ImageSource(entry, match.name, match.similarity, match.ignored))
        return tuple(found.values())
