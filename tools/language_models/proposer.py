"""A language model as the loop sees it: a chat engine behind validation and the reply cache."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from line_neurons.agent.errors import StoreError
from line_neurons.agent.ports import Prompt, Proposal
from line_neurons.agent.proposal import parse_reply

if TYPE_CHECKING:
    from langchain_community.cache import SQLiteCache


@dataclass(frozen=True)
class Completion:
    """What an engine answered: the text as it came, and whether it was cut off for its length."""

    text: str
    truncated: bool


class ChatEngine(Protocol):
    """An engine that completes chats."""

    def complete(self, prompt: Prompt, *, seed: int, temperature: float) -> Completion:
        """Answer ``prompt``; the same call gives the same text.

        Raises:
            BackendError: the engine failed.
        """


class ReplyCache:
    """Replies kept in SQLite, so that a replay needs no model.

    Args:
        path: database file; made when the first reply is kept.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @cached_property
    def _cache(self) -> SQLiteCache:
        # langchain-community is winding down: nothing of it is imported before a reply is looked up.
        from langchain_community.cache import SQLiteCache

        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            return SQLiteCache(str(self._path))
        except Exception as error:
            raise StoreError(
                f"the reply cache {str(self._path)!r} cannot be opened: {str(error).splitlines()[0]}",
                "check the folder's permissions, or move the file away",
            ) from error

    def get(self, prompt: str, model: str) -> Completion | None:
        """The kept reply of ``model`` to ``prompt``, or None."""
        found = self._cache.lookup(prompt, model)
        if not found:
            return None
        info = found[0].generation_info or {}
        return Completion(text=found[0].text, truncated=bool(info.get("truncated", False)))

    def put(self, prompt: str, model: str, reply: Completion) -> None:
        """Keep a reply."""
        from langchain_core.outputs import Generation

        kept = Generation(text=reply.text, generation_info={"truncated": reply.truncated})
        self._cache.update(prompt, model, [kept])


class Proposer:
    """The LanguageModel port over any chat engine.

    Args:
        engine: makes the engine when the first reply has to be computed; never called in a replay.
        fingerprint: model id, weights hash and settings.
        cache: where replies are kept, or None to ask anew each time.
    """

    def __init__(self, engine: Callable[[], ChatEngine], fingerprint: str, cache: ReplyCache | None) -> None:
        self._make_engine = engine
        self._engine: ChatEngine | None = None
        self._fingerprint = fingerprint
        self._cache = cache

    @property
    def fingerprint(self) -> str:
        """Model id, weights hash and settings."""
        return self._fingerprint

    def propose(self, prompt: Prompt, *, seed: int, temperature: float) -> Proposal:
        """See ``ports.LanguageModel.propose``."""
        reply = self._complete(prompt, seed, temperature)
        return parse_reply(reply.text, truncated=reply.truncated)

    def _complete(self, prompt: Prompt, seed: int, temperature: float) -> Completion:
        key = json.dumps(
            {
                "messages": [[message.role, message.content] for message in prompt.messages],
                "seed": seed,
                "temperature": round(temperature, 4),
            },
            ensure_ascii=False,
        )
        if self._cache is not None:
            kept = self._cache.get(key, self._fingerprint)
            if kept is not None:
                return kept
        if self._engine is None:
            self._engine = self._make_engine()
        reply = self._engine.complete(prompt, seed=seed, temperature=temperature)
        if self._cache is not None:
            self._cache.put(key, self._fingerprint, reply)
        return reply
