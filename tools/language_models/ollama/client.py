"""One Ollama server over HTTP, and the errors of its requests."""

from __future__ import annotations

import logging
import os
import re
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit

import httpx

from line_neurons.agent.errors import BackendError, LineError, MissingPartError, UsageError, reason_of
from line_neurons.agent.text import clean_text
from line_neurons.tools.http_client import (
    HEADERS,
    Allowance,
    BoundedTransport,
    CertificatesError,
    EncodedError,
    TooLargeError,
    speaks_tls,
)
from line_neurons.tools.language_models.secrets import public_url

if TYPE_CHECKING:
    from langchain_ollama import ChatOllama
    from ollama import Client, ListResponse, ResponseError, ShowResponse

Answer = TypeVar("Answer")

CONNECT_SECONDS = 5.0
QUERY_SECONDS = 30.0
AVOID_SECONDS = 30.0
MAX_ANSWER_BYTES = 2_000_000
# A token comes as a line of JSON of 100 to 300 bytes.
_BYTES_A_TOKEN = 500
_FIVE_TIMES, _TWICE, _ONCE = 5, 2, 1
_PROBE_SECONDS = 2.0
_LOG = "check the server's log"
_ANOTHER_PROGRAM = "does another program answer there, or a login page before it?"

# What a server may say when it refuses a question, what that means, what to do, and how often it is worth asking.
# The first that fits counts.
_MEANINGS: tuple[tuple[str, str, str, int], ...] = (
    (
        r"more (?:system|gpu|\w*) ?memory|out of memory|insufficient memory|cudaMalloc",
        "the model {model} is too large for the memory of {server}",
        "choose a smaller model or a smaller --context, or free memory",
        _ONCE,
    ),
    (
        r"\b(?:CUDA|ROCm|HIP|Vulkan|Metal|cuBLAS|ggml_\w+)\b",
        "the graphics card of the Ollama server at {server} failed",
        "check the server's log, and restart the server",
        _FIVE_TIMES,
    ),
    (r"HTTP request.* HTTPS (?:server|port)", "{server} speaks HTTPS", "write https:// in its address", _ONCE),
    (
        r"cannot unmarshal object.*format",
        "the Ollama server at {server} is too old for replies that follow a schema",
        "upgrade Ollama to 0.5 or newer",
        _ONCE,
    ),
    (
        r"does not support (?:chat|generate)",
        "the model {model} cannot chat",
        "name a language model, such as ollama:llama3.1:8b; embedding models only measure texts",
        _ONCE,
    ),
    (r"does not support thinking", "the model {model} cannot think", "use --think off", _ONCE),
)


class ServerError(Exception):
    """An error of a server, and how often a request is worth repeating.

    Args:
        error: the error for the user.
        max_attempts: how many times all servers are tried in total; 1 where waiting does not help.
        message: the server's own words, if it gave any.
    """

    def __init__(self, error: LineError, max_attempts: int = _ONCE, message: str = "") -> None:
        super().__init__(str(error))
        self.error = error
        self.max_attempts = max_attempts
        self.message = message


