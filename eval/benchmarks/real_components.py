"""Real models for the benchmarks: opened once, warmed up, and shared by several stores."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from line_neurons.agent.concepts import concept_key
from line_neurons.agent.errors import ReplyError, UsageError
from line_neurons.agent.ports import LanguageModel, Prompt
from line_neurons.agent.presets import SEARCH_SHARE
from line_neurons.agent.prompts import image_requests, initial_prompt
from line_neurons.agent.seeds import derive_rng
from line_neurons.agent.settings import load_settings
from line_neurons.eval.benchmarks.metering import MeteredGenerator, MeteredModel
from line_neurons.graphs.runs.components import Components
from line_neurons.tools.image_bank.phrases import COLOURS
from line_neurons.tools.images.png import with_file
from line_neurons.tools.language_models.engine import Completion
from line_neurons.tools.language_models.llama_cpp import LlamaCppEngine
from line_neurons.tools.language_models.proposer import Proposer
from line_neurons.tools.language_models.registry import EMBEDDED

OpenComponents = Callable[[Path], Components]
"""Opens all components around a store."""

SETTINGS = (
    "seed",
    "iterations",
    "images",
    "random_pool",
    "max_concurrent_units",
    "llm_parallel",
    "batch_timeout",
    "assets",
)
"""Settings of a run that the benchmarks have options for."""


def add_options(parser: ArgumentParser, *, llm: str) -> None:
    """Add the options of the parts that run real models."""
    parser.add_argument("--model", default="torchvision:mobilenet_v2", help="the target")
    parser.add_argument("--layer", default="features.18")
    parser.add_argument(
        "--llm", default=llm, help="embedded, embedded:PACK, random, or near:SHARE of composed phrases"
    )
    parser.add_argument("--generator", default="bank")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--iterations", type=int)
    parser.add_argument("--images", type=int)
    parser.add_argument("--random-pool", type=int)
    parser.add_argument("--max-concurrent-units", type=int, default=16)
    parser.add_argument("--llm-parallel", type=int, default=1)
    parser.add_argument("--batch-timeout", type=float)
    parser.add_argument("--assets", type=Path)
    parser.add_argument("--store", type=Path, help="keep the stores in this folder, which must be new")


def settings_of_options(options: Namespace) -> dict[str, Any]:
    """Return the settings that the options name; others have their defaults."""
    given = {name: value for name in SETTINGS if (value := getattr(options, name)) is not None}
    fixed = {"control": "bank", "vocabulary_share": SEARCH_SHARE, "revisit": True}
    return {"generator": options.generator, **fixed, **given}


def component_opener(options: Namespace) -> OpenComponents:
    """Return a function that opens the components that the options name."""

    def opened(store: Path) -> Components:
        near = options.llm.startswith("near")
        components = Components(
            options.model,
            load_settings(store=store, llm="random" if near else options.llm, **settings_of_options(options)),
        )
        return components.with_(language_model=near_words(options.llm)) if near else components

    return opened


def near_words(spec: str) -> LanguageModel:
    """Return the proposer ``near:SHARE``.

    Raises:
        UsageError: the share is no number from 0 to 1.
    """
    share = spec.partition(":")[2] or "0.5"
    try:
        composed = float(share)
    except ValueError:
        composed = -1.0
    if not 0 <= composed <= 1:
        raise UsageError(f"the share {share!r:.40} of composed phrases is not from 0 to 1", "use near:0.5")
    return Proposer(lambda: NearWords(composed), f"near words composed={composed}", None)


def metered(components: Components) -> tuple[Components, MeteredGenerator, MeteredModel]:
    """Put meters around the components' generator and language model."""
    generator, model = MeteredGenerator(components.generator), MeteredModel(components.language_model)
    return components.with_(generator=generator, language_model=model), generator, model


def without_reply_cache(components: Components, llm_parallel: int, kept: int) -> LanguageModel:
    """Return the components' language model without its reply cache.

    Args:
        llm_parallel: number of parallel requests that the cores are divided for.
        kept: number of kinds of prompts whose shared state an embedded model keeps.
    """
    kind, _, pack = components.settings.llm.partition(":")
    if kind != "embedded":
        return components.language_model
    pack = pack or next(iter(EMBEDDED))
    path, threads = components.assets / pack / EMBEDDED[pack][0], len(os.sched_getaffinity(0)) // llm_parallel
    engine = partial(LlamaCppEngine, path, top_p=components.settings.top_p, threads=max(threads, 1), kept=kept)
    return Proposer(engine, components.language_model.fingerprint, None)


