"""The embedded language model: a GGUF file run in this process by llama.cpp (xllamacpp)."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from line_neurons.agent.errors import BackendError, MissingPartError
from line_neurons.agent.ports import Message, Prompt
from line_neurons.agent.replies import more_tokens, reply_schema
from line_neurons.tools.language_models.engine import Completion
from line_neurons.tools.packages import required_package

MAX_REPLY_TOKENS = 160
CACHED_PREFIXES = 2
"""An engine keeps its state for the shared messages of so many kinds of prompts: iterations and summaries."""


class LlamaCppEngine:
    """Chats with a GGUF model, with the reply's JSON schema enforced by the engine's grammar.

    A reply depends on (prompt, seed, temperature) alone, not on earlier requests: floating-point results of
    llama.cpp change in the last bits with the length of the cached prefix, so before each request the cache is
    reset to exactly the messages that all prompts of its kind share (about 0.2 s on two cores). Each kind of
    prompt has a slot of its own, or a summary between two iterations would have the shared part of both computed
    again (8 s on two cores). One slot works at a time: with several, a reply would depend on concurrent requests.
    The slot's number has no effect. The number of threads does, in the last bits: 2 of 6 replies at temperature
    0.5 were the same with one thread and with two. So ``llm_parallel``, which decides it on a machine, is recorded
    with a run and kept when it is resumed.

    Args:
        top_p: nucleus sampling, in (0, 1].
        threads: CPU threads; default all cores this process may use.
        context: context length in tokens.
        kept: number of kinds of prompts whose shared messages are cached; 115 MB of memory each with the default
            model and context.

    Raises:
        MissingPartError: xllamacpp or the file is missing.
        BackendError: the file cannot be loaded.
    """

    def __init__(
        self,
        path: Path,
        *,
        top_p: float = 0.9,
        threads: int | None = None,
        context: int = 4096,
        kept: int = CACHED_PREFIXES,
    ) -> None:
        if not path.is_file():
            raise MissingPartError(
                f"the language model's file is not here: {path.name}", "line assets install demo"
            )
        # A spinning thread pool makes answers several times slower when another process needs a core.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        with required_package("xllamacpp", "embedded", needed="the embedded language model needs"):
            import xllamacpp
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(path)
        parameters.n_ctx = context * kept
        parameters.n_parallel = kept
        parameters.kv_unified = False
        parameters.warmup = False
        parameters.verbosity = -1
        # llama.cpp keeps earlier prompts' states in up to 8 GiB of memory and may go on from one of them; only
        # the shared part is ever wanted again, and it is in the slot already.
        parameters.cache_ram_mib = 0
        parameters.cpuparams.n_threads = threads or len(os.sched_getaffinity(0))
        parameters.cpuparams_batch.n_threads = parameters.cpuparams.n_threads
        try:
            self._server = xllamacpp.Server(parameters)
        except Exception as error:
            raise BackendError(
                f"llama.cpp cannot load {path.name}: {error}", "line assets verify, then install it again"
            ) from error
        self._top_p = top_p
        self._asking = threading.Lock()
        # Least recently used first; the messages that a slot has the state of, None where it is not known.
        self._slots: dict[int, tuple[Message, ...] | None] = dict.fromkeys(range(kept))

    def complete(self, prompt: Prompt, *, seed: int, temperature: float) -> Completion:
        """See ``ChatEngine.complete``."""
        shared = prompt.messages[: prompt.shared]
        # No other question may come between the one that brings the cache back and this one.
        with self._asking:
            slot = next((slot for slot, has in self._slots.items() if has == shared), next(iter(self._slots)))
            has_state = self._slots.pop(slot) == shared
            self._slots[slot] = None
            turns = [*map(_turn, shared), {"role": "user", "content": "~"}]
            # Never gone on from another kind's state, whose first words may be the same: see above.
            back = {"id_slot": slot, "cache_prompt": has_state, "max_tokens": 1, "temperature": 0}
            self._ask(back | {"messages": turns})
            self._slots[slot] = shared
            answer = self._ask(
                {
                    "id_slot": slot,
                    "messages": [_turn(message) for message in prompt.messages],
                    "max_tokens": MAX_REPLY_TOKENS + more_tokens(prompt.concepts),
                    "temperature": temperature,
                    "top_p": self._top_p,
                    "seed": seed,
                    "response_format": {
                        "type": "json_schema",
                        "json_schema": {
                            "name": "proposal",
                            "schema": reply_schema(prompt.concepts),
                            "strict": True,
                        },
                    },
                }
            )
        choice = answer["choices"][0]
        return Completion(
            text=choice["message"].get("content") or "", truncated=choice["finish_reason"] == "length"
        )

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = self._server.handle_chat_completions(request)
        except Exception as error:
            raise BackendError(f"the embedded language model failed: {error}") from error
        if "choices" not in answer:
            detail = answer.get("error", answer)
            raise BackendError(f"the embedded language model refused the prompt: {detail}")
        return answer


def _turn(message: Message) -> dict[str, str]:
    return {"role": message.role, "content": message.content}
