"""Models of Ollama servers: list the installed ones, and pull one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import httpx

from line_neurons.agent.errors import BackendError, LineError, MissingPartError
from line_neurons.agent.text import clean_text
from line_neurons.tools.language_models.ollama.chat import model_name
from line_neurons.tools.language_models.ollama.client import Server, load_ollama
from line_neurons.tools.language_models.server import QUERY_SECONDS, ServerError

# A server says nothing while it checks what it has fetched: minutes for a large model, more on a slow disk.
PULL_SILENCE_SECONDS = 3600.0

# What the server says when a pull fails, what that means, and what to do.
_PULL_FAULTS: tuple[tuple[tuple[str, ...], type[LineError], str, str], ...] = (
    (("no space left", "disk quota"), BackendError, "has no room on its disk", "free some, then pull again"),
    (
        ("file does not exist", "not found", "invalid model name"),
        MissingPartError,
        "finds no such model in its registry",
        "check the name and the tag",
    ),
    (
        ("lookup ", "dial tcp", "proxyconnect", "no such host", "i/o timeout", "connection re", "max retries"),
        BackendError,
        "cannot reach its registry",
        "connect it to the network, then pull again: it resumes where it stopped",
    ),
    (("newer version", "412"), BackendError, "is too old for this model", "upgrade Ollama"),
)


@dataclass(frozen=True)
class InstalledModel:
    """A model that a server has.

    Args:
        size: bytes on its disk.
        digest: SHA-256 of its manifest, in hex.
        parameters: number of parameters, as ``8.0B``; empty if unknown.
        quantisation: precision of its weights, as ``Q4_K_M``; empty if unknown.
    """

    name: str
    size: int
    digest: str
    parameters: str
    quantisation: str


@dataclass(frozen=True)
class ServerModels:
    """The models of a server by name, or the error and remedy if it does not answer.

    ``server`` is its address without a password.
    """

    server: str
    version: str = ""
    models: tuple[InstalledModel, ...] = ()
    error: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class PullStep:
    """The progress of a pull.

    Args:
        server: the server's address, without a password.
        status: what it does, in its words.
        layer: the layer that it downloads; empty while it does something else.
        done: bytes of that layer that have arrived.
        total: bytes of that layer; 0 if unknown.
    """

    server: str
    status: str
    layer: str = ""
    done: int = 0
    total: int = 0


def installed(urls: Sequence[str], *, timeout: float = QUERY_SECONDS) -> list[ServerModels]:
    """List the models of each server, in order; ``timeout`` seconds per server."""
    return [_installed(url, timeout) for url in urls]


def _installed(url: str, timeout: float) -> ServerModels:
    server = Server(url, timeout=timeout)
    try:
        version, listed = server.version(), server.models().models
    except ServerError as failure:
        return ServerModels(server.name, error=failure.error.message, remedy=failure.error.remedy)
    models = [
        InstalledModel(
            name=clean_text(model.model or "", 300),
            size=int(model.size or 0),
            digest=clean_text(model.digest or "", 80),
            parameters=clean_text((model.details and model.details.parameter_size) or "", 40),
            quantisation=clean_text((model.details and model.details.quantization_level) or "", 40),
        )
        for model in listed
    ]
    return ServerModels(server.name, clean_text(version, 60), tuple(sorted(models, key=lambda model: model.name)))


def pull(
    name: str, url: str, progress: Callable[[PullStep], None], *, silence: float = PULL_SILENCE_SECONDS
) -> None:
    """Let a server download a model; an interrupted download resumes.

    Args:
        progress: called with each step; raising from it stops the pull.
        silence: seconds that may pass between two steps; a pull as a whole may take any time.

    Raises:
        UsageError: no model can have that name.
        MissingPartError: there is no such model.
        BackendError: the server cannot be reached, cannot reach its registry, has no room, or stopped responding.
    """
    load_ollama()
    from ollama import Client

    model_name(name)
    server = Server(url, timeout=QUERY_SECONDS)
    # Of a pull, which may last for hours, it is silence that is limited: each step gives it as long again.
    allowance = server.allowance(QUERY_SECONDS)
    seconds, status = QUERY_SECONDS, ""

    def fetch() -> None:
        nonlocal seconds, status
        with Client(server.name, **server.http(lambda: allowance)) as client:
            for step in client.pull(name, stream=True):
                seconds = silence
                allowance.renew(seconds)
                status = clean_text(step.status or "", 200)
                layer = clean_text(step.digest or "", 80)
                progress(PullStep(server.name, status, layer, step.completed or 0, step.total or 0))

    def in_time() -> None:
        try:
            fetch()
        except httpx.ReadTimeout as error:
            raise ServerError(
                BackendError(
                    f"the Ollama server at {server.name} said nothing of the pull for {seconds:g} s",
                    "check the server's log; the same command resumes where it stopped",
                )
            ) from error

    try:
        server.ask(in_time)
        if status != "success":
            raise server.lost("the pull has no end")
    except ServerError as failure:
        raise _pull_fault(server.name, failure) from failure


def _pull_fault(server: str, failure: ServerError) -> LineError:
    for signs, kind, what, remedy in _PULL_FAULTS:
        if any(sign in failure.message.lower() for sign in signs):
            return kind(f"the Ollama server at {server} {what}: {failure.message}", remedy)
    return failure.error
