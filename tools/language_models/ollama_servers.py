"""Ollama servers over HTTP: what can go wrong with one, and how questions are spread over several."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit

import httpx

from line_neurons.agent.errors import BackendError, LineError, MissingPartError
from line_neurons.agent.proposal import clean_text
from line_neurons.tools.language_models.ollama_address import shown

if TYPE_CHECKING:
    from langchain_ollama import ChatOllama
    from ollama import Client, ListResponse, ShowResponse

Answer = TypeVar("Answer")

CONNECT_SECONDS = 5.0
LOOK_SECONDS = 30.0
LEFT_OUT_SECONDS = 30.0
MAX_ANSWER_BYTES = 2_000_000
# A token comes as a line of JSON of 100 to 300 bytes.
_BYTES_A_TOKEN = 500
_PATIENT, _TWICE, _ONCE = 5, 2, 1
_TOO_LARGE = re.compile(
    r"more (?:system|gpu|\w*) ?memory|out of memory|insufficient memory|cudaMalloc", re.IGNORECASE
)


class Trouble(Exception):
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


class _TooLongError(Exception):
    pass


class _Bounded(httpx.BaseTransport):
    """HTTP whose answers end: none lasts longer or grows larger than it may.

    httpx's own timeouts are between two packets: a server that sends a word now and then would never meet them.
    """

    def __init__(self, seconds: float, limit: int) -> None:
        self._inner = httpx.HTTPTransport()
        self._seconds = seconds
        self._limit = limit

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        end = time.monotonic() + self._seconds
        response = self._inner.handle_request(request)
        assert isinstance(response.stream, httpx.SyncByteStream)
        response.stream = _BoundedStream(response.stream, end, self._limit)
        return response

    def close(self) -> None:
        self._inner.close()


class _BoundedStream(httpx.SyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream, end: float, limit: int) -> None:
        self._stream = stream
        self._end = end
        self._limit = limit

    def __iter__(self) -> Iterator[bytes]:
        arrived = 0
        for part in self._stream:
            arrived += len(part)
            if arrived > self._limit:
                raise _TooLongError
            if time.monotonic() > self._end:
                raise httpx.ReadTimeout("the answer took too long")
            yield part

    def close(self) -> None:
        self._stream.close()


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
        self._limit = MAX_ANSWER_BYTES + _BYTES_A_TOKEN * reply_tokens
        self._auth = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
        self._opening = threading.Lock()
        self.busy = 0
        self.turn = 0
        self.left_out_until = float("-inf")

    def http(self, seconds: float) -> dict[str, Any]:
        """Arguments of an httpx client for this server, whose answers take at most ``seconds``."""
        return {
            "auth": self._auth,
            "timeout": httpx.Timeout(seconds, connect=min(CONNECT_SECONDS, seconds)),
            # A server that moved is named by its user; the prompts are not sent wherever an answer points.
            "follow_redirects": False,
            # No proxy of the environment: such a server is on this machine or in this network.
            "trust_env": False,
            "headers": {"accept-encoding": "identity"} | _api_key(),
            "transport": _Bounded(seconds, self._limit),
        }

    @cached_property
    def _client(self) -> Client:
        load_ollama()
        from ollama import Client

        return Client(self.name, **self.http(min(self._timeout, LOOK_SECONDS)))

    @property
    def chat(self) -> ChatOllama:
        """The chat model of LangChain for this server; the model's name goes with each question."""
        with self._opening:
            return self._chat

    @cached_property
    def _chat(self) -> ChatOllama:
        load_ollama()
        from langchain_ollama import ChatOllama

        arguments = self.http(self._timeout)
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
        arguments = self.http(min(self._timeout, LOOK_SECONDS))

        def ask() -> str:
            with httpx.Client(**arguments) as client:
                return str(client.get(f"{self.name}/api/version").raise_for_status().json()["version"])

        return self.ask(ask)

    def models(self) -> ListResponse:
        """The models that it has.

        Raises:
            Trouble: it did not say.
        """
        return self.ask(self._client.list)

    def about(self, model: str) -> ShowResponse:
        """What it says about one of its models.

        Raises:
            Trouble: it did not say.
        """
        return self.ask(lambda: self._client.show(model), model)

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
            return question()
        except (httpx.ConnectError, httpx.ConnectTimeout, ConnectionError) as error:
            raise Trouble(
                BackendError(
                    f"no Ollama server answers at {self.name}",
                    "start it with `ollama serve`, or name another with --ollama or OLLAMA_HOST",
                ),
                _PATIENT,
            ) from error
        except httpx.TimeoutException as error:
            raise Trouble(
                BackendError(
                    f"the Ollama server at {self.name} did not finish within {self._timeout:g} s",
                    "give it longer with --timeout, or choose a smaller model",
                ),
                _TWICE,
            ) from error
        except _TooLongError as error:
            raise Trouble(
                BackendError(
                    f"the Ollama server at {self.name} answered with more than {self._limit / 1e6:.0f} MB",
                    "is this an Ollama server?",
                )
            ) from error
        except (ResponseError, httpx.HTTPStatusError) as error:
            raise self._refused(error, model) from error
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise self.lost(clean_text(str(error), 200)) from error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            # langchain-ollama says so when the answer ended before it began.
            if "No data received" in str(error):
                raise self.lost("nothing was answered") from error
            raise Trouble(
                BackendError(
                    f"{self.name} answered with something that is not Ollama's: "
                    f"{type(error).__name__}: {clean_text(str(error), 120)}",
                    "is this the address of an Ollama server?",
                )
            ) from error

    def lost(self, detail: str) -> Trouble:
        """The connection was lost before the answer had ended."""
        return Trouble(
            BackendError(
                f"the connection to the Ollama server at {self.name} was lost in mid-answer: {detail}",
                "look at the server's log; `line resume` goes on where the run stopped",
            ),
            _PATIENT,
        )

    def _refused(self, error: Exception, model: str) -> Trouble:
        response = getattr(error, "response", None)
        # In the middle of a stream an error comes without a status.
        status = int(response.status_code if response is not None else getattr(error, "status_code", -1))
        said = clean_text(str(getattr(error, "error", error)), 300) or "no reason given"
        if status == 404 and model:
            return missing(model, self.name)
        if _TOO_LARGE.search(said):
            return Trouble(
                BackendError(
                    f"the model {model} is too large for the memory of {self.name}: {said}",
                    "choose a smaller model or a smaller --context, or free memory",
                )
            )
        if 300 <= status < 400:
            return Trouble(
                BackendError(f"{self.name} redirects elsewhere ({status})", "name the server's own address")
            )
        if status in (401, 403):
            return Trouble(
                BackendError(
                    f"the Ollama server at {self.name} refuses access ({status}): {said}",
                    "write its address as http://USER:PASSWORD@HOST:PORT, or set OLLAMA_API_KEY",
                )
            )
        text = f"the Ollama server at {self.name} failed" + (f" ({status})" if status > 0 else "") + f": {said}"
        passing = status >= 500 or status in (-1, 408, 429)
        return Trouble(BackendError(text, "look at the server's log"), _PATIENT if passing else _ONCE, said)


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


