"""Replies of language models, kept in SQLite."""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from line_neurons.agent.errors import StoreError
from line_neurons.tools.language_models.proposer import Completion
from line_neurons.tools.store import sqlite as databases
from line_neurons.tools.store.migrations import refuse_newer
from line_neurons.tools.store.sqlite import is_damaged, quarantine, store_error

if TYPE_CHECKING:
    from langchain_community.cache import SQLAlchemyCache

logger = logging.getLogger(__name__)

Found = TypeVar("Found")


class ReplyCache:
    """Replies kept in SQLite, so that a replay needs no model; for many threads and processes at once.

    A question has one answer: the one that was kept first, whoever asked it. A damaged database is set aside and a
    new one begun, and a damaged reply is asked for anew: the models still know what they said.

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
        from sqlalchemy import delete, select

        def look_up(cache: SQLAlchemyCache) -> Completion | None:
            table = cache.cache_schema
            where = (table.prompt == prompt, table.llm == model)
            with cache.engine.begin() as database:
                # The cache's own look-up would make objects of whatever class a row names.
                response = database.scalar(select(table.response).where(*where).order_by(table.idx))
                reply = None if response is None else _read(response)
                if response is not None and reply is None:
                    database.execute(delete(table).where(*where))
                    logger.warning("a kept reply in %s was damaged; the model is asked again", self._path)
            return reply

        return self._with_cache(look_up)

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

        def keep(cache: SQLAlchemyCache) -> bool:
            # The cache's own update would overwrite a reply that others have gone on with.
            row = insert(cache.cache_schema).values(prompt=prompt, llm=model, idx=0, response=response)
            with cache.engine.begin() as database:
                return database.execute(row.on_conflict_do_nothing()).rowcount == 1

        return reply if self._with_cache(keep) else self.get(prompt, model) or reply

    def _with_cache(self, use: Callable[[SQLAlchemyCache], Found]) -> Found:
        try:
            return self._attempt(use)
        except StoreError as error:
            if not is_damaged(self._path, error.__cause__):
                raise
        with self._opening:
            if damaged := vars(self).pop("_cache", None):
                damaged.engine.dispose()
            quarantine(self._path)
        return self._attempt(use)

    def _attempt(self, use: Callable[[SQLAlchemyCache], Found]) -> Found:
        try:
            with self._opening:
                cache = self._cache
            return use(cache)
        except StoreError:
            raise
        except Exception as error:
            cause = getattr(error, "orig", None) or error
            raise store_error(self._path, cause) from cause

    @cached_property
    def _cache(self) -> SQLAlchemyCache:
        # langchain-community is winding down: nothing of it is imported before a reply is looked up.
        from langchain_community.cache import FullLLMCache, SQLAlchemyCache
        from sqlalchemy import URL, create_engine
        from sqlalchemy.schema import CreateTable

        # What the cache itself calls; nothing that a user could do about it.
        warnings.filterwarnings("ignore", category=PendingDeprecationWarning, module=r"langchain_community\.cache")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        url = URL.create("sqlite", database=str(self._path))
        engine = create_engine(url, creator=self._connect)
        # The cache looks for its tables and then makes them; another process may make them in between.
        with engine.begin() as database:
            for table in FullLLMCache.metadata.sorted_tables:
                database.execute(CreateTable(table, if_not_exists=True))
        return SQLAlchemyCache(engine)

    def _connect(self) -> sqlite3.Connection:
        connection = databases.connect(
            self._path, lambda db: refuse_newer(db, self._path), check_same_thread=False
        )
        # A kept reply need not wait for the disk.
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection


def _read(response: str) -> Completion | None:
    """A kept reply, read as plain data; None if it is none."""
    try:
        kept = json.loads(response)["kwargs"]
        info = kept.get("generation_info") or {}
        text, thoughts = kept["text"], info.get("thoughts", "")
        if isinstance(text, str) and isinstance(thoughts, str):
            return Completion(text=text, truncated=info.get("truncated", False) is True, thoughts=thoughts)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pass
    return None
