"""Cache of the replies of language models, so that a replay needs no model."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from line_neurons.tools.cache.replies import ReplyDatabase
from line_neurons.tools.json_text import loads
from line_neurons.tools.language_models.engine import Completion


class ReplyCache:
    """Replies kept in SQLite; for many threads and processes at once.

    A prompt has one reply: the one that was kept first, whoever sent it. For a damaged reply the prompt is sent
    again: the models still give the same reply.

    Args:
        path: database file; made when a reply is first looked up.
    """

    def __init__(self, path: Path) -> None:
        self._replies = ReplyDatabase(path)
        self._meeting = threading.Lock()
        self._requests: dict[tuple[str, str], Future[Completion]] = {}

    def get_or_complete(self, prompt: str, model: str, ask: Callable[[], Completion]) -> Completion:
        """Return the cached reply of ``model`` to ``prompt``, else cache that of ``ask``.

        Threads that want the same reply at the same time share one call of ``ask``, and its error if it fails.

        Raises:
            StoreError: the database cannot be used.
        """
        request, mine = (prompt, model), Future[Completion]()
        with self._meeting:
            first = self._requests.setdefault(request, mine)
        if first is not mine:
            return first.result()
        try:
            mine.set_result(self.get(prompt, model) or self.put(prompt, model, ask()))
        except BaseException as error:
            # Those who wait must hear of it, whatever it is.
            mine.set_exception(error)
        finally:
            with self._meeting:
                del self._requests[request]
        return mine.result()

    def get(self, prompt: str, model: str) -> Completion | None:
        """Return the kept reply of ``model`` to ``prompt``, or None.

        Raises:
            StoreError: the database cannot be used.
        """
        return self._replies.get(prompt, model, _decode)

    def put(self, prompt: str, model: str, reply: Completion) -> Completion:
        """Keep a reply if there is none yet; return the kept one.

        Raises:
            StoreError: the database cannot be used.
        """
        from langchain_core.load import dumps
        from langchain_core.outputs import Generation

        info = {"truncated": reply.truncated, "thoughts": reply.thoughts}
        is_first = self._replies.put(prompt, model, dumps(Generation(text=reply.text, generation_info=info)))
        return reply if is_first else self.get(prompt, model) or reply


def _decode(response: str) -> Completion | None:
    """Read a kept reply as plain data; None if it is none."""
    try:
        kept = loads(response)["kwargs"]
        info = kept.get("generation_info") or {}
        text, thoughts = kept["text"], info.get("thoughts", "")
        if isinstance(text, str) and isinstance(thoughts, str):
            return Completion(text=text, truncated=info.get("truncated", False) is True, thoughts=thoughts)
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    return None