def missing(model: str, name: str) -> Trouble:
    """The server called ``name`` does not have ``model``."""
    return Trouble(
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
            except Trouble as trouble:
                if rounds >= trouble.rounds:
                    raise trouble.error from trouble
                self._sleep(2.0 ** (rounds - 1))
                rounds += 1

    def leave_out(self, server: Server) -> None:
        """Turn to ``server`` only if there is no other, for half a minute."""
        with self._lock:
            server.left_out_until = self._clock() + LEFT_OUT_SECONDS

    def _round(self, question: Callable[[Server], Answer]) -> Answer:
        troubles: dict[Server, Trouble] = {}
        while len(troubles) < len(self.servers):
            server = self._take(troubles)
            try:
                return question(server)
            except Trouble as trouble:
                troubles[server] = trouble
                self.leave_out(server)
            finally:
                with self._lock:
                    server.busy -= 1
        raise combined(troubles)

    def _take(self, tried: Mapping[Server, Trouble]) -> Server:
        with self._lock:
            now = self._clock()
            rest = [server for server in self.servers if server not in tried]
            chosen = min(rest, key=lambda server: (server.left_out_until > now, server.busy, server.turn))
            chosen.busy += 1
            self._turns += 1
            chosen.turn = self._turns
            return chosen


def combined(troubles: Mapping[Server, Trouble]) -> Trouble:
    """The troubles of all servers as one."""
    found = list(troubles.values())
    if len(found) == 1:
        return found[0]
    kind = MissingPartError if all(isinstance(one.error, MissingPartError) for one in found) else BackendError
    message = "no Ollama server can answer: " + "; ".join(one.error.message for one in found)
    remedies = dict.fromkeys(one.error.remedy for one in found)
    return Trouble(kind(message, "; ".join(filter(None, remedies))), max(one.rounds for one in found))