def with_store(components: Components, store: Path, **changes: Any) -> Components:
    """Return components around another store that share the opened models."""
    settings = components.settings.model_copy(update={"store": store, **changes})
    shared = {name: part for name, part in components.opened().items() if name not in {"cache", "runs"}}
    return Components(components.model, settings, layers=set(components.layers)).with_(**shared)


def warm_up(components: Components, layer: str) -> None:
    """Load everything: weights, embeddings of the bank's names, and an engine for each parallel request.

    The control activations are written to the store's cache. No image is, and no request is one of a run.
    """
    components.fingerprints(layer)
    components.control(layer)
    components.generator.suggest(["dog"], 1)
    images = components.generator.synthesize(image_requests("dog", 1, 0))
    components.target.activate([with_file(image).png for image in images], [layer])

    def ask(index: int) -> None:
        with contextlib.suppress(ReplyError):
            components.language_model.propose(initial_prompt("none", "none", 1, []), seed=index, temperature=0)

    with ThreadPoolExecutor(components.settings.llm_parallel) as pool:
        list(pool.map(ask, range(components.settings.llm_parallel)))


@contextmanager
def closing(components: Components) -> Iterator[Components]:
    """Close the parts' databases at the end."""
    try:
        yield components
    finally:
        components.cache.close()
        components.runs.close()


@contextmanager
def store_folder(folder: Path | None) -> Iterator[Path]:
    """Return a folder for stores: a named one that stays, or a temporary one.

    Raises:
        UsageError: the named folder is not empty, so that its contents would spare work.
    """
    if folder is None:
        with TemporaryDirectory(prefix="line-benchmark-") as made:
            yield Path(made)
        return
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"the folder {str(folder)!r} is not empty", "name a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    yield folder


def copied(template: Path, store: Path) -> Path:
    """Create a store with the control activations and embeddings of the template."""
    shutil.copytree(template, store)
    return store


def units_of(count: int) -> list[str]:
    """Selectors of the first ``count`` units."""
    return [f"0-{count - 1}"]


MODIFIERS = (
    *sorted(COLOURS),
    "snowy",
    "foggy",
    "rainy",
    "stormy",
    "grassy",
    "autumnal",
    "nighttime",
    "underwater",
)
_SCORED = re.compile(r"^-?[\d.]+ (.+)$", re.MULTILINE)
_FORBIDDEN = re.compile(r"^Forbidden: (.+)$", re.MULTILINE)
_NEAR = re.compile(r"^\w+ can be made of, for example: (.+)$", re.MULTILINE)


class NearWords:
    """A cheap proposer that searches as a small language model does: near the board's best, and with modifiers.

    The words of an image bank are few, and a proposer that draws from them alone would soon repeat what other
    units of the layer proposed. This one replies with a drawable concept that the prompt names near the best or,
    in a share of its replies, puts a colour or a surrounding to one of them: 8,000 phrases with the bundled bank's
    360 captions, and more with two modifiers.

    Args:
        composed: share in [0, 1] of answers that put a modifier to a concept.
    """

    def __init__(self, composed: float) -> None:
        self.composed = composed

    def complete(self, prompt: Prompt, *, seed: int, temperature: float) -> Completion:
        """See ``ChatEngine.complete``; the temperature has no effect."""
        request = prompt.messages[-1].content
        board = _SCORED.findall(request)
        near = _listed(_NEAR, request)
        tried = {concept_key(name) for name in (*board, *_listed(_FORBIDDEN, request))}
        rng = derive_rng("near words", seed)
        modified = [
            phrase
            for thing in (*board[:3], *near)
            for modifier in MODIFIERS
            if len((phrase := f"{modifier} {thing}").split()) <= 3
            and not thing.startswith(modifier)
            and concept_key(phrase) not in tried
        ]
        chosen = modified if rng.random() < self.composed or not near else near
        reply = {"reasoning": "Near the strongest.", "concept": rng.choice(chosen or near or board)}
        return Completion(text=json.dumps(reply), truncated=False)


def _listed(line: re.Pattern[str], request: str) -> list[str]:
    found = line.search(request)
    return found[1].split(", ") if found else []
