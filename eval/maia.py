"""MAIA's evaluation: images of prompts that should excite a unit, and of prompts that should not.

A language model reads a unit's labels and writes seven prompts of each kind for the text-to-image model; the
numbers are the unit's mean activations (Shaham et al. 2024: A multimodal automated interpretability agent). The
wording of the requests is ours, and a prompt is a phrase of at most 40 characters, as all concepts here are.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from statistics import fmean
from typing import Any

from line_neurons.agent.concepts import concept_key
from line_neurons.agent.errors import BackendError, NotDrawableError, ReplyError
from line_neurons.agent.ports import ImageRequest, Message, Prompt
from line_neurons.agent.replies import reply_schema
from line_neurons.agent.seeds import derive_seed
from line_neurons.agent.text import clean_text
from line_neurons.eval.cosy.runner import EvaluatedLayer
from line_neurons.eval.labels.labels import Label, Labels
from line_neurons.eval.labels.names import model_stem
from line_neurons.eval.reports.statistics import compare
from line_neurons.eval.reports.table import TEST_COLUMNS, Report, Table, tested_rows
from line_neurons.graphs.runs.components import OnProgress
from line_neurons.tools.store.atomic_files import write_file

PROMPTS = 7
"""Prompts of each kind, as in MAIA's evaluation."""
_ATTEMPTS = 5
_LONG_WORD = 4
"""Letters of a word of a label that no prompt against it may use; shorter ones are mostly no nouns."""
_LONGEST = reply_schema(1)["properties"]["concept"]["maxLength"]
_SYSTEM = """\
A unit of a vision model was given a label: what its images show when it responds most. You write short prompts \
for a text-to-image model, each of at most 40 characters and each for another image. They say what the image \
shows, and nothing else.
Answer with JSON only: {"reasoning": "...", "concepts": ["...", "..."]}"""
_TASKS = {
    "positive": "Write {count} prompts for images that the unit should respond to most. If the label names "
    "several things, share the prompts among them.",
    "negative": "Write {count} prompts for images that the unit should not respond to: nothing in them is related "
    "to the label, and none uses a word of it.",
}


@dataclass(frozen=True)
class PromptedImages:
    """What a unit does on the images of one kind of prompts.

    Args:
        activations: the unit's, in their order.
        refused: prompts that the generator has no image of.
    """

    prompts: tuple[str, ...]
    activations: tuple[float, ...]
    refused: tuple[str, ...] = ()

    @property
    def mean(self) -> float:
        """The mean activation; nan without an image."""
        return fmean(self.activations) if self.activations else nan


@dataclass(frozen=True)
class PromptedUnit:
    """A unit with its labels, and what it does on images of both kinds; ``failed`` says why there are none."""

    unit: int
    labels: tuple[str, ...]
    positive: PromptedImages
    negative: PromptedImages
    failed: str = ""


