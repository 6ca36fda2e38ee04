"""A scripted Ollama server: speaks the protocol over real HTTP, and misbehaves as it is told to.

Each question to ``/api/chat`` takes the next of the scripted acts, the last one again and again. An act gets the
request handler and the question.
"""

import json
import socket
import sys
import threading
from collections import Counter
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODEL = "llama3.1:8b"
DIGEST = "46e0c10c039e019119339687c3c1757cc81b9da49709a3b3924863ba87ca666e"
# Long, for machines that are busy with other things; clients of a meeting need a longer timeout.
MEETING_SECONDS = 60


class ScriptedOllama:
    """The server's state; tests may change it while it runs."""

    def __init__(self, *acts, models=None, capabilities=("completion",), version="0.24.0", pull=()):
        self.acts = list(acts) or [answer()]
        self.models = {MODEL: DIGEST} if models is None else models
        self.capabilities = capabilities
        self.version = version
        self.pull = pull
        self.questions = []
        self.headers = []
        self.heard = []
        self.pulled = []
        self.asked = Counter()
        self.lock = threading.Lock()
        self.released = threading.Event()
        self.url = ""


def proposal(concept="owl", reasoning="birds of prey"):
    return json.dumps({"reasoning": reasoning, "concept": concept})


def chunk(content="", *, thinking=None, done=None):
    """One line of a streamed answer; ``done`` ends it with that reason."""
    message = {"role": "assistant", "content": content} | ({"thinking": thinking} if thinking else {})
    part = {"model": MODEL, "created_at": "2026-01-01T00:00:00Z", "message": message, "done": done is not None}
    return part | ({"done_reason": done} if done else {})


def stream(*parts):
    """Answer with these lines, each sent at once."""

    def act(handler, question):
        handler.begin()
        for part in parts:
            handler.part(part)
        handler.end()

    return act


def answer(text=None, *, thinking=None, done="stop"):
    """Answer with a text, word by word."""
    words = (proposal() if text is None else text).split(" ")
    thoughts = [chunk(thinking=thinking)] if thinking else []
    spaced = [word if index == 0 else f" {word}" for index, word in enumerate(words)]
    return stream(*thoughts, *(chunk(word) for word in spaced), chunk(done=done))


def status(code, message="", **headers):
    """Answer with a status and an error."""

    def act(handler, question):
        handler.json({"error": message}, code, **headers)

    return act


def body(data):
    """Answer 200 with bytes of one's own."""

    def act(handler, question):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return act


def cut(*parts):
    """Send some lines, then drop the connection."""

    def act(handler, question):
        handler.begin()
        for part in parts:
            handler.part(part)
        handler.wfile.flush()
        handler.close_connection = True

    return act


def raw(data):
    """Send bytes that need not be HTTP, then drop the connection."""

    def act(handler, question):
        handler.wfile.write(data)
        handler.close_connection = True

    return act


def endless(part):
    """Send the same bytes until the other side has had enough."""

    def act(handler, question):
        handler.begin()
        try:
            while True:
                handler.bytes(part)
        except OSError:
            handler.close_connection = True

    return act


def stall(handler, question):
    """Begin to answer, then say nothing more until the test is over."""
    handler.begin()
    handler.part(chunk("{"))
    handler.script.released.wait(30)
    handler.close_connection = True


def dribble(handler, question):
    """Send a token now and then, without an end."""
    handler.begin()
    try:
        while not handler.script.released.wait(0.05):
            handler.part(chunk("x"))
    except OSError:
        handler.close_connection = True


def meeting(count, act):
    """Hold each question until ``count`` of them are here, then answer with ``act``; fail if they do not come."""
    all_asked = threading.Barrier(count)

    def hold(handler, question):
        all_asked.wait(MEETING_SECONDS)
        act(handler, question)

    return hold


def hang_up(handler, question):
    """Drop the connection without an answer."""
    handler.close_connection = True


class Handler(BaseHTTPRequestHandler):
    """Speaks HTTP, and Ollama's protocol."""

    protocol_version = "HTTP/1.1"
    script: ScriptedOllama

    def do_GET(self):
        self.script.asked[self.path] += 1
        self.script.heard.append(self.lower_headers())
        if self.path == "/api/version":
            self.json({"version": self.script.version})
        elif self.path == "/api/tags":
            details = {"parameter_size": "8.0B", "quantization_level": "Q4_K_M"}
            self.json(
                {
                    "models": [
                        {"name": name, "model": name, "digest": digest, "size": 4_900_000_000, "details": details}
                        for name, digest in self.script.models.items()
                    ]
                }
            )
        else:
            self.json({"error": "not found"}, 404)

    def do_POST(self):
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.script.asked[self.path] += 1
        self.script.heard.append(self.lower_headers())
        if self.path == "/api/show":
            self.json({"capabilities": list(self.script.capabilities), "model_info": {}, "details": {}})
        elif self.path == "/api/pull":
            self.script.pulled.append(question["model"])
            for act in self.script.pull:
                act(self, question)
        elif self.path == "/api/chat":
            with self.script.lock:
                self.script.questions.append(question)
                self.script.headers.append(self.lower_headers())
                act = self.script.acts[0] if len(self.script.acts) == 1 else self.script.acts.pop(0)
            act(self, question)
        else:
            self.json({"error": "404 page not found"}, 404)

    def lower_headers(self):
        return {name.lower(): value for name, value in self.headers.items()}

    def json(self, value, code=200, **headers):
        data = json.dumps(value).encode()
        self.send_response(code)
        for name, text in headers.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def begin(self):
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def part(self, value):
        self.bytes(json.dumps(value).encode() + b"\n")

    def bytes(self, data):
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def end(self):
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *args):
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # With the default of 5, some of 16 connections at once are dropped where the accepting thread is slow, and
    # the client takes the server for one that is away.
    request_queue_size = 128

    def __init__(self, *args):
        super().__init__(*args)
        self.connections = set()
        self.failures = []

    def get_request(self):
        connection, address = super().get_request()
        self.connections.add(connection)
        return connection, address

    def shutdown_request(self, request):
        self.connections.discard(request)
        super().shutdown_request(request)

    def hang_up(self):
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request, client_address):
        """Keep what a scripted act raised; a client that hung up is part of the tests."""
        error = sys.exception()
        if not isinstance(error, OSError):
            self.failures.append(error)


@contextmanager
def serving(script=None, port=0, handler=Handler):
    """Run a scripted server; gives the script, whose ``url`` says where. ``handler`` speaks its protocol.

    Raises what an act raised, which a client cannot tell from a server that died.
    """
    script = script or ScriptedOllama()
    handler = type("Handler", (handler,), {"script": script})
    server = _Server(("127.0.0.1", port), handler)
    script.url = f"http://127.0.0.1:{server.server_port}"
    # The pause of serve_forever's own poll would be paid at the end of each test.
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield script
    finally:
        script.released.set()
        server.shutdown()
        server.server_close()
        server.hang_up()
        thread.join()
    if server.failures:
        raise server.failures[0]
