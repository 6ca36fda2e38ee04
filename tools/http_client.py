"""HTTP with limits: every exchange ends in time and size, and no response is encoded.

A ``BoundedTransport`` makes a connection for each exchange, and its sockets stop at the deadline of the exchange,
whatever is being sent: the handshake, a status line, headers, 100 Continue, the body. All that arrives is counted
as it arrives. No response may be encoded, so the count is also what it takes in memory.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import httpcore
import httpx

HEADERS = {"accept-encoding": "identity", "connection": "close"}
"""Headers of every request."""

# So little is sent in one call of the system, or not at all.
_PIECE = 4096


class TooLargeError(httpx.TransportError):
    """A response is larger than allowed."""


class EncodedError(httpx.TransportError):
    """A response came in an encoding; none is accepted."""


class CertificatesError(httpx.TransportError):
    """The certificates that the environment names cannot be read."""


class Allowance:
    """Limits of an exchange: ``seconds`` from now on, ``limit`` bytes with headers."""

    def __init__(self, seconds: float, limit: int) -> None:
        self._limit = limit
        self.renew(seconds)

    def renew(self, seconds: float) -> None:
        """Restart: ``seconds`` from now on, and the initial number of bytes."""
        self._end = time.monotonic() + seconds
        self._left = self._limit

    def seconds(self, most: float | None, late: type[httpcore.TimeoutException]) -> float:
        """Return the seconds left, at most ``most``; raise ``late`` if there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise late("the exchange took too long")
        return left if most is None else min(left, most)

    def take(self, count: int) -> None:
        """Count bytes that have arrived.

        Raises:
            TooLargeError: they are too many.
        """
        self._left -= count
        if self._left < 0:
            raise TooLargeError(f"the response has more than {self._limit} bytes")


class BoundedTransport(httpx.BaseTransport):
    """An httpx transport where every exchange has an allowance of its own.

    The system's look-up of a server's name has the system's own limits.

    Args:
        allow: makes the allowance of an exchange as it starts.
        tls: use ``https://``; else no certificates are read.
    """

    def __init__(self, allow: Callable[[], Allowance], *, tls: bool) -> None:
        self._allow = allow
        self._tls = tls

    @cached_property
    def _pool(self) -> httpcore.ConnectionPool:
        try:
            # As the environment says: SSL_CERT_FILE, SSL_CERT_DIR.
            context = httpx.create_ssl_context() if self._tls else None
        except OSError as error:
            raise CertificatesError(str(error)) from error
        return httpcore.ConnectionPool(
            ssl_context=context,
            max_connections=None,
            # No connection serves a second exchange, which would have the deadline of the first.
            max_keepalive_connections=0,
            network_backend=_Backend(self._allow),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; see ``httpx.BaseTransport``.

        Raises:
            TooLargeError: more arrives than allowed.
            EncodedError: the response is encoded.
            CertificatesError: the certificates to check the server's by cannot be read.
            httpx.TransportError: the server cannot be reached, takes too long, or does not speak HTTP.
        """
        url = request.url
        assert isinstance(request.stream, httpx.SyncByteStream)
        with _errors_of_httpx():
            answer = self._pool.handle_request(
                httpcore.Request(
                    request.method,
                    httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        response = httpx.Response(
            answer.status, headers=answer.headers, stream=_Body(answer), extensions=answer.extensions
        )
        if (encoding := response.headers.get("content-encoding", "identity").strip().lower()) != "identity":
            response.close()
            raise EncodedError(encoding)
        return response

    def close(self) -> None:
        """Close the connections."""
        if "_pool" in vars(self):
            self._pool.close()


def speaks_tls(host: str, port: int, seconds: float) -> bool:
    """Tell whether a server answers a TLS handshake; its certificate is not checked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with socket.create_connection((host, port), seconds) as plain, context.wrap_socket(plain):
            return True
    except OSError:
        return False


class _Body(httpx.SyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        with _errors_of_httpx():
            yield from self._answer.iter_stream()

    def close(self) -> None:
        with _errors_of_httpx():
            self._answer.close()


class _Backend(httpcore.NetworkBackend):
    def __init__(self, allow: Callable[[], Allowance]) -> None:
        self._inner = httpcore.SyncBackend()
        self._allow = allow

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        allowance = self._allow()
        seconds = allowance.seconds(timeout, httpcore.ConnectTimeout)
        inner = self._inner.connect_tcp(host, port, seconds, local_address, socket_options)
        return _Stream(inner, allowance)


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream, allowance: Allowance) -> None:
        self._inner = inner
        self._allowance = allowance

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        part = self._inner.read(max_bytes, self._allowance.seconds(timeout, httpcore.ReadTimeout))
        self._allowance.take(len(part))
        return part

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _PIECE):
            seconds = self._allowance.seconds(timeout, httpcore.WriteTimeout)
            self._inner.write(buffer[start : start + _PIECE], seconds)

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        seconds = self._allowance.seconds(timeout, httpcore.ConnectTimeout)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, seconds), self._allowance)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


@contextmanager
def _errors_of_httpx() -> Iterator[None]:
    """Raise httpcore's errors as httpx's of the same name."""
    kinds = (
        httpcore.TimeoutException,
        httpcore.NetworkError,
        httpcore.ProtocolError,
        httpcore.UnsupportedProtocol,
    )
    try:
        yield
    except kinds as error:
        raise getattr(httpx, type(error).__name__)(str(error)) from error
