"""Describe-and-Dissect (Bai et al., 2025): caption a unit's strongest images, name what they share, rank.

A unit's strongest probe images and crops of them are captioned; the language model proposes concepts from the
captions; the generator images the concepts, and the unit's activations on these images decide.
"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from line_neurons.agent.concepts import MAX_CONCEPT_WORDS, concept_key
from line_neurons.agent.errors import BackendError, MissingPartError, NotDrawableError, ReplyError, UsageError
from line_neurons.agent.ports import ImageRequest, Prompt
from line_neurons.agent.prompts import dialogue, quoted, refusal_lines
from line_neurons.agent.seeds import derive_rng, derive_seed
from line_neurons.eval.baselines.image_text import CAPTIONS, open_encoder
from line_neurons.eval.baselines.task import BaselineTask
from line_neurons.eval.baselines.top_images import ProbeImage, find_top_images
from line_neurons.eval.labels.labels import Label, Labels
from line_neurons.graphs.loop.prompting import MAX_TEMPERATURE
from line_neurons.tools.label_marks import constant_mark
from line_neurons.tools.store.atomic_files import write_file

if TYPE_CHECKING:
    from line_neurons.agent.ports import ImageData
    from line_neurons.graphs.runs.components import Components

logger = logging.getLogger(__name__)

TEMPLATE = "One realistic image of {concept}"
COLUMNS = ("Neuron ID", "Label 1", "Label 2", "Label 3")
"""Those of the file that the authors' code writes."""

IMAGES, CROPS = 10, 4
"""Top images of a unit that are captioned, and most crops of each that compete with them."""
CANDIDATES = 5
"""Requests to the language model, each with the captions in another order."""
IMAGES_PER_CANDIDATE, TOP_COUNTED = 10, 5
"""Images of each candidate, and how many of the top ones count."""
TOP_COMPARED = 10
"""Number of top images of all candidates that are compared with the unit's own."""
TEMPERATURE = 0.3

CONCEPT_SYSTEM = """\
You are told what the pictures show that excite one unit of a vision model most. Name the one concept that most \
of the descriptions, not necessarily all, have in common; do not just repeat one of them.
First reason, in one short sentence. The concept is one to three words and names something that can be \
photographed.
Answer with JSON only: {"reasoning": "...", "concept": "..."}"""

SIMPLIFY_SYSTEM = """\
You are given the description of a picture. Say in one to three words what it shows, without the details.
First reason, in one short sentence.
Answer with JSON only: {"reasoning": "...", "concept": "..."}"""

_CONCEPT_EXAMPLES = (
    (
        ("a brown horse grazing behind a fence", "two zebras at a water hole", "a pony with a child on its back",
         "a donkey carrying baskets", "a stone wall"),
        '{"reasoning": "Horse, zebras, pony and donkey are all of the horse family.", "concept": "equine"}',
    ),
    (
        ("a knitted woollen hat", "a wicker basket full of bread", "a chain-link fence", "a carpet with fringes"),
        '{"reasoning": "Hat, basket, fence and carpet are all made of interlaced strands.", '
        '"concept": "woven texture"}',
    ),
)  # fmt: skip
_SIMPLIFY_EXAMPLES = (
    (
        "a close up view of a green background with a green leaf on a green background",
        '{"reasoning": "All of it is a leaf.", "concept": "green leaf"}',
    ),
)
_LONGEST_DESCRIPTION = 300

Ranking = list[tuple[str, float | None]]
Captioner = Callable[[ProbeImage], str]
ConceptWeight = Callable[[Sequence["ImageData"], Sequence[str], str, Sequence["ImageData"]], float]
"""The similarity of a candidate and its images to the images and captions of a unit; at most 1."""


@dataclass(frozen=True)
class RankedLabels(Labels):
    """Labels with all candidates of each labelled unit, best first."""

    ranked: tuple[tuple[str, ...], ...] = ()


