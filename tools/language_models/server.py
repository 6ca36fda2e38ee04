"""A server of language models over HTTP: the limits of its exchanges, and the errors of its requests."""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar
from urllib.parse import unquote, urlsplit

import httpx

from line_neurons.agent.errors import BackendError, LineError, UsageError, reason_of
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

Answer = TypeVar("Answer")
Meanings = tuple[tuple[str, str, str, int], ...]
"""What a server may say when it refuses a request, what that means, what to do, and how often to ask."""

CONNECT_SECONDS = 5.0
QUERY_SECONDS = 30.0
MAX_ANSWER_BYTES = 2_000_000
# A token comes as a line of JSON of 100 to 300 bytes.
_BYTES_A_TOKEN = 500
FIVE_TIMES, TWICE, ONCE = 5, 2, 1
_PROBE_SECONDS = 2.0
CHECK_LOG = "check the server's log"
ANOTHER_PROGRAM = "does another program answer there, or a login page before it?"


class ServerError(Exception):
    """An error of a server, and how often a request is worth repeating.

    Args:
        max_attempts: how many times all servers are tried in total; 1 where waiting does not help.
        message: the server's own words, if it gave any.
        wait: seconds that the server asks to be left alone; 0 if it does not say.
    """

    def __init__(
        self, error: LineError, max_attempts: int = ONCE, message: str = "", *, wait: float = 0.0
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.max_attempts = max_attempts
        self.message = message
        self.wait = wait


class HttpServer:
    """One server of language models.

    Args:
        url: its address; with ``user:password@`` for one behind basic authentication.
        timeout: seconds that a reply may take.
        reply_tokens: longest reply in tokens.
    """

    kind: ClassVar[str]
    """What it is called in messages."""
    protocol: ClassVar[str]
    """Of what its replies are."""
    key_variable: ClassVar[str]
    """The variable of the environment with its key."""
    start: ClassVar[str]
    """What to do where none answers."""

    def __init__(self, url: str, *, timeout: float, reply_tokens: int = 0) -> None:
        parts = urlsplit(url)
        self.name = public_url(url)
        self.timeout = timeout
        self.query_seconds = min(timeout, QUERY_SECONDS)
        self._limit = MAX_ANSWER_BYTES + _BYTES_A_TOKEN * reply_tokens
        self._auth = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
        self._parts = parts
        self._answered = False
        self.busy = 0
        self.turn = 0
        self.avoided_until = float("-inf")

    @property
    def key(self) -> str:
        """The key of the environment; empty if there is none."""
        return os.environ.get(self.key_variable, "").strip()

    def http(self, allow: Callable[[], Allowance]) -> dict[str, Any]:
        """Return the arguments of an httpx client with an allowance per exchange.

        Raises:
            ServerError: the key cannot be sent.
        """
        if not re.fullmatch(r"[\x20-\x7e]*", self.key):
            text = f"{self.key_variable} holds a character that cannot be sent in a header"
            raise ServerError(UsageError(text, "copy the key again"))
        return {
            "auth": self._auth,
            "timeout": httpx.Timeout(None, connect=CONNECT_SECONDS),
            # A server that moved is named by its user; the prompts are not sent wherever an answer points.
            "follow_redirects": False,
            # No proxy of the environment: such a server is on this machine or in this network.
            "trust_env": False,
            "headers": HEADERS | ({"authorization": f"Bearer {self.key}"} if self.key else {}),
            "transport": BoundedTransport(allow, tls=self._parts.scheme == "https"),
        }

    def allowance(self, seconds: float) -> Allowance:
        """Return the limits of an exchange of ``seconds`` with this server."""
        return Allowance(seconds, self._limit)

    def query(self, request: Callable[[], Answer], model: str = "") -> Answer:
        """Run a short request, as ``ask`` does.

        Raises:
            ServerError: see ``ask``.
        """

        def in_time() -> Answer:
            try:
                return request()
            except (httpx.ReadTimeout, httpx.WriteTimeout) as error:
                raise self._late(self.query_seconds, f"is it busy, or stuck? {CHECK_LOG}") from error

        return self.ask(in_time, model)

    def ask(self, request: Callable[[], Answer], model: str = "") -> Answer:
        """Run a request to this server, and turn whatever fails into a ServerError.

        ``model`` is named in the error where it is missing or too large.

        Raises:
            ServerError: the server cannot be reached, refused, or replied with something else.
        """
        try:
            answer = request()
        except (httpx.ConnectError, httpx.ConnectTimeout, ConnectionError) as error:
            raise self._unreached(error) from error
        except httpx.TimeoutException as error:
            remedy = "give it longer with --timeout, or choose a smaller model"
            raise self._late(self.timeout, remedy) from error
        except TooLargeError as error:
            text = f"the {self.kind} at {self.name} answered with more than {self._limit / 1e6:.0f} MB"
            raise ServerError(BackendError(text, ANOTHER_PROGRAM)) from error
        except EncodedError as error:
            text = f"{self.name} answered in the encoding {clean_text(str(error), 40)!r}, which was not asked for"
            raise ServerError(BackendError(text, "let what stands before the server compress nothing")) from error
        except CertificatesError as error:
            text = f"the certificates that SSL_CERT_FILE or SSL_CERT_DIR names cannot be read: {reason_of(error)}"
            raise ServerError(UsageError(text, "name a file of certificates in PEM form")) from error
        except (httpx.HTTPError, httpx.StreamError) as error:
            if self._wants_tls():
                raise self._no_plain_http() from error
            raise self.lost(clean_text(str(error), 200)) from error
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise self._another_program(error) from error
        self._answered = True
        return answer

    def _late(self, seconds: float, remedy: str) -> ServerError:
        text = f"the {self.kind} at {self.name} did not finish within {seconds:g} s"
        return ServerError(BackendError(text, remedy), TWICE)

    def _unreached(self, error: Exception) -> ServerError:
        cause = next(
            (origin for origin in causes(error) if isinstance(origin, ssl.SSLError | socket.gaierror)), error
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
                FIVE_TIMES,
            )
        # The system's words for a handshake that the other side does not answer.
        if isinstance(cause, ssl.SSLError) or "handshake" in str(causes(error)[-1]):
            plain = self.name.replace("https://", "http://", 1)
            return ServerError(
                BackendError(f"{self.name} does not speak HTTPS", f"is it {plain} (OpenSSL: {reason_of(cause)})?"),
                ONCE if isinstance(cause, ssl.SSLError) else TWICE,
            )
        return ServerError(BackendError(f"no {self.kind} answers at {self.name}", self.start), FIVE_TIMES)

    def _wants_tls(self) -> bool:
        """Tell whether a server that has never replied hung up because it speaks HTTPS."""
        host, port = self._parts.hostname, self._parts.port
        if self._answered or self._parts.scheme != "http" or not host or not port:
            return False
        return speaks_tls(host, port, min(self.timeout, _PROBE_SECONDS))

    def _no_plain_http(self) -> ServerError:
        other = self.name.replace("http://", "https://", 1)
        return ServerError(BackendError(f"{self.name} speaks HTTPS", f"write {other}"))

    def _another_program(self, error: Exception) -> ServerError:
        page = str(getattr(error, "doc", ""))
        if page.lstrip().startswith("<"):
            what = f"a page of the web{titled(page)}"
        else:
            # Of JSON in another form Python speaks in words of this program.
            what = clean_text(str(error), 120) if isinstance(error, ValueError) else "JSON of another form"
        text = f"{self.name} sent a reply that is not {self.protocol}: {what}"
        return ServerError(BackendError(text, ANOTHER_PROGRAM))

    def lost(self, detail: str) -> ServerError:
        """Return the error for a connection lost before the reply was complete."""
        return ServerError(
            BackendError(
                f"the connection to the {self.kind} at {self.name} was lost during the reply: {detail}",
                "check the server's log; `line resume` continues the run",
            ),
            FIVE_TIMES,
        )

    def meaning(self, message: str, model: str, meanings: Meanings) -> ServerError | None:
        """Return the error that a table knows for a server's words; None if it knows none."""
        for signs, meaning, remedy, max_attempts in meanings:
            if re.search(signs, message, re.IGNORECASE):
                meant = meaning.format(kind=self.kind, server=self.name, model=model)
                return ServerError(BackendError(f"{meant}: {message}", remedy), max_attempts, message)
        return None

    def refused(self, status: int, message: str, target: str = "", *, wait: float = 0.0) -> ServerError:
        """Return the error for a status that is no success; below 100 if the server gave none.

        Args:
            message: the server's own words, cleaned.
            wait: seconds that it asks to be left alone.
        """
        if 300 <= status < 400:
            where = f" to {clean_text(public_url(target), 100)}" if target else ""
            return ServerError(
                BackendError(f"{self.name} redirects elsewhere ({status}){where}", "name the server's own address")
            )
        if status in (401, 403):
            return self._no_access(status, message)
        text = f"the {self.kind} at {self.name} failed" + (f" ({status})" if status > 0 else "") + f": {message}"
        passing = status >= 500 or status in (-1, 408, 429)
        return ServerError(BackendError(text, CHECK_LOG), FIVE_TIMES if passing else ONCE, message, wait=wait)

    def _no_access(self, status: int, message: str) -> ServerError:
        if self._auth:
            remedy = "check user and password in its address"
        elif self.key:
            remedy = f"check the key in {self.key_variable}"
        else:
            remedy = f"set {self.key_variable}, or write its address as http://USER:PASSWORD@HOST:PORT"
        text = f"the {self.kind} at {self.name} refuses access ({status}): {message}"
        return ServerError(BackendError(text, remedy))


def causes(error: BaseException) -> list[BaseException]:
    """Return an error and its causes, which some clients hide."""
    found = [error]
    while cause := found[-1].__cause__ or found[-1].__context__:
        found.append(cause)
    return found


def titled(page: str) -> str:
    """Return the title of a web page in quotes, with a space before; empty for none."""
    title = re.search(r"<title[^>]*>([^<]{1,200})", page[:10_000], re.IGNORECASE)
    return f" {clean_text(title[1], 80)!r}" if title else ""


def said(words: str) -> str:
    """Return a server's words of an error in one line; of a web page its title."""
    shown = titled(words).strip() if words.lstrip().startswith("<") else words
    return clean_text(shown, 300) or "no reason given"