def evaluate_prompts(
    evaluated: EvaluatedLayer,
    labels: Labels,
    chosen: Sequence[Label],
    *,
    count: int = PROMPTS,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> list[PromptedUnit]:
    """Measure each unit on images of prompts that a language model writes from its labels.

    Replies, images and activations are in the store's caches, so that the same call continues an interrupted one.

    Args:
        labels: of the method; further labels of a unit are given to the language model too.
        chosen: the first labels of the units to evaluate.
        count: prompts of each kind.
        on_progress: reports long work; its exceptions end the work.

    Raises:
        BackendError: a component failed.
    """
    found = []
    for done, label in enumerate(chosen):
        if on_progress:
            on_progress("measuring images of prompts", done, len(chosen))
        names = tuple(dict.fromkeys(one.concept for one in (label, *labels.further) if one.unit == label.unit))
        try:
            kinds = {kind: _prompts(evaluated, kind, names, count, seed) for kind in _TASKS}
        except ReplyError as error:
            nothing = PromptedImages((), ())
            found.append(PromptedUnit(label.unit, names, nothing, nothing, f"no usable reply: {error.detail}"))
            continue
        images = {kind: _measured(evaluated, label.unit, prompts, seed) for kind, prompts in kinds.items()}
        found.append(PromptedUnit(label.unit, names, images["positive"], images["negative"]))
    return found


def _prompts(
    evaluated: EvaluatedLayer, kind: str, labels: Sequence[str], count: int, seed: int
) -> tuple[str, ...]:
    """Return the prompts that a language model writes, at most ``count`` different ones.

    Raises:
        ReplyError: no reply of several was usable.
    """
    model, settings = evaluated.components.language_model, evaluated.components.settings
    task = _TASKS[kind].format(count=count)
    listed = "\n".join(f"- {label}" for label in labels)
    messages = (Message("system", _SYSTEM), Message("user", f"{task}\nLabel:\n{listed}"))
    refused = ReplyError("empty", "the answer was empty", raw="")
    for attempt in range(_ATTEMPTS):
        number = derive_seed("maia", seed, kind, *labels, attempt)
        try:
            reply = model.propose(
                Prompt(messages, shared=1, concepts=max(count, 2)), seed=number, temperature=settings.temperature
            )
        except ReplyError as error:
            refused = error
            continue
        prompts: dict[str, str] = {}
        for text in reply.named or (reply.concept,):
            cleaned = clean_text(text, 2 * _LONGEST).strip()
            if cleaned and not (kind == "negative" and _uses_words_of(cleaned, labels)):
                prompts.setdefault(concept_key(cleaned), cleaned)
        if prompts:
            return tuple(prompts.values())[:count]
        refused = ReplyError("concept", f"its {kind} prompts use words of the label", raw=reply.raw)
    raise refused


def _uses_words_of(prompt: str, labels: Sequence[str]) -> bool:
    """Return whether a prompt has a noun or another long word of a label: it is no prompt against it."""
    keys = [concept_key(label) for label in labels]
    words = {word for key in keys for word in key.split() if len(word) >= _LONG_WORD or key == word}
    return not words.isdisjoint(concept_key(prompt).split())


def _measured(evaluated: EvaluatedLayer, unit: int, prompts: Sequence[str], seed: int) -> PromptedImages:
    components = evaluated.components
    images: dict[str, str] = {}
    refused: list[str] = []
    for prompt in prompts:
        request = ImageRequest(prompt, "", "", derive_seed("maia", seed, prompt), "{concept}")
        try:
            (images[prompt],) = components.cache.images([request], components.generator)
        except NotDrawableError:
            refused.append(prompt)
    if not images:
        return PromptedImages((), (), tuple(refused))
    rows = components.cache.activations(
        list(images.values()), components.target, evaluated.layer, generator=components.generator, unit=unit
    )
    return PromptedImages(tuple(images), tuple(float(value) for value in rows[:, 0]), tuple(refused))


def prompts_report(found: Sequence[PromptedUnit], labels: Labels) -> Report:
    """Return the table of an evaluation."""
    columns = ("unit", "label", "positive", "negative", "difference", "images", "refused")
    rows = tuple(
        (
            one.unit, "; ".join(one.labels), one.positive.mean, one.negative.mean,
            one.positive.mean - one.negative.mean,
            len(one.positive.prompts) + len(one.negative.prompts),
            len(one.positive.refused) + len(one.negative.refused),
        )
        for one in found
    )  # fmt: skip
    units = Table(
        "maia", "Mean activation on images of prompts", columns, rows,
        "positive: prompts for what the label says; negative: for what it does not, without its words. refused: "
        "prompts that the generator has no image of.",
    )  # fmt: skip
    paired = compare([one.positive.mean for one in found], [one.negative.mean for one in found])
    tests = Table(
        "maia-test", "Over units", ("difference of", *TEST_COLUMNS),
        tuple(tested_rows([(("positive - negative",), paired)])), "", ("normality p", "Holm p"),
    )  # fmt: skip
    notes = tuple(f"unit {one.unit}: {one.failed}." for one in found if one.failed)
    tables = (units, tests) if paired.test != "none" else (units,)
    return Report("maia", f"MAIA's evaluation of {labels.source}", tables, {}, notes)


def write_results(found: Sequence[PromptedUnit], folder: Path, evaluated: EvaluatedLayer) -> list[Path]:
    """Write ``MODEL/LAYER/UNIT/eval_results.json``, as MAIA's evaluation does; units without images have none.

    Raises:
        UsageError: the folder cannot be written to.
    """
    place = folder / model_stem(evaluated.components.shown_model).replace("/", "-") / evaluated.layer
    return [
        write_file(place / str(one.unit) / "eval_results.json", json.dumps(_as_maia(one), indent=4).encode())
        for one in found
        if one.positive.prompts and one.negative.prompts
    ]


def _as_maia(one: PromptedUnit) -> dict[str, Any]:
    return {
        "average_positive_score": one.positive.mean,
        "average_negative_score": one.negative.mean,
        "positive_prompts": one.positive.prompts,
        "negative_prompts": one.negative.prompts,
        "positive_scores": one.positive.activations,
        "negative_scores": one.negative.activations,
    }


def check_images(found: Sequence[PromptedUnit]) -> None:
    """Check that there is an image of a prompt at all.

    Raises:
        BackendError: the generator has none of any prompt.
    """
    if found and not any(one.positive.prompts or one.negative.prompts for one in found):
        failed = next(
            (one.failed for one in found if one.failed), "the generator has images of none of the prompts"
        )
        raise BackendError(f"no unit could be measured: {failed}", "choose another --generator or --llm")
