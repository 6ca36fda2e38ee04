"""The language models of Ollama, on one server or several."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from line_neurons.agent.errors import BackendError, UsageError
from line_neurons.agent.ports import Prompt
from line_neurons.agent.proposal import REPLY_SCHEMA
from line_neurons.tools.language_models.ollama_servers import Server, ServerPool, Trouble, combined, missing
from line_neurons.tools.language_models.proposer import Completion

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage

Think = Literal["auto", "on", "off"]

# From this version on a thinking model thinks first and keeps to the format after it; older servers hold it to the
# format from its first word, which leaves no room for thoughts.
_FORMAT_AFTER_THOUGHTS = (0, 12, 4)

# More than any tokenizer packs into a token of such prompts.
_CHARACTERS_A_TOKEN = 5


@dataclass(frozen=True)
class Model:
    """A model as the servers have it.

    Args:
        digest: SHA-256 of its manifest, in hex.
        thinks: whether it is asked to think; None if it cannot, and so is not told either way.
        schema: whether its answers are held to the reply's schema.
    """

    digest: str
    thinks: bool | None
    schema: bool


class OllamaEngine:
    """Chats with a model of Ollama; makes no request before it is asked something.

    Args:
        name: the model, such as ``llama3.1:8b``.
        urls: addresses of the servers, at least one; questions are spread over them.
        top_p: nucleus sampling, in (0, 1].
        context: context length in tokens.
        reply_tokens: longest answer in tokens; a model that thinks may use half the context more for its thoughts.
        timeout: seconds that an answer may take.
        think: let the model think; ``auto``: if it can, and the server still holds the answer to the schema.
        clock: monotonic seconds, for the time that a server is left out.
        sleep: waits before servers are asked again.

    Raises:
        UsageError: the name is not one that a model can have.
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
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.name = model_name(name)
        self._options = {"top_p": top_p, "num_ctx": context}
        self._reply_tokens = reply_tokens
        self._thought_tokens = context // 2
        self._think = think
        longest = reply_tokens + self._thought_tokens
        servers = [Server(url, timeout=timeout, reply_tokens=longest) for url in urls]
        self._pool = ServerPool(servers, clock=clock, sleep=sleep)
        self._looking = threading.RLock()

    @property
    def fingerprint(self) -> str:
        """Name, digest and settings of the model; asks the servers the first time.

        Raises:
            MissingPartError: no server has the model.
            BackendError: no server can be reached.
            UsageError: servers have different models of that name, or it cannot think but shall.
        """
        model = self._model_once()
        settings = {
            "digest": model.digest[:16],
            "top_p": self._options["top_p"],
            "context": self._options["num_ctx"],
            "reply_tokens": self._reply_tokens,
            "think": "on" if model.thinks else "off",
        }
        return " ".join([f"ollama:{self.name}", *(f"{name}={value}" for name, value in settings.items())])

    def complete(self, prompt: Prompt, *, seed: int, temperature: float) -> Completion:
        """See ``ChatEngine.complete``."""
        model = self._model_once()
        room = self._reply_tokens + (self._thought_tokens if model.thinks else 0)
        options = {**self._options, "num_predict": room, "seed": seed, "temperature": temperature}
        arguments: dict[str, Any] = {"options": options, "reasoning": model.thinks, "model": self.name}
        if model.schema:
            arguments["format"] = REPLY_SCHEMA
        messages = [(message.role, message.content) for message in prompt.messages]
        # Servers drop what does not fit without a word: whole messages, which cannot be seen from the answer,
        # or a part of one, and then the context is full.
        context = self._options["num_ctx"]
        if sum(len(content) for _, content in messages) > context * _CHARACTERS_A_TOKEN:
            raise self._does_not_fit()
        reply = self._pool.ask(lambda server: self._chat(server, model, messages, arguments))
        if not model.thinks and int(reply.response_metadata.get("prompt_eval_count") or 0) >= context:
            raise self._does_not_fit()
        return Completion(
            text=str(reply.content),
            truncated=reply.response_metadata.get("done_reason") == "length",
            thoughts=str(reply.additional_kwargs.get("reasoning_content", "")),
        )

    def _does_not_fit(self) -> BackendError:
        context = self._options["num_ctx"]
        return BackendError(f"the prompt does not fit into the context of {context} tokens", "a larger --context")

    def _chat(
        self, server: Server, model: Model, messages: Sequence[tuple[str, str]], arguments: dict[str, Any]
    ) -> AIMessage:
        # Each time anew: a server may have come back, or pulled another version meanwhile.
        self._same(server, self._digest(server), model.digest)
        reply = server.ask(lambda: server.chat.invoke(list(messages), **arguments), self.name)
        if reply.response_metadata.get("done") is not True:
            raise server.lost("the answer has no end")
        return reply

    def _model_once(self) -> Model:
        with self._looking:
            return self._model

    @cached_property
    def _model(self) -> Model:
        digests: dict[Server, str] = {}
        troubles: dict[Server, Trouble] = {}
        for server in self._pool.servers:
            try:
                digests[server] = self._digest(server)
            except Trouble as trouble:
                troubles[server] = trouble
                self._pool.leave_out(server)
        if not digests:
            none = combined(troubles)
            raise none.error from none
        first, digest = next(iter(digests.items()))
        for server, other in digests.items():
            self._same(server, other, digest)
        try:
            thinks, schema = self._thinking(first)
        except Trouble as trouble:
            raise trouble.error from trouble
        return Model(digest=digest, thinks=thinks, schema=schema)

    def _thinking(self, server: Server) -> tuple[bool | None, bool]:
        """Whether the model is told to think, and whether its answers can be held to the schema."""
        if "thinking" not in (server.about(self.name).capabilities or []):
            if self._think == "on":
                raise Trouble(UsageError(f"the model {self.name} cannot think", "use --think auto or off"))
            return None, True
        version = [int(number) for number in re.findall(r"\d{1,9}", server.version())[:3]]
        # Builds of one's own call themselves 0.0.0.
        recent = tuple(version) >= _FORMAT_AFTER_THOUGHTS or not any(version)
        thinks = self._think == "on" or (self._think == "auto" and recent)
        return thinks, recent or not thinks

    def _digest(self, server: Server) -> str:
        for model in server.models().models:
            if model.digest and _normal(model.model or "") == self.name:
                return model.digest.removeprefix("sha256:")
        raise missing(self.name, server.name)

    def _same(self, server: Server, digest: str, wanted: str) -> None:
        if digest != wanted:
            raise BackendError(
                f"the Ollama server at {server.name} has another {self.name} (digest {digest[:16]}, not "
                f"{wanted[:16]}): its answers would be another model's",
                f"`line pull {self.name}` brings the servers to the same one, or leave it out of --ollama",
            )


def model_name(name: str) -> str:
    """The name of a model as Ollama lists it: ``llama3.1`` and ``library/Llama3.1:latest`` are the same.

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
    short = re.sub(r"^(?:[^/]+\.[^/]+/)?library/", "", name.lower())
    return short if ":" in short.rpartition("/")[2] else f"{short}:latest"
