"""Ollama servers over HTTP: what can go wrong with one, and how questions are spread over several."""

from __future__ import annotations

import logging
import os
import re
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
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
from line_neurons.tools.language_models.ollama.address import shown

if TYPE_CHECKING:
    from langchain_ollama import ChatOllama
    from ollama import Client, ListResponse, ResponseError, ShowResponse

Answer = TypeVar("Answer")

CONNECT_SECONDS = 5.0
LOOK_SECONDS = 30.0
LEFT_OUT_SECONDS = 30.0
MAX_ANSWER_BYTES = 2_000_000
# A token comes as a line of JSON of 100 to 300 bytes.
_BYTES_A_TOKEN = 500
_PATIENT, _TWICE, _ONCE = 5, 2, 1
_PROBE_SECONDS = 2.0
_LOG = "look at the server's log"
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
        "look at the server's log, and start the server anew",
        _PATIENT,
    ),
    (r"HTTP request.* HTTPS (?:server|port)", "{server} speaks HTTPS", "write https:// in its address", _ONCE),
    (
        r"cannot unmarshal object.*format",
        "the Ollama server at {server} is too old to hold answers to a schema",
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
    """What is wrong with a server, and how often a question is worth asking in spite of it.

    Args:
        error: what a person is told.
        rounds: how many times all servers are tried in all; 1 where waiting helps nothing.
        said: the server's own words, if it gave any.
    """

    def __init__(self, error: LineError, rounds: int = _ONCE, said: str = "") -> None:
        super().__init__(str(error))
        self.error = error
        self.rounds = rounds
        self.said = said


class Server:
    """One Ollama server.

    Args:
        url: its address; with ``user:password@`` for one behind basic authentication.
        timeout: seconds that an answer may take.
        reply_tokens: longest answer that is asked for.
    """

    def __init__(self, url: str, *, timeout: float, reply_tokens: int = 0) -> None:
        parts = urlsplit(url)
        self.name = shown(url)
        self._timeout = timeout
        self._look_seconds = min(timeout, LOOK_SECONDS)
        self._limit = MAX_ANSWER_BYTES + _BYTES_A_TOKEN * reply_tokens
        self._auth = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
        self._parts = parts
        self._opening = threading.Lock()
        self._answered = False
        self.busy = 0
        self.turn = 0
        self.left_out_until = float("-inf")

    def http(self, allow: Callable[[], Allowance]) -> dict[str, Any]:
        """Arguments of an httpx client for this server, each exchange of which keeps to an allowance."""
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
        """What an exchange of so many seconds with this server may take."""
        return Allowance(seconds, self._limit)

    @cached_property
    def _looking(self) -> dict[str, Any]:
        return self.http(lambda: self.allowance(self._look_seconds))

    @cached_property
    def _client(self) -> Client:
        load_ollama()
        from ollama import Client

        return Client(self.name, **self._looking)

    @property
    def chat(self) -> ChatOllama:
        """The chat model of LangChain for this server; the model's name goes with each question."""
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
        """The server's version.

        Raises:
            Trouble: it did not say.
        """
        load_ollama()
        from ollama import ResponseError

        def ask() -> str:
            with httpx.Client(**self._looking) as client:
                response = client.get(f"{self.name}/api/version")
            try:
                return str(response.raise_for_status().json()["version"])
            except httpx.HTTPStatusError as error:
                raise ResponseError(response.text, response.status_code) from error

        return self._look(ask)

    def models(self) -> ListResponse:
        """The models that it has.

        Raises:
            Trouble: it did not say.
        """
        # Within the question, as the client is made when it is first wanted.
        return self._look(lambda: self._client.list())  # noqa: PLW0108

    def about(self, model: str) -> ShowResponse:
        """What it says about one of its models.

        Raises:
            Trouble: it did not say.
        """
        return self._look(lambda: self._client.show(model), model)

    def _look(self, question: Callable[[], Answer], model: str = "") -> Answer:
        def in_time() -> Answer:
            try:
                return question()
            except (httpx.ReadTimeout, httpx.WriteTimeout) as error:
                raise self._late(self._look_seconds, f"is it busy, or stuck? {_LOG}") from error

        return self.ask(in_time, model)

    def ask(self, question: Callable[[], Answer], model: str = "") -> Answer:
        """The answer to ``question``, with whatever goes wrong made a Trouble of this server.

        Args:
            question: asks this server.
            model: the model in question, named where it is missing or too large.

        Raises:
            Trouble: the server is not there, refused, or answered with something else.
        """
        load_ollama()
        from ollama import ResponseError

        try:
            answer = question()
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
                text = f"the Ollama server at {self.name} answered nothing, the model was at most loaded"
                raise ServerError(BackendError(text, _LOG), _PATIENT) from error
            raise self._another_program(error) from error
        self._answered = True
        return answer

    def _late(self, seconds: float, remedy: str) -> ServerError:
        text = f"the Ollama server at {self.name} did not finish within {seconds:g} s"
        return ServerError(BackendError(text, remedy), _TWICE)

    def _unreached(self, error: Exception) -> ServerError:
        cause = next((one for one in _causes(error) if isinstance(one, ssl.SSLError | socket.gaierror)), error)
        if isinstance(cause, ssl.SSLCertVerificationError):
            wrong_name = "mismatch" in cause.verify_message
            remedy = (
                "write the name that the certificate is for in the address"
                if wrong_name
                else "name the file of its certificate, or of the authority that signed it, in SSL_CERT_FILE"
            )
            said = clean_text(cause.verify_message, 200)
            return ServerError(BackendError(f"the certificate of {self.name} is not trusted: {said}", remedy))
        if isinstance(cause, socket.gaierror):
            host = self._parts.hostname
            return ServerError(
                BackendError(f"no machine is called {host!r} here, as in {self.name}", "check the address"),
                _PATIENT,
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
            _PATIENT,
        )

    def _wants_tls(self) -> bool:
        """Whether a server that has never answered hung up because HTTPS is what it speaks."""
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
        text = f"{self.name} answered with something that is not Ollama's: {what}"
        return ServerError(BackendError(text, _ANOTHER_PROGRAM))

    def lost(self, detail: str) -> ServerError:
        """The connection was lost before the answer had ended."""
        return ServerError(
            BackendError(
                f"the connection to the Ollama server at {self.name} was lost in mid-answer: {detail}",
                "look at the server's log; `line resume` goes on where the run stopped",
            ),
            _PATIENT,
        )

    def _refused(self, error: ResponseError, model: str) -> ServerError:
        # In the middle of a stream an error comes without a status, -1.
        status, words = error.status_code, str(error.error)
        said = clean_text(_titled(words).strip() if words.lstrip().startswith("<") else words, 300)
        said = said or "no reason given"
        if status == 404 and model and "model" in said.lower():
            return missing(model, self.name)
        # Of what it was to fetch it says by such words that there is none.
        if status == 404 and not re.search("model|manifest|file", said):
            return self._no_such_path(said)
        for signs, meaning, remedy, rounds in _MEANINGS:
            if re.search(signs, said, re.IGNORECASE):
                meant = meaning.format(server=self.name, model=model)
                return ServerError(BackendError(f"{meant}: {said}", remedy), rounds, said)
        if 300 <= status < 400:
            causes = [cause for cause in _causes(error) if isinstance(cause, httpx.HTTPStatusError)]
            target = causes[0].response.headers.get("location", "") if causes else ""
            where = f" to {clean_text(shown(target), 100)}" if target else ""
            return ServerError(
                BackendError(f"{self.name} redirects elsewhere ({status}){where}", "name the server's own address")
            )
        if status in (401, 403):
            return self._no_access(status, said)
        text = f"the Ollama server at {self.name} failed" + (f" ({status})" if status > 0 else "") + f": {said}"
        passing = status >= 500 or status in (-1, 408, 429)
        return ServerError(BackendError(text, _LOG), _PATIENT if passing else _ONCE, said)

    def _no_such_path(self, said: str) -> ServerError:
        base, _, last = self.name.rpartition("/")
        if last in ("v1", "api"):
            remedy = f"leave /{last} away: {base}"
        elif self._parts.path:
            remedy = "check the path in the address"
        else:
            remedy = f"is there a path before it, as in {self.name}/ollama? {_ANOTHER_PROGRAM}"
        return ServerError(BackendError(f"nothing of Ollama's is at {self.name} (404): {said}", remedy))

    def _no_access(self, status: int, said: str) -> ServerError:
        if self._auth:
            remedy = "check user and password in its address"
        elif _api_key():
            remedy = "check the key in OLLAMA_API_KEY"
        else:
            remedy = "set OLLAMA_API_KEY, or write its address as http://USER:PASSWORD@HOST:PORT"
        text = f"the Ollama server at {self.name} refuses access ({status}): {said}"
        return ServerError(BackendError(text, remedy))


def _causes(error: BaseException) -> list[BaseException]:
    """An error and those that it came of, which some clients hide."""
    found = [error]
    while cause := found[-1].__cause__ or found[-1].__context__:
        found.append(cause)
    return found


def _titled(page: str) -> str:
    """The title of a page of the web in quotes, with a blank before; empty for none."""
    title = re.search(r"<title[^>]*>([^<]{1,200})", page[:10_000], re.IGNORECASE)
    return f" {clean_text(title[1], 80)!r}" if title else ""


def load_ollama() -> None:
    """Import the ollama package, whose import reads OLLAMA_HOST and fails where that names several servers."""
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
    """The server called ``name`` does not have ``model``."""
    return ServerError(
        MissingPartError(
            f"the Ollama server at {name} does not have the model {model}",
            f"line pull {model}, or ollama pull {model}",
        )
    )


class ServerPool:
    """Spreads questions over servers; one that is in trouble is left out for a while.

    Args:
        servers: the servers, at least one.
        clock: monotonic seconds.
        sleep: waits for so many seconds.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.servers = tuple(servers)
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._turns = 0

    def ask(self, question: Callable[[Server], Answer]) -> Answer:
        """The first answer that one of the servers gives to ``question``.

        A server in trouble is passed over for the next one. When all are, those troubles that may pass are waited
        for: 1, 2, 4 and 8 seconds.

        Raises:
            LineError: no server can answer; each is named with what is wrong with it.
        """
        rounds = 1
        while True:
            try:
                return self._round(question)
            except ServerError as trouble:
                if rounds >= trouble.rounds:
                    raise trouble.error from trouble
                self._sleep(2.0 ** (rounds - 1))
                rounds += 1

    def leave_out(self, server: Server) -> None:
        """Turn to ``server`` only if there is no other, for half a minute."""
        with self._lock:
            server.left_out_until = self._clock() + LEFT_OUT_SECONDS

    def _round(self, question: Callable[[Server], Answer]) -> Answer:
        troubles: dict[Server, ServerError] = {}
        while len(troubles) < len(self.servers):
            server = self._take(troubles)
            try:
                return question(server)
            except ServerError as trouble:
                troubles[server] = trouble
                self.leave_out(server)
            finally:
                with self._lock:
                    server.busy -= 1
        raise combined(troubles)

    def _take(self, tried: Mapping[Server, ServerError]) -> Server:
        with self._lock:
            now = self._clock()
            rest = [server for server in self.servers if server not in tried]
            chosen = min(rest, key=lambda server: (server.left_out_until > now, server.busy, server.turn))
            chosen.busy += 1
            self._turns += 1
            chosen.turn = self._turns
            return chosen


def combined(troubles: Mapping[Server, ServerError]) -> ServerError:
    """The troubles of all servers as one."""
    found = list(troubles.values())
    if len(found) == 1:
        return found[0]
    kind = MissingPartError if all(isinstance(one.error, MissingPartError) for one in found) else BackendError
    message = "no Ollama server can answer: " + "; ".join(one.error.message for one in found)
    remedies = dict.fromkeys(one.error.remedy for one in found)
    return ServerError(kind(message, "; ".join(filter(None, remedies))), max(one.rounds for one in found))