def label(task: BaselineTask, *, captioner: str = "ollama:llava:7b", encoder: str = "") -> RankedLabels:
    """Return the best candidate of each unit.

    A candidate that cannot be generated comes last, in the order of proposal and without a score. A unit without a
    usable proposal has no label, and a warning says so. Captions, replies, images and activations are cached, so
    that interrupted work resumes. ``llm_parallel`` requests of a unit are sent at the same time; none depends on
    another's reply.

    Args:
        captioner: ``ollama:MODEL``, a vision model, or ``captions``, a stand-in that uses an image's class and
            becomes part of the method's name.
        encoder: an image-text encoder that weights each candidate by the similarity of its images to the unit's
            own, see ``open_encoder``; or ``captions``, a stand-in: the similarity of the candidate to the
            captions, part of the method's name. Empty: the activations alone decide.

    Raises:
        UsageError: there is no such captioner or encoder.
        LineError: a component is missing, or failed.
    """
    describe = _captioner(task, captioner)
    weigh = _weigher(task, encoder) if encoder else None
    progress = task.progress_for("units")
    ranked: dict[int, Ranking] = {}
    columns = zip(task.units, task.activations.T, strict=True)
    flat = [unit for unit, column in columns if constant_mark(column, "probe images")]
    without: dict[int, str] = dict.fromkeys(flat, "its activation is the same on all probe images")
    with ThreadPoolExecutor(task.components.settings.llm_parallel, thread_name_prefix="question") as pool:
        for done, (unit, shown) in enumerate(find_top_images(task, IMAGES, CROPS), 1):
            if unit in without:
                # The order of the images would decide which are the top ones.
                continue
            if rows := _of_unit(task, unit, shown, describe, weigh, pool):
                ranked[unit] = rows
            else:
                without[unit] = "the language model proposed no usable concept"
                logger.warning("unit %d has no label: %s", unit, without[unit])
            if progress:
                progress(done, len(task.units))
    if not ranked and len(flat) < len(task.units):
        raise BackendError(
            "the language model proposed no usable concept for any unit", "use another one with --llm"
        )
    method = "describe-and-dissect" + (f" ({CAPTIONS})" if CAPTIONS in (captioner, encoder) else "")
    found = task.as_labels(method, (Label(unit, *rows[0]) for unit, rows in ranked.items()), without.items())
    order = tuple(tuple(concept for concept, _ in rows) for rows in ranked.values())
    return RankedLabels(**vars(found), ranked=order)


def write_csv(found: RankedLabels, path: Path) -> None:
    """Write the three best candidates of each unit as the authors' code does: a blank where there is none.

    Raises:
        UsageError: the file cannot be written.
    """
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(COLUMNS)
    for label, order in zip(found.labels, found.ranked, strict=True):
        writer.writerow([label.unit, *(*order, " ", " ")[:3]])
    write_file(path, written.getvalue().encode())


def _captioner(task: BaselineTask, spec: str) -> Captioner:
    components = task.components
    kind, _, name = spec.partition(":")
    if spec == CAPTIONS:
        captions, labels = task.captions, task.control.labels

        def of_class(shown: ProbeImage) -> str:
            caption = captions[labels[shown.row]] if labels[shown.row] >= 0 else ""
            if not caption:
                raise UsageError("a probe image has no class to use as its caption", _VISION)
            return caption

        return of_class
    if kind == "ollama" and name:
        from line_neurons.tools.language_models.ollama.address import server_urls
        from line_neurons.tools.language_models.ollama.captions import OllamaCaptioner
        from line_neurons.tools.language_models.reply_cache import ReplyCache

        cache = ReplyCache(components.store / "replies.db")
        model = OllamaCaptioner(
            name, server_urls(components.settings.ollama), timeout=components.settings.timeout, cache=cache
        )
        try:
            # Before anything is measured.
            _ = model.fingerprint
        except (MissingPartError, BackendError) as error:
            error.remedy += f"; or, as a stand-in, --captioner {CAPTIONS}"
            raise
        return lambda shown: model.caption(shown.image)
    raise UsageError(f"there is no captioner {spec!r:.80}", f"{_VISION}, or {CAPTIONS}")


def _weigher(task: BaselineTask, spec: str) -> ConceptWeight:
    settings = task.components.settings
    if spec == CAPTIONS:
        from line_neurons.tools.image_bank.text_encoder import SentenceEncoder

        texts = SentenceEncoder(task.components.assets / "minilm")
        return lambda _, captions, concept, __: float(
            (texts.encode([*captions]) @ texts.encode([concept]).T).mean()
        )
    encoder = open_encoder(spec, device=settings.device, download=settings.download)
    return lambda own, _, __, drawn: float((encoder.images(own) @ encoder.images(drawn).T).mean())


_VISION = "use a vision model, ollama:NAME"


def _of_unit(
    task: BaselineTask,
    unit: int,
    shown: Sequence[ProbeImage],
    describe: Captioner,
    weigh: ConceptWeight | None,
    pool: Executor,
) -> Ranking:
    """Return the candidates of a unit with their scores, best first."""
    captions = [describe(image) for image in shown]
    distinct = list(dict.fromkeys(captions))
    simple = dict(zip(distinct, pool.map(partial(_simplified, task.components), distinct), strict=True))
    candidates = _candidates(task, unit, [simple[caption] for caption in captions], pool)
    drawn: dict[str, list[str]] = {}
    for concept in candidates:
        seed = task.components.settings.seed
        requests = [
            ImageRequest(concept, "", "", derive_seed("describe image", seed, concept, index), TEMPLATE)
            for index in range(IMAGES_PER_CANDIDATE)
        ]
        try:
            drawn[concept] = task.components.cache.images(requests, task.components.generator)
        except NotDrawableError:
            continue
    near = None if weigh is None else partial(weigh, [image.image for image in shown], captions)
    ranked = _ranked(task, unit, drawn, near) if drawn else []
    return [*ranked, *((concept, None) for concept in candidates if concept not in drawn)]


