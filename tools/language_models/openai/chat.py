"""Language models of OpenAI-compatible servers, on one server or several."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from line_neurons.agent.errors import BackendError, UsageError
from line_neurons.agent.near_names import similar_names
from line_neurons.agent.ports import Prompt
from line_neurons.agent.replies import more_tokens, reply_schema
from line_neurons.agent.text import clean_text
from line_neurons.tools.language_models.engine import Completion
from line_neurons.tools.language_models.openai.client import Reply, ServedModel, Server, missing
from line_neurons.tools.language_models.server import ServerError
from line_neurons.tools.language_models.server_pool import ServerPool

_log = logging.getLogger(__name__)


def _without_lengths(schema: Any) -> Any:
    """Return a part of a reply's schema for servers that know no limits of texts and arrays."""
    if not isinstance(schema, dict):
        return schema
    return {name: _without_lengths(part) for name, part in schema.items() if name not in _LENGTHS}


def _held_to(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "proposal", "strict": True, "schema": schema}}


_LENGTHS = frozenset({"minLength", "maxLength", "minItems", "maxItems"})
FORMATS: Mapping[str, Callable[[int], Mapping[str, Any] | None]] = {
    "json_schema": lambda concepts: _held_to(reply_schema(concepts)),
    "json_schema_without_lengths": lambda concepts: _held_to(_without_lengths(reply_schema(concepts))),
    "json_object": lambda concepts: {"type": "json_object"},
    "none": lambda concepts: None,
}
"""``response_format`` of requests for a number of concepts by name, strictest first.

A server gets the first that it does not refuse.
"""

LIMITS = ("max_tokens", "max_completion_tokens")
"""Names of the longest reply in tokens; newer hosted models refuse the first, other servers know only it."""

_REFUSES_FORMAT = re.compile(
    r"response_?format|json_?schema|json_?object|schema|grammar|guided|structured|m(?:ax|in)Length", re.IGNORECASE
)
# A short reply to this shows what a server accepts; one that follows a schema does not begin with a greeting.
_TRIAL = (
    {"role": "system", "content": "Reply briefly, as JSON where you are held to it."},
    {"role": "user", "content": "Say hello."},
)
_TRIAL_TOKENS = 16


@dataclass(frozen=True)
class Model:
    """A model as the servers have it, and how they are asked.

    Args:
        served: how the first of the servers lists it.
        format: the name of its replies' format in ``FORMATS``.
        limit: the name of the longest reply in ``LIMITS``.
        answers_as: the model that replies name; empty if they name none.
        backend: see ``Reply.backend``, at the start.
    """

    served: ServedModel
    format: str
    limit: str
    answers_as: str
    backend: str


