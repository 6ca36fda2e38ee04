"""The language model of the loop: a chat engine with validation and the reply cache."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from line_neurons.agent.ports import Prompt, Proposal
from line_neurons.agent.replies import parse_reply
from line_neurons.agent.text import storable_text
from line_neurons.tools.language_models.engine import ChatEngine, Completion

if TYPE_CHECKING:
    from line_neurons.tools.language_models.reply_cache import ReplyCache

MAX_REPLY_CHARACTERS = 50_000
"""No usable reply comes near it; what a runaway model says beyond it is not kept."""

# Some templates open the thoughts in the prompt, so that the model only closes them.
# No whitespace may stand before these: searching on from each blank of a long row takes hours.
_CLOSED = re.compile(r"(?:<think(?:ing)?>|(?!\{))(?P<thoughts>.*?)</think(?:ing)?>(?P<answer>.*)", re.DOTALL)
_OPENED = re.compile(r"<think(?:ing)?>(?P<thoughts>.*)", re.DOTALL)


class Proposer:
    """The LanguageModel port over any chat engine, for many threads.

    Args:
        engine: makes the engine when the first reply has to be computed; never called in a replay.
        fingerprint: model id, weights hash and settings, or a function that finds them on first use.
        cache: stores replies, or None to request each one again.
        identity: finds what is known of the weights behind the fingerprint; None where it says all.
        formers: finds fingerprints under which earlier releases recorded the same model.
        was: tells whether a run's fingerprint and arguments of the model, as recorded, are of this model.
    """

    def __init__(
        self,
        engine: Callable[[], ChatEngine],
        fingerprint: str | Callable[[], str],
        cache: ReplyCache | None,
        identity: Callable[[], Mapping[str, str]] | None = None,
        *,
        formers: Callable[[], Sequence[str]] = tuple,
        was: Callable[[str, Mapping[str, Any]], bool] = lambda fingerprint, arguments: False,
    ) -> None:
        self.identity = identity
        self._make_engine = engine
        self._find_fingerprint = fingerprint
        self._cache = cache
        self._opening = threading.Lock()
        self._find_formers = formers
        self._was = was
        self._recognised: list[str] = []

    @property
    def fingerprint(self) -> str:
        """Model id, weights hash and settings."""
        with self._opening:
            return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        return self._find_fingerprint if isinstance(self._find_fingerprint, str) else self._find_fingerprint()

    @cached_property
    def _formers(self) -> Sequence[str]:
        return self._find_formers()

    def recognises(self, fingerprint: str, arguments: Mapping[str, Any]) -> bool:
        """Tell whether an earlier release recorded this model under ``fingerprint``.

        If so, replies cached under it are found from then on. ``arguments`` are those of the record.
        """
        known = self._was(fingerprint, arguments)
        if known and fingerprint not in self._recognised:
            self._recognised.append(fingerprint)
        return known

    @cached_property
    def _engine(self) -> ChatEngine:
        return self._make_engine()

    def propose(self, prompt: Prompt, *, seed: int, temperature: float) -> Proposal:
        """See ``ports.LanguageModel.propose``."""
        reply = self._complete(prompt, seed, temperature)
        return parse_reply(
            reply.text, truncated=reply.truncated, thoughts=reply.thoughts, concepts=prompt.concepts
        )

    def _complete(self, prompt: Prompt, seed: int, temperature: float) -> Completion:
        def ask() -> Completion:
            with self._opening:
                former = [print_ for print_ in (*self._recognised, *self._formers) if print_ != model]
            for print_ in former if self._cache else ():
                if self._cache and (kept := self._cache.get(key, print_)):
                    return kept
            with self._opening:
                engine = self._engine
            return _tidied(engine.complete(prompt, seed=seed, temperature=temperature))

        model = self.fingerprint
        key = json.dumps(
            {
                "messages": [[message.role, message.content] for message in prompt.messages],
                "seed": seed,
                "temperature": round(temperature, 4),
            },
            ensure_ascii=False,
        )
        if self._cache is None:
            return ask()
        return self._cache.get_or_complete(key, model, ask)


def _tidied(reply: Completion) -> Completion:
    """Move the thoughts out of the reply's text, and limit the length of both."""
    text, thoughts = reply.text.lstrip(), reply.thoughts
    if found := _CLOSED.fullmatch(text) or _OPENED.fullmatch(text):
        parts = found.groupdict(default="")
        text, thoughts = parts.get("answer", "").strip(), f"{thoughts}\n{parts['thoughts']}"
    return Completion(
        text=storable_text(text[:MAX_REPLY_CHARACTERS]),
        truncated=reply.truncated or len(text) > MAX_REPLY_CHARACTERS,
        thoughts=storable_text(thoughts.strip()[:MAX_REPLY_CHARACTERS]),
    )