def _simplified(components: Components, caption: str) -> str:
    """Return a caption in few words; unchanged where it is short or the language model has no usable reply."""
    if len(caption.split()) <= MAX_CONCEPT_WORDS:
        return caption
    settings = components.settings

    def seed(attempt: int) -> int:
        return derive_seed("simplify", settings.seed, caption, attempt)

    return _asked(components, lambda refused: simplify_prompt(caption, refused), seed) or caption


def _candidates(task: BaselineTask, unit: int, descriptions: Sequence[str], pool: Executor) -> list[str]:
    """Return distinct concepts that the language model proposes from the descriptions, none of them excluded."""
    settings = task.components.settings
    excluded = {concept_key(word) for word in (*settings.exclude, *task.excluded.get(unit, ()))}

    def named(index: int) -> str:
        order = list(descriptions)
        if index:
            derive_rng("describe order", settings.seed, unit, index).shuffle(order)

        def seed(attempt: int) -> int:
            return derive_seed("describe", settings.seed, unit, index, attempt)

        return _asked(task.components, lambda refused: concept_prompt(order, refused), seed, excluded)

    distinct: dict[str, str] = {}
    for concept in pool.map(named, range(CANDIDATES)):
        if concept:
            distinct.setdefault(concept_key(concept), concept)
    return list(distinct.values())


def _asked(
    components: Components,
    prompt: Callable[[Sequence[str]], Prompt],
    seed: Callable[[int], int],
    excluded: Collection[str] = (),
) -> str:
    """Return the concept of the language model's reply; empty if no reply was usable.

    Args:
        components: has the language model, and the number of retries.
        prompt: builds the prompt from the reasons why earlier replies were refused.
        excluded: keys of concepts that are refused.
    """
    refused: list[str] = []
    for attempt in range(components.settings.retries + 1):
        temperature = min(TEMPERATURE * (attempt + 1), MAX_TEMPERATURE)
        try:
            proposal = components.language_model.propose(
                prompt(refused), seed=seed(attempt), temperature=temperature
            )
        except ReplyError as error:
            refused.append(f"your answer was unusable: {error.detail}.")
            continue
        if concept_key(proposal.concept) not in excluded:
            return proposal.concept
        refused.append(f'"{proposal.concept}" is forbidden.')
    return ""


def _ranked(
    task: BaselineTask,
    unit: int,
    drawn: Mapping[str, Sequence[str]],
    near: Callable[[str, Sequence[ImageData]], float] | None,
) -> Ranking:
    """Rank candidates by their images among those of all, times their similarity to the unit's own.

    A candidate's rank is by the mean square of the ranks of its ``TOP_COUNTED`` top images; the last one has rank
    1. A candidate with none of the ``TOP_COMPARED`` top images is weighted with -1.
    """
    components = task.components
    images = [(concept, image) for concept, several in drawn.items() for image in several]
    rows = components.cache.activations(
        [i for _, i in images], components.target, task.layer, generator=components.generator
    )
    order = np.argsort(-rows[:, unit], kind="stable")
    ranks = {concept: [at for at, place in enumerate(order) if images[place][0] == concept] for concept in drawn}
    squares = {concept: float(np.square(places[:TOP_COUNTED]).mean()) for concept, places in ranks.items()}
    worst_first = sorted(drawn, key=lambda concept: -squares[concept])
    scores = {concept: float(place) for place, concept in enumerate(worst_first, 1)}
    if near is not None:
        for concept in drawn:
            among = [images[place][1] for place in order[:TOP_COMPARED] if images[place][0] == concept]
            theirs = [components.cache.image_bytes(image) for image in among]
            scores[concept] *= near(concept, theirs) if theirs else -1.0
    return [*sorted(scores.items(), key=lambda pair: -pair[1])]


def concept_prompt(descriptions: Sequence[str], refused: Sequence[str] = ()) -> Prompt:
    """Build the prompt for the concept that descriptions of a unit's top images have in common.

    Args:
        descriptions: of the images, in the order of the prompt.
        refused: why earlier replies to this request were refused, oldest first.
    """
    examples = [(_described(several), answer) for several, answer in _CONCEPT_EXAMPLES]
    return dialogue(CONCEPT_SYSTEM, examples, "\n".join([_described(descriptions), *refusal_lines(refused)]))


def simplify_prompt(description: str, refused: Sequence[str] = ()) -> Prompt:
    """Build the prompt for a long description in few words."""
    text = quoted(description, _LONGEST_DESCRIPTION)
    return dialogue(SIMPLIFY_SYSTEM, _SIMPLIFY_EXAMPLES, "\n".join([text, *refusal_lines(refused)]))


def _described(descriptions: Sequence[str]) -> str:
    return "Descriptions:\n" + "\n".join(quoted(description, _LONGEST_DESCRIPTION) for description in descriptions)