class OpenAIEngine:
    """Chats with a model of OpenAI-compatible servers; makes no request before it is used.

    Args:
        name: the model's id, as the servers list it.
        urls: addresses of the servers, at least one; requests are spread over them.
        top_p: nucleus sampling, in (0, 1].
        reply_tokens: longest reply in tokens, with a thinking model's thoughts.
        timeout: seconds that a reply may take.
        penalties: ``presence_penalty`` and ``frequency_penalty``; those that are 0 or None are not sent.
        clock: monotonic seconds, for the time that a server is avoided.
        sleep: waits before servers are tried again.

    Raises:
        UsageError: the name is not valid for a model.
    """

    def __init__(
        self,
        name: str,
        urls: Sequence[str],
        *,
        top_p: float,
        reply_tokens: int,
        timeout: float,
        penalties: Mapping[str, float | None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not name or clean_text(name, 300) != name:
            raise UsageError(f"{name!r:.80} is not the id of a model", "openai:MODEL, as in `line models`")
        self.name = name
        self._sampling = {"top_p": top_p, **{key: value for key, value in (penalties or {}).items() if value}}
        self._reply_tokens = reply_tokens
        servers = [Server(url, timeout=timeout, reply_tokens=reply_tokens) for url in urls]
        self._pool = ServerPool(servers, clock=clock, sleep=sleep)
        self._verified: set[Server] = set()
        self._opening = threading.RLock()
        self._warned = False

    @property
    def fingerprint(self) -> str:
        """Id of the model, what servers report of its weights, and settings; no address.

        Raises:
            MissingPartError: no server has the model.
            BackendError: no server can be reached, or one has another model of that id.
        """
        model = self._model_once()
        reported = {
            "served_as": model.answers_as if model.answers_as != self.name else "",
            "weights": _weights(model.served),
        }
        settings = {
            **{name: value for name, value in reported.items() if value},
            **self._sampling,
            "reply_tokens": self._reply_tokens,
            "format": model.format,
        }
        return " ".join([f"openai:{self.name}", *(f"{name}={value}" for name, value in settings.items())])

    def identity(self) -> dict[str, str]:
        """Return what the server reports of the model.

        Raises:
            LineError: see ``fingerprint``.
        """
        model = self._model_once()
        served_as = model.answers_as if model.answers_as != self.name else ""
        told = {**model.served.details, "served_as": served_as, "backend": model.backend}
        return {name: value for name, value in told.items() if value}

    def complete(self, prompt: Prompt, *, seed: int, temperature: float) -> Completion:
        """See ``ChatEngine.complete``."""
        model = self._model_once()
        messages = [{"role": message.role, "content": message.content} for message in prompt.messages]
        sampling = {"seed": seed, "temperature": temperature, **self._sampling}
        tokens = self._reply_tokens + more_tokens(prompt.concepts)
        request = self._request(messages, sampling, model.format, model.limit, tokens, prompt.concepts)
        reply = self._pool.ask(lambda server: self._chat(server, model, request))
        if not reply.text.strip() and not self._warned:
            self._warned = True
            why = f": all {self._reply_tokens} tokens were spent" if reply.finish == "length" else ""
            _log.warning(
                "the model %s returned an empty reply%s; try a larger --reply-tokens, or another model",
                self.name, why,
            )  # fmt: skip
        return Completion(text=reply.text, truncated=reply.finish == "length", thoughts=reply.thoughts)

    def _request(
        self,
        messages: Sequence[Mapping[str, str]],
        sampling: Mapping[str, float],
        format_: str,
        limit: str,
        tokens: int,
        concepts: int = 1,
    ) -> dict[str, Any]:
        held = FORMATS[format_](concepts)
        request = {"model": self.name, "messages": list(messages), **sampling, limit: tokens, "stream": False}
        return request if held is None else {**request, "response_format": held}

    def _chat(self, server: Server, model: Model, request: Mapping[str, Any]) -> Reply:
        # A server that failed may have come back with another model, and some reply for whatever id is named.
        if server not in self._verified:
            self._same(server, self._served(server), model.served)
            self._verified.add(server)
        try:
            reply = server.chat(request)
        except ServerError:
            self._verified.discard(server)
            raise
        if reply.model != model.answers_as:
            raise BackendError(
                f"the {server.kind} at {server.name} replied as {reply.model or 'no model'!r:.100}, not as "
                f"{model.answers_as or 'no model'!r:.100}: its replies would be another model's",
                "serve one model under this id, or leave the server out of --base-url",
            )
        return reply

    def _model_once(self) -> Model:
        with self._opening:
            return self._model

    @cached_property
    def _model(self) -> Model:
        found = self._pool.survey(self._served)
        served = next(iter(found.values()))
        for server, other in found.items():
            self._same(server, other, served)
        self._verified |= found.keys()
        return self._pool.ask(lambda server: self._trial(server, served))

    def _trial(self, server: Server, served: ServedModel) -> Model:
        """Find the strictest format that a server accepts, and how it calls the longest reply."""
        sampling = {"seed": 0, "temperature": 0.5, **self._sampling}
        names = iter(FORMATS)
        format_, limit, refused = next(names), LIMITS[0], ""
        while True:
            try:
                reply = server.chat(self._request(_TRIAL, sampling, format_, limit, _TRIAL_TOKENS))
                break
            except ServerError as failure:
                if limit == LIMITS[0] and LIMITS[1] in failure.message:
                    limit = LIMITS[1]
                elif FORMATS[format_](1) is not None and _REFUSES_FORMAT.search(failure.message):
                    format_, refused = next(names), failure.message
                else:
                    raise
        if refused:
            _log.warning(
                "the %s at %s does not hold replies to the full schema (%s): the run uses the format %s; "
                "replies are validated as always, and more may be refused",
                server.kind, server.name, refused, format_,
            )  # fmt: skip
        elif reply.text.strip() and not reply.text.lstrip().startswith(("{", "<think")):
            _log.warning(
                "the %s at %s accepts a JSON schema and does not enforce it: more replies may be refused",
                server.kind, server.name,
            )  # fmt: skip
        return Model(served, format_, limit, reply.model, reply.backend)

    def _served(self, server: Server) -> ServedModel:
        listed = {model.id: model for model in server.models()}
        if self.name not in listed:
            raise missing(self.name, server.name, similar_names(self.name, listed)[:3], tuple(listed))
        return listed[self.name]

    def _same(self, server: Server, served: ServedModel, wanted: ServedModel) -> None:
        if (there := _weights(served)) and (here := _weights(wanted)) and there != here:
            raise BackendError(
                f"the {server.kind} at {server.name} has another {self.name} (weights {there}, not {here}): its "
                "replies would be another model's",
                "serve the same model everywhere, or leave the server out of --base-url",
            )


def _weights(served: ServedModel) -> str:
    """Return figures that tell weights apart, as llama.cpp reports them; else nothing."""
    return "/".join(served.details[what] for what in ("parameters", "size") if what in served.details)
