"""A server of bare sockets: it does with each connection whatever an act does, which need not be HTTP."""

import re
import socket
import threading
from contextlib import contextmanager, suppress

_BEGUN = b"HTTP/1.1 200 OK\r\n"


class RawServer:
    """The server; ``url`` says where it is.

    Args:
        act: gets the server and a connection, in a thread of its own.
        context: TLS that it speaks.
    """

    def __init__(self, act, context=None):
        self.released = threading.Event()
        self._act = act
        self._context = context
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.url = f"http{'s' if context else ''}://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with suppress(OSError), connection:
            if self._context:
                connection = self._context.wrap_socket(connection, server_side=True)
            self._act(self, connection)

    def close(self):
        self.released.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@contextmanager
def raw_serving(act, context=None):
    """Run a server; gives it, and lets its acts end with it."""
    server = RawServer(act, context)
    try:
        yield server
    finally:
        server.close()


def drip(part, *, begun=b"", every=0.02):
    """Send ``begun``, then the same bytes now and then, without an end."""

    def act(server, connection):
        connection.recv(65_536)
        connection.sendall(begun)
        while not server.released.wait(every):
            connection.sendall(part)

    return act


def flood(part, *, begun=b""):
    """Send ``begun``, then the same bytes as fast as they are taken."""

    def act(server, connection):
        connection.recv(65_536)
        connection.sendall(begun)
        while not server.released.is_set():
            connection.sendall(part)

    return act


def _read_request(connection):
    """Read all of a request: a connection that is closed with some of it unread is reset, and its reply lost."""
    request = b""
    while b"\r\n\r\n" not in request and (part := connection.recv(65_536)):
        request += part
    head, _, body = request.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)^content-length: *(\d+)", head, re.MULTILINE)
    left = int(length[1]) - len(body) if length else 0
    while left > 0 and (part := connection.recv(65_536)):
        left -= len(part)


def reply(body, *headers):
    """Answer with a body, as one that ends with the connection."""

    def act(server, connection):
        _read_request(connection)
        connection.sendall(_BEGUN + b"".join(header + b"\r\n" for header in headers) + b"\r\n" + body)

    return act


def deaf(server, connection):
    """Take nothing of what is sent, and say nothing."""
    server.released.wait(30)


DRIPS = {
    "a status line without end": drip(b"1", begun=b"HTTP/1.1 "),
    "a header without end": drip(b"x", begun=_BEGUN + b"X-Long: "),
    "headers without end": drip(b"X: y\r\n", begun=_BEGUN),
    "100 Continue without end": drip(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "103 Early Hints without end": drip(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"),
    "a body without end": drip(b" ", begun=_BEGUN + b"\r\n"),
    "half of the length of a chunk": drip(b"0", begun=_BEGUN + b"Transfer-Encoding: chunked\r\n\r\n"),
    "silence": deaf,
}
"""Answers that have no end, however long they are waited for."""
