import gzip
import ssl
import threading

import httpx
import pytest
import trustme
import zstandard

from line_neurons.tools.http_client import (
    HEADERS,
    Allowance,
    BoundedTransport,
    EncodedError,
    TooLargeError,
    speaks_tls,
)
from support.raw_server import DRIPS, deaf, drip, flood, raw_serving, reply

LIMIT = 100_000


@pytest.fixture(scope="module")
def tls():
    """A server's TLS with a certificate for 127.0.0.1 that nobody has signed whom this machine trusts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    return context


def ask(url, *, seconds=20.0, allow=None, **request):
    """The answer to a request that may take so many seconds."""
    transport = BoundedTransport(allow or (lambda: Allowance(seconds, LIMIT)), tls=url.startswith("https"))
    with httpx.Client(transport=transport, timeout=None, headers=HEADERS, trust_env=False) as client:
        return client.post(url, **request)


@pytest.mark.parametrize("name", DRIPS)
def test_an_exchange_ends_at_its_deadline_whatever_is_being_sent(name):
    with raw_serving(DRIPS[name]) as server, pytest.raises(httpx.ReadTimeout):
        ask(server.url, seconds=0.3)


@pytest.mark.parametrize("act", [deaf, drip(b"x")])
def test_a_handshake_without_end_ends_at_the_deadline(act):
    with raw_serving(act) as server, pytest.raises((httpx.ConnectTimeout, httpx.ConnectError)):
        ask(server.url.replace("http:", "https:"), seconds=0.3)


def slow_reader(server, connection):
    """Take what is sent in small parts, now and then."""
    while not server.released.wait(0.02):
        connection.recv(100)


@pytest.mark.parametrize("act", [deaf, slow_reader])
def test_a_request_that_is_not_taken_ends_at_the_deadline(act):
    with raw_serving(act) as server, pytest.raises(httpx.WriteTimeout):
        ask(server.url, seconds=0.3, content=b"x" * 20_000_000)


@pytest.mark.parametrize(
    ("part", "begun"),
    [
        (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 100, b""),
        (b"x" * 10_000, b"HTTP/1.1 200 OK\r\n\r\n"),
    ],
)
def test_all_that_arrives_counts_towards_the_limit_headers_too(part, begun):
    with raw_serving(flood(part, begun=begun)) as server, pytest.raises(TooLargeError):
        ask(server.url)


def test_an_answer_within_the_limit_arrives_as_it_was_sent():
    with raw_serving(reply(b"x" * 90_000)) as server:
        assert ask(server.url, content=b"y" * 50_000).content == b"x" * 90_000


BOMBS = {"gzip": gzip.compress(bytes(50_000_000)), "zstd": zstandard.compress(bytes(50_000_000))}


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        *BOMBS.items(),
        ("br", b"x"),
        ("deflate", b"x"),
        ("identity, gzip", BOMBS["gzip"]),
        (" GZIP ", BOMBS["gzip"]),
    ],
)
def test_an_encoding_that_was_not_asked_for_is_refused_before_anything_is_unpacked(encoding, body):
    sent = reply(body, b"Content-Encoding: " + encoding.encode())
    with raw_serving(sent) as server, pytest.raises(EncodedError):
        ask(server.url)


def test_an_answer_may_say_that_it_is_not_encoded():
    with raw_serving(reply(b"hello", b"Content-Encoding: Identity")) as server:
        assert ask(server.url).text == "hello"


def test_an_allowance_that_is_renewed_lasts_on():
    begun = threading.Event()

    def lines(server, connection):
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        for number in range(30):
            begun.wait(0.05)
            connection.sendall(b"%d%s\n" % (number, b" " * 9_000))

    allowance = Allowance(0.5, 20_000)
    seen = 0
    with raw_serving(lines) as server:
        transport = BoundedTransport(lambda: allowance, tls=False)
        with (
            httpx.Client(transport=transport, timeout=None, trust_env=False) as client,
            client.stream("GET", server.url) as response,
        ):
            for _ in response.iter_lines():
                seen += 1
                allowance.renew(0.5)
    assert seen == 30


def test_each_exchange_has_an_allowance_and_a_connection_of_its_own():
    allowances = []

    def allow():
        allowances.append(Allowance(20, LIMIT))
        return allowances[-1]

    with raw_serving(reply(b"x", b"Content-Length: 1")) as server:
        transport = BoundedTransport(allow, tls=False)
        with httpx.Client(transport=transport, timeout=None, trust_env=False) as client:
            for _ in range(3):
                assert client.get(server.url).content == b"x"
    assert len(allowances) == 3


def test_a_server_that_speaks_tls_is_known_from_one_that_does_not(tls):
    with raw_serving(deaf, tls) as server:
        assert speaks_tls("127.0.0.1", server.port, 20)
    with raw_serving(drip(b"x", begun=b"HTTP/1.1 400 Bad Request\r\n\r\n")) as server:
        assert not speaks_tls("127.0.0.1", server.port, 20)
    assert not speaks_tls("127.0.0.1", server.port, 20)
