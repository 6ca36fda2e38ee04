"""A language model as the loop sees it: a chat engine behind validation and the reply cache."""

from __future__ import annotations

import json
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from line_neurons.agent.errors import StoreError
from line_neurons.agent.ports import Prompt, Proposal
from line_neurons.agent.proposal import parse_reply

if TYPE_CHECKING:
    from langchain_community.cache import SQLAlchemyCache

MAX_REPLY_CHARACTERS = 50_000
"""No usable reply comes near it; what a runaway model says beyond it is not kept."""

# Some templates open the thoughts in the prompt, so that the model only closes them.
# No whitespace may stand before these: searching on from each blank of a long row takes hours.
_CLOSED = re.compile(r"(?:<think(?:ing)?>|(?!\{))(?P<thoughts>.*?)</think(?:ing)?>(?P<answer>.*)", re.DOTALL)
_OPENED = re.compile(r"<think(?:ing)?>(?P<thoughts>.*)", re.DOTALL)


@dataclass(frozen=True)
class Completion:
    """What an engine answered.

    Args:
        text: the answer as it came.
        truncated: it was cut off for its length.
        thoughts: what a thinking model thought before it answered.
    """

    text: str
    truncated: bool
    thoughts: str = ""


class ChatEngine(Protocol):
    """An engine that completes chats."""

    def complete(self, prompt: Prompt, *, seed: int, temperature: float) -> Completion:
        """Answer ``prompt``; the same call gives the same text, as far as the engine can promise it.

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
    def _cache(self) -> SQLAlchemyCache:
        # langchain-community is winding down: nothing of it is imported before a reply is looked up.
        from langchain_community.cache import SQLAlchemyCache
        from sqlalchemy import URL, create_engine

        # What the cache itself calls; nothing that a user could do about it.
        warnings.filterwarnings("ignore", category=PendingDeprecationWarning, module=r"langchain_community\.cache")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return SQLAlchemyCache(create_engine(URL.create("sqlite", database=str(self._path))))

    def get(self, prompt: str, model: str) -> Completion | None:
        """The kept reply of ``model`` to ``prompt``, or None.

        Raises:
            StoreError: the database cannot be used.
        """
        with self._told():
            found = self._cache.lookup(prompt, model)
        if not found:
            return None
        info = found[0].generation_info or {}
        return Completion(
            text=found[0].text,
            truncated=bool(info.get("truncated", False)),
            thoughts=str(info.get("thoughts", "")),
        )

    def put(self, prompt: str, model: str, reply: Completion) -> None:
        """Keep a reply.

        Raises:
            StoreError: the database cannot be used.
        """
        from langchain_core.outputs import Generation

        info = {"truncated": reply.truncated, "thoughts": reply.thoughts}
        with self._told():
            self._cache.update(prompt, model, [Generation(text=reply.text, generation_info=info)])

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise StoreError(
                f"the reply cache {str(self._path)!r} cannot be used: {str(error).splitlines()[0]}",
                "check the disk and the folder's permissions, or move the file away",
            ) from error


class Proposer:
    """The LanguageModel port over any chat engine.

    Args:
        engine: makes the engine when the first reply has to be computed; never called in a replay.
        fingerprint: model id, weights hash and settings, or what finds them out when they are first asked for.
        cache: where replies are kept, or None to ask anew each time.
    """

    def __init__(
        self, engine: Callable[[], ChatEngine], fingerprint: str | Callable[[], str], cache: ReplyCache | None
    ) -> None:
        self._make_engine = engine
        self._find_fingerprint = fingerprint
        self._cache = cache
        self._opening = threading.RLock()

    @cached_property
    def _engine(self) -> ChatEngine:
        return self._make_engine()

    @cached_property
    def fingerprint(self) -> str:
        """Model id, weights hash and settings."""
        return self._find_fingerprint if isinstance(self._find_fingerprint, str) else self._find_fingerprint()

    def propose(self, prompt: Prompt, *, seed: int, temperature: float) -> Proposal:
        """See ``ports.LanguageModel.propose``."""
        reply = self._complete(prompt, seed, temperature)
        return parse_reply(reply.text, truncated=reply.truncated, thoughts=reply.thoughts)

    def _complete(self, prompt: Prompt, seed: int, temperature: float) -> Completion:
        key = json.dumps(
            {
                "messages": [[message.role, message.content] for message in prompt.messages],
                "seed": seed,
                "temperature": round(temperature, 4),
            },
            ensure_ascii=False,
        )
        with self._opening:
            model = self.fingerprint
        if self._cache is not None:
            kept = self._cache.get(key, model)
            if kept is not None:
                return kept
        with self._opening:
            engine = self._engine
        reply = _tidied(engine.complete(prompt, seed=seed, temperature=temperature))
        if self._cache is not None:
            self._cache.put(key, model, reply)
        return reply


def _tidied(reply: Completion) -> Completion:
    """The reply with the thoughts taken out of the answer, and neither longer than any usable one."""
    text, thoughts = reply.text.lstrip(), reply.thoughts
    if found := _CLOSED.fullmatch(text) or _OPENED.fullmatch(text):
        parts = found.groupdict(default="")
        text, thoughts = parts.get("answer", "").strip(), f"{thoughts}\n{parts['thoughts']}"
    return Completion(
        text=text[:MAX_REPLY_CHARACTERS],
        truncated=reply.truncated or len(text) > MAX_REPLY_CHARACTERS,
        thoughts=thoughts.strip()[:MAX_REPLY_CHARACTERS],
    )
