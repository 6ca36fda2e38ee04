"""Open a language model from its spec: Ollama, OpenAI-compatible, LangChain, embedded, or without one."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from line_neurons.agent.concepts import concept_key
from line_neurons.agent.errors import MissingPartError, UsageError
from line_neurons.agent.near_names import MISTYPED, choices, near_names
from line_neurons.agent.ports import LanguageModel, Prompt, Proposal
from line_neurons.agent.presets import OLLAMA_SAMPLING
from line_neurons.agent.seeds import derive_rng
from line_neurons.agent.setting_groups.guidance import WITHOUT_LANGUAGE_MODEL
from line_neurons.agent.settings import Settings
from line_neurons.tools.language_models.engine import ChatEngine, Completion, EnginePool
from line_neurons.tools.language_models.proposer import Proposer
from line_neurons.tools.language_models.reply_cache import ReplyCache

# File and SHA-256 of each embedded model, by asset pack; the first is the default.
EMBEDDED = {
    "qwen2.5-coder-1.5b": (
        "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    ),
    "smollm2-135m": (
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
}
_TRIED = re.compile(r"^(?:-?[\d.]+ (?P<scored>.+)|Forbidden: (?P<forbidden>.+))$", re.MULTILINE)
# Questions at once to one server, one service, or copies of the embedded model.
_AT_ONCE = 4
# To one OpenAI-compatible server, which batches them.
_AT_ONCE_BATCHED = 32
NAMED_KINDS = frozenset({"ollama", "openai", "langchain"})
"""Kinds of language models that need a name behind the colon."""
FORMS = (
    "ollama:NAME",
    "openai:MODEL",
    "langchain:package.module.Class",
    "embedded",
    *(f"embedded:{name}" for name in EMBEDDED),
    "random",
    "near",
    "guided",
)


def open_language_model(
    spec: str,
    *,
    settings: Settings,
    assets: Path,
    cache: Path | None,
    words: Callable[[], Sequence[str]],
) -> LanguageModel:
    """Open the language model of ``spec``; nothing is loaded before use.

    Args:
        spec: one of ``FORMS``.
        settings: sampling, and where servers are.
        cache: database of cached replies; None to cache none.
        words: the vocabulary of ``random``.

    Raises:
        UsageError: there is no such language model.
        MissingPartError: its weights are not installed.
    """
    check_language_model(spec)
    kind, _, name = spec.partition(":")
    kept = ReplyCache(cache) if cache else None
    if kind == "ollama":
        return _ollama(name, settings, kept)
    if kind == "openai":
        return _openai(name, settings, kept)
    if kind == "langchain":
        return _langchain(name, settings, kept)
    if kind == "embedded":
        return _embedded(name or next(iter(EMBEDDED)), settings, assets, kept)
    return NoLanguageModel(kind) if kind in WITHOUT_LANGUAGE_MODEL else _random(words())


def check_language_model(spec: str) -> None:
    """Check the name of a language model; whether its weights are there is found out when it is opened.

    Raises:
        UsageError: it is none of ``FORMS``.
    """
    kind, _, name = spec.partition(":")
    if kind == "embedded" and name and name not in EMBEDDED:
        raise UsageError(f"there is no embedded language model {name!r:.80}", choices(name, EMBEDDED))
    if spec in FORMS or kind == "embedded" or (kind in NAMED_KINDS and name):
        return
    if ":" in spec:
        similar = near_names(kind, sorted(NAMED_KINDS), least=MISTYPED)
        near = f"{similar}:{name:.80}" if similar and name else ""
    else:
        near = near_names(spec, ("embedded", "random", *sorted(WITHOUT_LANGUAGE_MODEL)))
    # Users of Ollama know its models by their own names.
    near = near or (f"near: ollama:{spec:.80}" if spec and kind not in NAMED_KINDS else "")
    raise UsageError(
        f"there is no language model {spec!r:.80}", f"{near + '; ' if near else ''}choose from {', '.join(FORMS)}"
    )


def default_parallel(settings: Settings) -> int:
    """Return the default number of parallel requests to the language model of ``settings``.

    Raises:
        UsageError: an address of servers is not one, or none is named.
    """
    kind = settings.llm.partition(":")[0]
    if kind == "embedded":
        return min(_cores(), _AT_ONCE)
    if kind == "ollama":
        from line_neurons.tools.language_models.ollama.address import server_urls

        return _AT_ONCE * len(server_urls(settings.ollama))
    if kind == "openai":
        from line_neurons.tools.language_models.openai.address import server_urls as openai_urls

        most = next(bound.le for bound in Settings.model_fields["llm_parallel"].metadata if hasattr(bound, "le"))
        return min(_AT_ONCE_BATCHED * len(openai_urls(settings.base_url)), int(most))
    return _AT_ONCE if kind == "langchain" else 1


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _ollama(name: str, settings: Settings, kept: ReplyCache | None) -> LanguageModel:
    from line_neurons.tools.language_models.ollama.address import server_urls
    from line_neurons.tools.language_models.ollama.chat import OllamaEngine

    engine = OllamaEngine(
        name,
        server_urls(settings.ollama),
        top_p=settings.top_p,
        sampling={option: getattr(settings, option) for option in OLLAMA_SAMPLING},
        context=settings.context,
        reply_tokens=settings.reply_tokens,
        timeout=settings.timeout,
        think=settings.think,
    )
    return Proposer(lambda: engine, lambda: engine.fingerprint, kept, engine.identity)


def _openai(name: str, settings: Settings, kept: ReplyCache | None) -> LanguageModel:
    from line_neurons.tools.language_models.openai.address import server_urls
    from line_neurons.tools.language_models.openai.chat import OpenAIEngine

    engine = OpenAIEngine(
        name,
        server_urls(settings.base_url),
        top_p=settings.top_p,
        penalties={name: getattr(settings, name) for name in ("presence_penalty", "frequency_penalty")},
        reply_tokens=settings.reply_tokens,
        timeout=settings.timeout,
    )
    return Proposer(lambda: engine, lambda: engine.fingerprint, kept, engine.identity)


def _langchain(path: str, settings: Settings, kept: ReplyCache | None) -> LanguageModel:
    from line_neurons.tools.language_models.langchain import LangChainEngine

    engine = LangChainEngine(path, settings.langchain, top_p=settings.top_p)
    return Proposer(
        lambda: engine, lambda: engine.fingerprint, kept, formers=lambda: (engine.former,), was=engine.was
    )


def _embedded(pack: str, settings: Settings, assets: Path, kept: ReplyCache | None) -> LanguageModel:
    file, sha256 = EMBEDDED[pack]
    path, top_p = assets / pack / file, settings.top_p
    if not path.is_file() and kept is None:
        raise MissingPartError(f"the language model {pack} is not installed", f"line assets install {pack}")
    cores = _cores()
    engines = min(settings.llm_parallel, cores)

    def engine() -> ChatEngine:
        from line_neurons.tools.language_models.llama_cpp import LlamaCppEngine

        return LlamaCppEngine(path, top_p=top_p, threads=cores // engines)

    # The number of threads is no part of it, as the machine is not: a run may go on elsewhere, and what makes a
    # replay exact are the kept replies.
    fingerprint = f"embedded:{pack} sha256={sha256[:16]} top_p={top_p}"
    return Proposer(lambda: EnginePool(engine, engines), fingerprint, kept)


class RandomWords:
    """Replies with a random word that was not tried yet: the baseline of any model."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = sorted(set(words))

    def complete(self, prompt: Prompt, *, seed: int, temperature: float) -> Completion:
        """See ``ChatEngine.complete``; the temperature has no effect."""
        tried = set()
        for match in _TRIED.finditer(prompt.messages[-1].content):
            names = [match["scored"]] if match["scored"] else match["forbidden"].split(", ")
            tried |= {concept_key(name) for name in names}
        fresh = [word for word in self._words if concept_key(word) not in tried] or self._words
        rng, reply = derive_rng("random words", seed), {"reasoning": "Drawn at random from the vocabulary."}
        if prompt.concepts > 1:
            words = rng.sample(fresh, min(prompt.concepts, len(fresh)))
            return Completion(text=json.dumps({**reply, "concepts": words}), truncated=False)
        reply["concept"] = rng.choice(fresh)
        return Completion(text=json.dumps(reply), truncated=False)


class NoLanguageModel:
    """Stands where the search chooses among candidates itself, and is sent no prompts.

    Args:
        fingerprint: what candidates are ranked by, ``near`` or ``guided``.
    """

    def __init__(self, fingerprint: str) -> None:
        self.fingerprint = fingerprint

    def propose(self, prompt: Prompt, *, seed: int, temperature: float) -> Proposal:
        """See ``ports.LanguageModel.propose``."""
        raise UsageError(f"llm {self.fingerprint} answers no prompts", "name a language model with --llm")


def _random(words: Sequence[str]) -> LanguageModel:
    digest = hashlib.sha256(json.dumps(sorted(words)).encode()).hexdigest()
    return Proposer(lambda: RandomWords(words), f"random words={len(words)} sha256={digest[:16]}", None)
