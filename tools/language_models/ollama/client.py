"""One Ollama server over HTTP, and the errors of its requests."""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

from line_neurons.agent.errors import BackendError, MissingPartError
from line_neurons.tools.language_models.server import (
    ANOTHER_PROGRAM,
    CHECK_LOG,
    FIVE_TIMES,
    ONCE,
    HttpServer,
    Meanings,
    ServerError,
    causes,
    said,
)

if TYPE_CHECKING:
    from langchain_ollama import ChatOllama
    from ollama import Client, ListResponse, ResponseError, ShowResponse

Answer = TypeVar("Answer")

# The first that fits counts.
_MEANINGS: Meanings = (
    (
        r"more (?:system|gpu|\w*) ?memory|out of memory|insufficient memory|cudaMalloc",
        "the model {model} is too large for the memory of {server}",
        "choose a smaller model or a smaller --context, or free memory",
        ONCE,
    ),
    (
        r"\b(?:CUDA|ROCm|HIP|Vulkan|Metal|cuBLAS|ggml_\w+)\b",
        "the graphics card of the {kind} at {server} failed",
        "check the server's log, and restart the server",
        FIVE_TIMES,
    ),
    (r"HTTP request.* HTTPS (?:server|port)", "{server} speaks HTTPS", "write https:// in its address", ONCE),
    (
        r"cannot unmarshal object.*format",
        "the {kind} at {server} is too old for replies that follow a schema",
        "upgrade Ollama to 0.5 or newer",
        ONCE,
    ),
    (
        r"does not support (?:chat|generate)",
        "the model {model} cannot chat",
        "name a language model, such as ollama:llama3.1:8b; embedding models only measure texts",
        ONCE,
    ),
    (
        r"does not support embed",
        "the model {model} has no embeddings",
        "name an embedding model, such as ollama:nomic-embed-text",
        ONCE,
    ),
    (r"does not support thinking", "the model {model} cannot think", "use --think off", ONCE),
)


class Server(HttpServer):
    """One Ollama server; see ``HttpServer``."""

    kind = "Ollama server"
    protocol = "Ollama's"
    key_variable = "OLLAMA_API_KEY"
    start = "start it with `ollama serve`, or name another with --ollama or OLLAMA_HOST"

    def __init__(self, url: str, *, timeout: float, reply_tokens: int = 0) -> None:
        super().__init__(url, timeout=timeout, reply_tokens=reply_tokens)
        self._opening = threading.Lock()

    @cached_property
    def _query_arguments(self) -> dict[str, Any]:
        return self.http(lambda: self.allowance(self.query_seconds))

    @cached_property
    def _client(self) -> Client:
        load_ollama()
        from ollama import Client

        return Client(self.name, **self._query_arguments)

    @property
    def chat(self) -> ChatOllama:
        """The LangChain chat model for this server; the model's name is sent with each request."""
        with self._opening:
            return self._chat

    @cached_property
    def _chat(self) -> ChatOllama:
        load_ollama()
        from langchain_ollama import ChatOllama

        # It warns of answers that are empty, which are told here as what they are.
        logging.getLogger("langchain_ollama").setLevel(logging.ERROR)
        arguments = self.http(lambda: self.allowance(self.timeout))
        return ChatOllama(
            model="",
            base_url=self.name,
            sync_client_kwargs=arguments,
            async_client_kwargs={"trust_env": False},
        )

    def version(self) -> str:
        """Query the server's version.

        Raises:
            ServerError: it did not answer.
        """
        load_ollama()
        from ollama import ResponseError

        def ask() -> str:
            with httpx.Client(**self._query_arguments) as client:
                response = client.get(f"{self.name}/api/version")
            try:
                return str(response.raise_for_status().json()["version"])
            except httpx.HTTPStatusError as error:
                raise ResponseError(response.text, response.status_code) from error

        return self.query(ask)

    def models(self) -> ListResponse:
        """List the server's models.

        Raises:
            ServerError: it did not answer.
        """
        # Within the question, as the client is made when it is first wanted.
        return self.query(lambda: self._client.list())  # noqa: PLW0108

    def about(self, model: str) -> ShowResponse:
        """Query details of one of the server's models.

        Raises:
            ServerError: it did not answer.
        """
        return self.query(lambda: self._client.show(model), model)

    def embed(self, model: str, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """Embed phrases with one of the server's models.

        Raises:
            ServerError: it did not answer.
        """
        load_ollama()
        from ollama import Client

        def request() -> Sequence[Sequence[float]]:
            with Client(self.name, **self.http(lambda: self.allowance(self.timeout))) as client:
                rows: Sequence[Sequence[float]] = client.embed(model, list(texts)).embeddings
                return rows

        return self.ask(request, model)

    def ask(self, request: Callable[[], Answer], model: str = "") -> Answer:
        """See ``HttpServer.ask``."""
        load_ollama()
        from ollama import ResponseError

        def answered() -> Answer:
            try:
                return request()
            except ResponseError as error:
                raise self._refused(error, model) from error
            except ValueError as error:
                # langchain-ollama says so when the answer ended before it began.
                if "No data received" not in str(error):
                    raise
                text = f"the {self.kind} at {self.name} sent an empty reply; the model was at most loaded"
                raise ServerError(BackendError(text, CHECK_LOG), FIVE_TIMES) from error

        return super().ask(answered, model)

    def _refused(self, error: ResponseError, model: str) -> ServerError:
        # In the middle of a stream an error comes without a status, -1.
        status, message = error.status_code, said(str(error.error))
        if status == 404 and model and "model" in message.lower():
            return missing(model, self.name)
        # Of what it was to fetch it says by such words that there is none.
        if status == 404 and not re.search("model|manifest|file", message):
            return self._no_such_path(message)
        if meant := self.meaning(message, model, _MEANINGS):
            return meant
        redirects = [cause for cause in causes(error) if isinstance(cause, httpx.HTTPStatusError)]
        target = redirects[0].response.headers.get("location", "") if redirects else ""
        return self.refused(status, message, target)

    def _no_such_path(self, message: str) -> ServerError:
        base, _, last = self.name.rpartition("/")
        if last in ("v1", "api"):
            remedy = f"leave /{last} away: {base}"
        elif self._parts.path:
            remedy = "check the path in the address"
        else:
            remedy = f"is there a path before it, as in {self.name}/ollama? {ANOTHER_PROGRAM}"
        return ServerError(BackendError(f"nothing of Ollama's is at {self.name} (404): {message}", remedy))


def load_ollama() -> None:
    """Import ollama, which fails where OLLAMA_HOST names several servers."""
    if "ollama" in sys.modules:
        return
    host = os.environ.pop("OLLAMA_HOST", None)
    try:
        import ollama  # noqa: F401
    finally:
        if host is not None:
            os.environ["OLLAMA_HOST"] = host


def missing(model: str, name: str) -> ServerError:
    """Return the error for a server called ``name`` that does not have ``model``."""
    return ServerError(
        MissingPartError(
            f"the Ollama server at {name} does not have the model {model}",
            f"line pull {model}, or ollama pull {model}",
        )
    )
