"""Replies of language models, kept in SQLite."""

from __future__ import annotations

import sqlite3
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from line_neurons.agent.errors import StoreError
from line_neurons.tools.language_models.proposer import Completion
from line_neurons.tools.upgrades import refuse_newer_file

if TYPE_CHECKING:
    from langchain_community.cache import SQLAlchemyCache

_PATIENCE = 30.0
"""Seconds that a thread or process waits for others that write."""


class ReplyCache:
    """Replies kept in SQLite, so that a replay needs no model; for many threads and processes at once.

    A question has one answer: the one that was kept first, whoever asked it.

    Args:
        path: database file; made when a reply is first looked up.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opening = threading.Lock()
        self._meeting = threading.Lock()
        self._asked: dict[tuple[str, str], Future[Completion]] = {}

    def get_or_ask(self, prompt: str, model: str, ask: Callable[[], Completion]) -> Completion:
        """The kept reply of ``model`` to ``prompt``; without one, what ``ask`` answers is kept.

        Threads that want the same reply at the same time share one call of ``ask``, and its error if it fails.

        Raises:
            StoreError: the database cannot be used.
        """
        question, mine = (prompt, model), Future[Completion]()
        with self._meeting:
            first = self._asked.setdefault(question, mine)
        if first is not mine:
            return first.result()
        try:
            mine.set_result(self.get(prompt, model) or self.put(prompt, model, ask()))
        except BaseException as error:
            # Those who wait must hear of it, whatever it is.
            mine.set_exception(error)
        finally:
            with self._meeting:
                del self._asked[question]
        return mine.result()

    def get(self, prompt: str, model: str) -> Completion | None:
        """The kept reply of ``model`` to ``prompt``, or None.

        Raises:
            StoreError: the database cannot be used.
        """
        with self._opened() as cache:
            found = cache.lookup(prompt, model)
        if not found:
            return None
        info = found[0].generation_info or {}
        return Completion(
            text=found[0].text,
            truncated=bool(info.get("truncated", False)),
            thoughts=str(info.get("thoughts", "")),
        )

    def put(self, prompt: str, model: str, reply: Completion) -> Completion:
        """Keep a reply, if there is none yet.

        Returns:
            The reply that is kept: another process may have been first.

        Raises:
            StoreError: the database cannot be used.
        """
        from langchain_core.load import dumps
        from langchain_core.outputs import Generation
        from sqlalchemy.dialects.sqlite import insert

        info = {"truncated": reply.truncated, "thoughts": reply.thoughts}
        response = dumps(Generation(text=reply.text, generation_info=info))
        with self._opened() as cache, cache.engine.begin() as database:
            # The cache's own update would overwrite a reply that others have gone on with.
            row = insert(cache.cache_schema).values(prompt=prompt, llm=model, idx=0, response=response)
            first = database.execute(row.on_conflict_do_nothing()).rowcount == 1
        return reply if first else self.get(prompt, model) or reply

    @contextmanager
    def _opened(self) -> Iterator[SQLAlchemyCache]:
        try:
            with self._opening:
                cache = self._cache
            yield cache
        except StoreError:
            raise
        except Exception as error:
            raise StoreError(
                f"the reply cache {str(self._path)!r} cannot be used: {str(error).splitlines()[0]}",
                "check the disk and the folder's permissions, or move the file away",
            ) from error

    @cached_property
    def _cache(self) -> SQLAlchemyCache:
        # langchain-community is winding down: nothing of it is imported before a reply is looked up.
        from langchain_community.cache import FullLLMCache, SQLAlchemyCache
        from sqlalchemy import URL, create_engine, event
        from sqlalchemy.schema import CreateTable

        # What the cache itself calls; nothing that a user could do about it.
        warnings.filterwarnings("ignore", category=PendingDeprecationWarning, module=r"langchain_community\.cache")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        refuse_newer_file(self._path)
        url = URL.create("sqlite", database=str(self._path))
        engine = create_engine(url, connect_args={"timeout": _PATIENCE})
        event.listen(engine, "connect", _write_ahead)
        # The cache looks for its tables and then makes them; another process may make them in between.
        with engine.begin() as database:
            for table in FullLLMCache.metadata.sorted_tables:
                database.execute(CreateTable(table, if_not_exists=True))
        return SQLAlchemyCache(engine)


def _write_ahead(connection: sqlite3.Connection, _record: Any) -> None:
    """Let readers and a writer not wait for each other, and a kept reply not for the disk."""
    # Another process may be at the same at this moment, or the file be read-only.
    with suppress(sqlite3.OperationalError):
        connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
