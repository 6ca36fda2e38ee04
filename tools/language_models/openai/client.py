"""One server with the OpenAI API over HTTP, and the errors of its requests."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from line_neurons.agent.errors import BackendError, MissingPartError
from line_neurons.agent.text import clean_text
from line_neurons.tools.language_models.openai.address import KEY_VARIABLE
from line_neurons.tools.language_models.server import (
    ANOTHER_PROGRAM,
    FIVE_TIMES,
    ONCE,
    HttpServer,
    Meanings,
    ServerError,
    said,
)

# A service that limits its requests lets one through within minutes.
_RATE_LIMITED_TIMES = 8
_KEY = re.compile(r"\bsk-[^\s'\",;]+")

# The first that fits counts.
_MEANINGS: Meanings = (
    (
        r"context (?:length|size|window)|exceed_context_size|prompt is too long",
        "the prompt does not fit into the context of {model} at {server}",
        "start the server with a longer context (vLLM: --max-model-len; llama.cpp: --ctx-size), or lower "
        "--reply-tokens",
        ONCE,
    ),
    (
        r"insufficient_quota|exceeded your current quota|insufficient (?:credits?|balance)",
        "the account of the key for {server} has no credit left",
        "add credit to it, or use another server or key",
        ONCE,
    ),
    (
        r"chat template|not a chat model|does not support chat|system role not supported",
        "the model {model} at {server} cannot hold these chats",
        "name a model that was trained for instructions",
        ONCE,
    ),
    (
        r"(?:unsupported|not supported?|does not support|unrecognized).{0,80}\b(?:temperature|top_p|seed)\b"
        r"|\b(?:temperature|top_p|seed)\b.{0,80}(?:unsupported|not support)",
        "the model {model} at {server} does not accept seed, temperature or top_p",
        "name another model; reasoning models of hosted services have fixed sampling",
        ONCE,
    ),
    (
        r"out of memory|insufficient memory|more (?:system|gpu) ?memory",
        "the model {model} is too large for the memory of {server}",
        "choose a smaller model, or free memory",
        ONCE,
    ),
    (
        r"\b(?:CUDA|ROCm|HIP|Vulkan|cuBLAS)\b",
        "the graphics card of the {kind} at {server} failed",
        "check the server's log, and restart the server",
        FIVE_TIMES,
    ),
    (r"HTTP request.* HTTPS (?:server|port)", "{server} speaks HTTPS", "write https:// in its address", ONCE),
)


@dataclass(frozen=True)
class ServedModel:
    """A model that a server offers.

    Args:
        id: its name in requests.
        details: what the server reports of it, as far as known: ``root`` (its files), ``owner``, ``context`` in
            tokens, number of ``parameters``, ``quantisation``, and ``size`` of its weights in bytes.
    """

    id: str
    details: Mapping[str, str]


@dataclass(frozen=True)
class Reply:
    """A reply of a server.

    Args:
        thoughts: the reasoning of a thinking model before it.
        finish: why it ended: ``stop``, ``length`` ...
        model: the model that the server says it came from; empty if it does not say.
        backend: the server's ``system_fingerprint``; empty if it has none.
    """

    text: str
    thoughts: str
    finish: str
    model: str
    backend: str


class Server(HttpServer):
    """One server with the OpenAI API; its key comes from the environment. See ``HttpServer``."""

    kind = "OpenAI-compatible server"
    protocol = "of the OpenAI API"
    key_variable = KEY_VARIABLE
    start = "start it, or name another with --base-url or OPENAI_BASE_URL"

    def models(self) -> list[ServedModel]:
        """List the server's models.

        Raises:
            ServerError: it did not answer.
        """
        return self.query(lambda: [_served(entry) for entry in self._exchange("GET", "models")["data"]])

    def chat(self, request: Mapping[str, Any]) -> Reply:
        """Complete a chat.

        Raises:
            ServerError: the server cannot be reached, refused, or replied with something else.
        """
        model = str(request["model"])
        return self.ask(lambda: self._reply(self._exchange("POST", "chat/completions", request), model), model)

    def _exchange(self, method: str, path: str, request: Mapping[str, Any] | None = None) -> Any:
        seconds = self.query_seconds if request is None else self.timeout
        with httpx.Client(**self.http(lambda: self.allowance(seconds))) as client:
            response = client.request(method, f"{self.name}/{path}", json=request)
        if not response.is_success:
            raise self._refused(response, str(request["model"]) if request else "")
        return response.json()

    def _reply(self, answer: Any, model: str) -> Reply:
        if "choices" not in answer and "error" in answer:
            # Routers of several services send their errors as a success.
            raise self._failure(-1, self._words(answer), model)
        choice = answer["choices"][0]
        message = choice["message"]
        text = message.get("content") or message.get("refusal") or ""
        if not isinstance(text, str):
            raise TypeError("the content is no text")
        thoughts = message.get("reasoning_content") or message.get("reasoning") or ""
        return Reply(
            text=text,
            thoughts=thoughts if isinstance(thoughts, str) else "",
            finish=str(choice.get("finish_reason")),
            model=_text(answer.get("model")),
            backend=_text(answer.get("system_fingerprint")),
        )

    def _refused(self, response: httpx.Response, model: str) -> ServerError:
        try:
            words = self._words(response.json())
        except ValueError:
            words = said(self._masked(response.text))
        wait = retry_after(response.headers.get("retry-after", ""))
        return self._failure(response.status_code, words, model, response.headers.get("location", ""), wait)

    def _failure(self, status: int, message: str, model: str, target: str = "", wait: float = 0.0) -> ServerError:
        if status == 404 and model and "model" in message.lower():
            return missing(model, self.name, ())
        if status in (404, 405):
            return self._no_such_path(status, message)
        if meant := self.meaning(message, model, _MEANINGS):
            return meant
        failure = self.refused(status, message, target, wait=wait)
        if status == 429:
            failure.max_attempts = _RATE_LIMITED_TIMES
            failure.error.remedy = "lower --llm-parallel, or wait; `line resume` continues the run"
        return failure

    def _no_such_path(self, status: int, message: str) -> ServerError:
        remedy = (
            f"check the path in the address; {ANOTHER_PROGRAM}"
            if self.name.endswith("/v1")
            else f"is it {self.name}/v1?"
        )
        text = f"there is no OpenAI API at {self.name} ({status}): {message}"
        return ServerError(BackendError(text, remedy))

    def _words(self, answer: Any) -> str:
        """Return a server's words of an error, in whichever form it sends them."""
        found = answer.get("error", answer) if isinstance(answer, dict) else answer
        if isinstance(found, dict):
            words = found.get("message") or found.get("detail") or "no reason given"
            code = found.get("code")
            named = f" ({code})" if isinstance(code, str) and code not in str(words) else ""
            found = f"{words}{named}"
        return said(self._masked(str(found)))

    def _masked(self, text: str) -> str:
        # A service may repeat a key in part.
        return _KEY.sub("***", text.replace(self.key, "***") if self.key else text)