class Server:
    """One Ollama server.

    Args:
        url: its address; with ``user:password@`` for one behind basic authentication.
        timeout: seconds that a reply may take.
        reply_tokens: longest reply in tokens.
    """

    def __init__(self, url: str, *, timeout: float, reply_tokens: int = 0) -> None:
        parts = urlsplit(url)
        self.name = public_url(url)
        self._timeout = timeout
        self._query_seconds = min(timeout, QUERY_SECONDS)
        self._limit = MAX_ANSWER_BYTES + _BYTES_A_TOKEN * reply_tokens
        self._auth = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
        self._parts = parts
        self._opening = threading.Lock()
        self._answered = False
        self.busy = 0
        self.turn = 0
        self.avoided_until = float("-inf")

    def http(self, allow: Callable[[], Allowance]) -> dict[str, Any]:
        """Return the arguments of an httpx client with an allowance per exchange."""
        return {
            "auth": self._auth,
            "timeout": httpx.Timeout(None, connect=CONNECT_SECONDS),
            # A server that moved is named by its user; the prompts are not sent wherever an answer points.
            "follow_redirects": False,
            # No proxy of the environment: such a server is on this machine or in this network.
            "trust_env": False,
            "headers": HEADERS | _api_key(),
            "transport": BoundedTransport(allow, tls=self._parts.scheme == "https"),
        }

    def allowance(self, seconds: float) -> Allowance:
        """Return the limits of an exchange of ``seconds`` with this server."""
        return Allowance(seconds, self._limit)

    @cached_property
    def _query_arguments(self) -> dict[str, Any]:
        return self.http(lambda: self.allowance(self._query_seconds))

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
        arguments = self.http(lambda: self.allowance(self._timeout))
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

        return self._query(ask)

    def models(self) -> ListResponse:
        """List the server's models.

        Raises:
            ServerError: it did not answer.
        """
        # Within the question, as the client is made when it is first wanted.
        return self._query(lambda: self._client.list())  # noqa: PLW0108

    def about(self, model: str) -> ShowResponse:
        """Query details of one of the server's models.

        Raises:
            ServerError: it did not answer.
        """
        return self._query(lambda: self._client.show(model), model)

    def _query(self, request: Callable[[], Answer], model: str = "") -> Answer:
        def in_time() -> Answer:
            try:
                return request()
            except (httpx.ReadTimeout, httpx.WriteTimeout) as error:
                raise self._late(self._query_seconds, f"is it busy, or stuck? {_LOG}") from error

        return self.ask(in_time, model)

    def ask(self, request: Callable[[], Answer], model: str = "") -> Answer:
        """Run a request to this server, and turn whatever fails into a ServerError.

        ``model`` is named in the error where it is missing or too large.

        Raises:
            ServerError: the server cannot be reached, refused, or replied with something else.
        """
        load_ollama()
        from ollama import ResponseError

        try:
            answer = request()
        except (httpx.ConnectError, httpx.ConnectTimeout, ConnectionError) as error:
            raise self._unreached(error) from error
        except httpx.TimeoutException as error:
            remedy = "give it longer with --timeout, or choose a smaller model"
            raise self._late(self._timeout, remedy) from error
        except TooLargeError as error:
            text = f"the Ollama server at {self.name} answered with more than {self._limit / 1e6:.0f} MB"
            raise ServerError(BackendError(text, _ANOTHER_PROGRAM)) from error
        except EncodedError as error:
            text = f"{self.name} answered in the encoding {clean_text(str(error), 40)!r}, which was not asked for"
            raise ServerError(BackendError(text, "let what stands before the server compress nothing")) from error
        except CertificatesError as error:
            text = f"the certificates that SSL_CERT_FILE or SSL_CERT_DIR names cannot be read: {reason_of(error)}"
            raise ServerError(UsageError(text, "name a file of certificates in PEM form")) from error
        except ResponseError as error:
            raise self._refused(error, model) from error
        except (httpx.HTTPError, httpx.StreamError) as error:
            if self._wants_tls():
                raise self._no_plain_http() from error
            raise self.lost(clean_text(str(error), 200)) from error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            # langchain-ollama says so when the answer ended before it began.
            if "No data received" in str(error):
                text = f"the Ollama server at {self.name} sent an empty reply; the model was at most loaded"
                raise ServerError(BackendError(text, _LOG), _FIVE_TIMES) from error
            raise self._another_program(error) from error
        self._answered = True
        return answer

    def _late(self, seconds: float, remedy: str) -> ServerError:
        text = f"the Ollama server at {self.name} did not finish within {seconds:g} s"
        return ServerError(BackendError(text, remedy), _TWICE)

    def _unreached(self, error: Exception) -> ServerError:
        cause = next(
            (origin for origin in _causes(error) if isinstance(origin, ssl.SSLError | socket.gaierror)), error
        )
        if isinstance(cause, ssl.SSLCertVerificationError):
            wrong_name = "mismatch" in cause.verify_message
            remedy = (
                "write the name that the certificate is for in the address"
                if wrong_name
                else "name the file of its certificate, or of the authority that signed it, in SSL_CERT_FILE"
            )
            message = clean_text(cause.verify_message, 200)
            return ServerError(BackendError(f"the certificate of {self.name} is not trusted: {message}", remedy))
        if isinstance(cause, socket.gaierror):
            host = self._parts.hostname
            return ServerError(
                BackendError(f"no host is called {host!r} here, as in {self.name}", "check the address"),
                _FIVE_TIMES,
            )
        # The system's words for a handshake that the other side does not answer.
        if isinstance(cause, ssl.SSLError) or "handshake" in str(_causes(error)[-1]):
            plain = self.name.replace("https://", "http://", 1)
            return ServerError(
                BackendError(f"{self.name} does not speak HTTPS", f"is it {plain} (OpenSSL: {reason_of(cause)})?"),
                _ONCE if isinstance(cause, ssl.SSLError) else _TWICE,
            )
        return ServerError(
            BackendError(
                f"no Ollama server answers at {self.name}",
                "start it with `ollama serve`, or name another with --ollama or OLLAMA_HOST",
            ),
            _FIVE_TIMES,
        )

    def _wants_tls(self) -> bool:
        """Tell whether a server that has never replied hung up because it speaks HTTPS."""
        host, port = self._parts.hostname, self._parts.port
        if self._answered or self._parts.scheme != "http" or not host or not port:
            return False
        return speaks_tls(host, port, min(self._timeout, _PROBE_SECONDS))

    def _no_plain_http(self) -> ServerError:
        other = self.name.replace("http://", "https://", 1)
        return ServerError(BackendError(f"{self.name} speaks HTTPS", f"write {other}"))

    def _another_program(self, error: Exception) -> ServerError:
        page = str(getattr(error, "doc", ""))
        if page.lstrip().startswith("<"):
            what = f"a page of the web{_titled(page)}"
        else:
            # Of JSON in another form Python speaks in words of this program.
            what = clean_text(str(error), 120) if isinstance(error, ValueError) else "JSON of another form"
        text = f"{self.name} sent a reply that is not Ollama's: {what}"
        return ServerError(BackendError(text, _ANOTHER_PROGRAM))

    def lost(self, detail: str) -> ServerError:
        """Return the error for a connection lost before the reply was complete."""
        return ServerError(
            BackendError(
                f"the connection to the Ollama server at {self.name} was lost during the reply: {detail}",
                "check the server's log; `line resume` continues the run",
            ),
            _FIVE_TIMES,
        )

    def _refused(self, error: ResponseError, model: str) -> ServerError:
        # In the middle of a stream an error comes without a status, -1.
        status, words = error.status_code, str(error.error)
        message = clean_text(_titled(words).strip() if words.lstrip().startswith("<") else words, 300)
        message = message or "no reason given"
        if status == 404 and model and "model" in message.lower():
            return missing(model, self.name)
        # Of what it was to fetch it says by such words that there is none.
        if status == 404 and not re.search("model|manifest|file", message):
            return self._no_such_path(message)
        for signs, meaning, remedy, max_attempts in _MEANINGS:
            if re.search(signs, message, re.IGNORECASE):
                meant = meaning.format(server=self.name, model=model)
                return ServerError(BackendError(f"{meant}: {message}", remedy), max_attempts, message)
        if 300 <= status < 400:
            causes = [cause for cause in _causes(error) if isinstance(cause, httpx.HTTPStatusError)]
            target = causes[0].response.headers.get("location", "") if causes else ""
            where = f" to {clean_text(public_url(target), 100)}" if target else ""
            return ServerError(
                BackendError(f"{self.name} redirects elsewhere ({status}){where}", "name the server's own address")
            )
        if status in (401, 403):
            return self._no_access(status, message)
        text = f"the Ollama server at {self.name} failed" + (f" ({status})" if status > 0 else "") + f": {message}"
        passing = status >= 500 or status in (-1, 408, 429)
        return ServerError(BackendError(text, _LOG), _FIVE_TIMES if passing else _ONCE, message)

    def _no_such_path(self, message: str) -> ServerError:
        base, _, last = self.name.rpartition("/")
        if last in ("v1", "api"):
            remedy = f"leave /{last} away: {base}"
        elif self._parts.path:
            remedy = "check the path in the address"
        else:
            remedy = f"is there a path before it, as in {self.name}/ollama? {_ANOTHER_PROGRAM}"
        return ServerError(BackendError(f"nothing of Ollama's is at {self.name} (404): {message}", remedy))

    def _no_access(self, status: int, message: str) -> ServerError:
        if self._auth:
            remedy = "check user and password in its address"
        elif _api_key():
            remedy = "check the key in OLLAMA_API_KEY"
        else:
            remedy = "set OLLAMA_API_KEY, or write its address as http://USER:PASSWORD@HOST:PORT"
        text = f"the Ollama server at {self.name} refuses access ({status}): {message}"
        return ServerError(BackendError(text, remedy))


def _causes(error: BaseException) -> list[BaseException]:
    """Return an error and its causes, which some clients hide."""
    found = [error]
    while cause := found[-1].__cause__ or found[-1].__context__:
        found.append(cause)
    return found


def _titled(page: str) -> str:
    """Return the title of a web page in quotes, with a space before; empty for none."""
    title = re.search(r"<title[^>]*>([^<]{1,200})", page[:10_000], re.IGNORECASE)
    return f" {clean_text(title[1], 80)!r}" if title else ""


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


def _api_key() -> dict[str, str]:
    key = os.environ.get("OLLAMA_API_KEY")
    return {"authorization": f"Bearer {key}"} if key else {}


def missing(model: str, name: str) -> ServerError:
    """Return the error for a server called ``name`` that does not have ``model``."""
    return ServerError(
        MissingPartError(
            f"the Ollama server at {name} does not have the model {model}",
            f"line pull {model}, or ollama pull {model}",
        )
    )
