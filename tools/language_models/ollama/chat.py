"""Language models of Ollama, on one server or several."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from line_neurons.agent.errors import BackendError, UsageError
from line_neurons.agent.ports import Prompt
from line_neurons.agent.replies import more_tokens, reply_schema
from line_neurons.agent.text import clean_text
from line_neurons.tools.language_models.engine import Completion
from line_neurons.tools.language_models.ollama.client import Server, missing
from line_neurons.tools.language_models.server import ServerError
from line_neurons.tools.language_models.server_pool import ServerPool

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage

_log = logging.getLogger(__name__)

Think = Literal["auto", "on", "off"]

# From this version on a thinking model thinks first and keeps to the format after it; older servers hold it to the
# format from its first word, which leaves no room for thoughts.
_FORMAT_AFTER_THOUGHTS = (0, 12, 4)

# More than any tokenizer packs into a token of such prompts.
_CHARACTERS_A_TOKEN = 5


@dataclass(frozen=True)
class Entry:
    """A model in a server's list.

    Args:
        name: as this server writes it, in its own upper and lower case.
        digest: SHA-256 of its manifest, in hex.
        details: ``quantisation`` of its weights, number of ``parameters`` and ``family``, as far as they are
            known.
    """

    name: str
    digest: str
    details: Mapping[str, str]


@dataclass(frozen=True)
class Model:
    """A model as the servers have it.

    Args:
        entry: how the first of the servers lists it.
        thinks: whether it is told to think; None if it cannot, and so is not told either way.
        schema: whether its replies are constrained to the reply's schema.
    """

    entry: Entry
    thinks: bool | None
    schema: bool


class OllamaEngine:
    """Chats with a model of Ollama; makes no request before it is used.

    Args:
        name: the model, such as ``llama3.1:8b``.
        urls: addresses of the servers, at least one; requests are spread over them.
        top_p: nucleus sampling, in (0, 1].
        context: context length in tokens.
        reply_tokens: longest reply in tokens; a model that thinks may use half the context more for its thoughts.
        timeout: seconds that a reply may take.
        think: let the model think; ``auto``: if it can, and the server can still enforce the schema.
        sampling: further options of sampling, such as ``top_k``; None leaves an option to the model's own file.
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
        context: int,
        reply_tokens: int,
        timeout: float,
        think: Think,
        sampling: Mapping[str, float | None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.name = model_name(name)
        given = {"top_p": top_p, **(sampling or {})}
        self._sampling = {option: value for option, value in given.items() if value is not None}
        self._context = context
        self._reply_tokens = reply_tokens
        self._thought_tokens = context // 2
        self._think = think
        longest = reply_tokens + self._thought_tokens
        servers = [Server(url, timeout=timeout, reply_tokens=longest) for url in urls]
        self._pool = ServerPool(servers, clock=clock, sleep=sleep)
        self._query_arguments = threading.RLock()
        self._warned = False

    @property
    def fingerprint(self) -> str:
        """Name, digest and settings of the model; queries the servers the first time.

        Raises:
            MissingPartError: no server has the model.
            BackendError: no server can be reached.
            UsageError: servers have different models of that name, or it cannot think but has to.
        """
        model = self._model_once()
        settings = {
            "digest": model.entry.digest[:16],
            **self._sampling,
            "context": self._context,
            "reply_tokens": self._reply_tokens,
            "think": "on" if model.thinks else "off",
        }
        return " ".join([f"ollama:{self.name.lower()}", *(f"{name}={value}" for name, value in settings.items())])

    def identity(self) -> dict[str, str]:
        """Return the weights' full digest, quantisation, parameters and family.

        Raises:
            LineError: see ``fingerprint``.
        """
        entry = self._model_once().entry
        return {"sha256": entry.digest, **entry.details}

    @property
    def thinks(self) -> bool | None:
        """Whether the model is told to think; None if it cannot; errors as of ``fingerprint``."""
        return self._model_once().thinks

    @property
    def options(self) -> dict[str, float]:
        """The options of every request of this engine."""
        return {**self._sampling, "num_ctx": self._context}

    def complete(self, prompt: Prompt, *, seed: int, temperature: float) -> Completion:
        """See ``ChatEngine.complete``."""
        model = self._model_once()
        room = self._reply_tokens + more_tokens(prompt.concepts) + (self._thought_tokens if model.thinks else 0)
        options = {**self.options, "num_predict": room, "seed": seed, "temperature": temperature}
        arguments: dict[str, Any] = {"options": options, "reasoning": model.thinks}
        if model.schema:
            arguments["format"] = reply_schema(prompt.concepts)
        messages = [(message.role, message.content) for message in prompt.messages]
        # Servers drop what does not fit without a word: whole messages, which cannot be seen from the answer,
        # or a part of one, and then the context is full.
        if sum(len(content) for _, content in messages) > self._context * _CHARACTERS_A_TOKEN:
            raise self._does_not_fit()
        reply = self._pool.ask(lambda server: self._chat(server, model, messages, arguments))
        if not model.thinks and int(reply.response_metadata.get("prompt_eval_count") or 0) >= self._context:
            raise self._does_not_fit()
        said = Completion(
            text=str(reply.content),
            truncated=reply.response_metadata.get("done_reason") == "length",
            thoughts=str(reply.additional_kwargs.get("reasoning_content", "")),
        )
        if model.thinks is not None and not said.text.strip():
            self._warn_empty_reply(thinks=model.thinks, spent=room if said.truncated else 0)
        return said

    def _warn_empty_reply(self, *, thinks: bool, spent: int) -> None:
        """Warn once that a thinking model sent an empty reply, which is refused."""
        if self._warned:
            return
        self._warned = True
        why = f": all {spent} tokens that it may use went into its thoughts" if spent else ""
        _log.warning(
            "the model %s returned an empty reply%s; try --think %s, a larger --reply-tokens, or another model",
            self.name, why, "off" if thinks else "on",
        )  # fmt: skip

    def _does_not_fit(self) -> BackendError:
        return BackendError(
            f"the prompt does not fit into the context of {self._context} tokens", "a larger --context"
        )

    def _chat(
        self, server: Server, model: Model, messages: Sequence[tuple[str, str]], arguments: dict[str, Any]
    ) -> AIMessage:
        # Each time anew: a server may have come back, or pulled another version meanwhile.
        entry = self._entry(server)
        self._same(server, entry, model.entry)
        named = arguments | {"model": entry.name}
        reply = server.ask(lambda: server.chat.invoke(list(messages), **named), self.name)
        if reply.response_metadata.get("done") is not True:
            raise server.lost("the reply is incomplete")
        return reply

    def _model_once(self) -> Model:
        with self._query_arguments:
            return self._model

    @cached_property
    def _model(self) -> Model:
        entries = self._pool.survey(self._entry)
        first, entry = next(iter(entries.items()))
        for server, other in entries.items():
            self._same(server, other, entry)
        try:
            thinks, schema = self._thinking(first, entry)
        except ServerError as failure:
            raise failure.error from failure
        return Model(entry=entry, thinks=thinks, schema=schema)

    def _thinking(self, server: Server, entry: Entry) -> tuple[bool | None, bool]:
        """Return whether the model is told to think, and can follow the schema."""
        # Older servers don't say what a model can do.
        capabilities = server.about(entry.name).capabilities or []
        if "embedding" in capabilities and "completion" not in capabilities:
            raise ServerError(
                UsageError(
                    f"the model {self.name} cannot chat: it is an embedding model",
                    "name a language model, such as ollama:llama3.1:8b",
                )
            )
        if "thinking" not in capabilities:
            if self._think == "on":
                raise ServerError(UsageError(f"the model {self.name} cannot think", "use --think auto or off"))
            return None, True
        version = [int(number) for number in re.findall(r"\d{1,9}", server.version())[:3]]
        # Builds of one's own call themselves 0.0.0.
        recent = tuple(version) >= _FORMAT_AFTER_THOUGHTS or not any(version)
        thinks = self._think == "on" or (self._think == "auto" and recent)
        return thinks, recent or not thinks

    def _entry(self, server: Server) -> Entry:
        for listed in server.models().models:
            name, about = listed.model or "", listed.details
            if listed.digest and _normal(name).lower() == self.name.lower():
                details = {
                    "quantisation": clean_text((about and about.quantization_level) or "", 40),
                    "parameters": clean_text((about and about.parameter_size) or "", 40),
                    "family": clean_text((about and about.family) or "", 40),
                }
                told = {what: value for what, value in details.items() if value}
                return Entry(name, clean_text(listed.digest, 80).removeprefix("sha256:"), told)
        raise missing(self.name, server.name)

    def _same(self, server: Server, entry: Entry, wanted: Entry) -> None:
        if entry.digest != wanted.digest:
            raise BackendError(
                f"the Ollama server at {server.name} has another {self.name} (digest {entry.digest[:16]}, not "
                f"{wanted.digest[:16]}): its replies would be another model's",
                f"`line pull {self.name}` brings the servers to the same one, or leave it out of --ollama",
            )


def model_name(name: str) -> str:
    """Normalise a name to Ollama's form: ``library/llama3.1`` is ``llama3.1:latest``.

    It keeps its upper and lower case, which registries may distinguish and servers do not.

    Raises:
        UsageError: no model can have such a name.
    """
    if not re.fullmatch(r"\w[\w.\-]*(?:[/:]\w[\w.\-]*)*", name, re.ASCII) or len(name) > 300:
        raise UsageError(
            f"{name!r:.80} is not the name of an Ollama model", "ollama:NAME, for example ollama:llama3.1:8b"
        )
    return _normal(name)


def _normal(name: str) -> str:
    # Names of Ollama's own library may be given in full, with the library's host before them.
    short = re.sub(r"^(?:[^/]+\.[^/]+/)?library/", "", name, flags=re.IGNORECASE)
    return short if ":" in short.rpartition("/")[2] else f"{short}:latest"