def retry_after(header: str) -> float:
    """Return the seconds of a ``Retry-After`` header, given as seconds or a date; 0 for none."""
    if re.fullmatch(r"\d{1,9}(?:\.\d{1,9})?", header.strip()):
        return float(header)
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def missing(model: str, name: str, near: Sequence[str], known: Sequence[str] = ()) -> ServerError:
    """Return the error for a server called ``name`` that does not serve ``model``."""
    text = f"the OpenAI-compatible server at {name} does not serve the model {model!r:.100}"
    if near:
        remedy = f"did you mean {' or '.join(f'openai:{other}' for other in near)}?"
    elif known:
        more = f" and {len(known) - 5} more" if len(known) > 5 else ""
        remedy = f"it serves {', '.join(known[:5])}{more}"
    else:
        remedy = "see `line models`"
    return ServerError(MissingPartError(text, remedy))


def _served(entry: Mapping[str, Any]) -> ServedModel:
    meta = entry.get("meta") if isinstance(entry.get("meta"), dict) else {}
    assert isinstance(meta, dict)
    details = {
        "root": entry.get("root"),
        "owner": entry.get("owned_by"),
        "context": entry.get("max_model_len") or meta.get("n_ctx") or meta.get("n_ctx_train"),
        "parameters": meta.get("n_params"),
        "quantisation": meta.get("ftype"),
        "size": meta.get("size"),
    }
    told = {what: _text(value) for what, value in details.items() if value is not None}
    return ServedModel(clean_text(str(entry["id"]), 300), {what: text for what, text in told.items() if text})


def _text(value: object) -> str:
    return clean_text(str(value), 200) if isinstance(value, str | int) else ""
