"""Replies of language models in ``replies.db``, by prompt and model; the first one that was kept stays."""

from __future__ import annotations

import logging
import sqlite3
import threading
import warnings
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from line_neurons.agent.errors import StoreError
from line_neurons.tools.store import sqlite as databases
from line_neurons.tools.store.migrations import refuse_newer
from line_neurons.tools.store.sqlite import is_damaged, quarantine, store_error

if TYPE_CHECKING:
    from langchain_community.cache import SQLAlchemyCache

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class ReplyDatabase:
    """A table of replies in the form of langchain-community's cache; for many threads and processes.

    A damaged database is quarantined and a new one made.

    Args:
        path: database file; made when a reply is first looked up.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opening = threading.Lock()

    def get(self, prompt: str, model: str, decode: Callable[[str], Result | None]) -> Result | None:
        """Return the reply of ``model`` to ``prompt``; one that ``decode`` finds damaged is removed.

        Raises:
            StoreError: the database cannot be used.
        """
        from sqlalchemy import delete, select

        def look_up(cache: SQLAlchemyCache) -> Result | None:
            table = cache.cache_schema
            where = (table.prompt == prompt, table.llm == model)
            with cache.engine.begin() as database:
                # The cache's own look-up would make objects of whatever class a row names.
                response = database.scalar(select(table.response).where(*where).order_by(table.idx))
                reply = None if response is None else decode(response)
                if response is not None and reply is None:
                    database.execute(delete(table).where(*where))
                    logger.warning("a cached reply in %s is damaged; the prompt is sent again", self._path)
            return reply

        return self._with_cache(look_up)

    def put(self, prompt: str, model: str, response: str) -> bool:
        """Keep a reply, if there is none yet, and return whether there was none.

        Raises:
            StoreError: the database cannot be used.
        """
        from sqlalchemy.dialects.sqlite import insert

        def keep(cache: SQLAlchemyCache) -> bool:
            # The cache's own update would overwrite a reply that others have gone on with.
            row = insert(cache.cache_schema).values(prompt=prompt, llm=model, idx=0, response=response)
            with cache.engine.begin() as database:
                return database.execute(row.on_conflict_do_nothing()).rowcount == 1

        return self._with_cache(keep)

    def _with_cache(self, use: Callable[[SQLAlchemyCache], Result]) -> Result:
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

    def _attempt(self, use: Callable[[SQLAlchemyCache], Result]) -> Result:
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
