"""Any LangChain chat model, named by the dotted path of its class."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from line_neurons.agent.errors import BackendError, LineError, MissingPartError, UsageError
from line_neurons.agent.ports import Prompt
from line_neurons.agent.replies import reply_schema
from line_neurons.agent.text import clean_text
from line_neurons.tools.language_models.arguments import identity_of
from line_neurons.tools.language_models.engine import Completion
from line_neurons.tools.language_models.secrets import redacted, secret_texts, url_without_secrets

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage

_MAX_ATTEMPTS = 5
_CUT_OFF = {"length", "max_tokens", "model_length", "MAX_TOKENS"}


class LangChainEngine:
    """Chats with an instance of a LangChain chat model class, imported on first use.

    Seed, temperature and top_p are passed to the model where its class has fields of these names and ``arguments``
    do not set them. Where the class can be constrained to a JSON schema and still return its raw reply, it is;
    else the prompt's own words have to do. Replies are validated the same in both cases.

    Args:
        path: dotted path of the class, such as ``langchain_openai.ChatOpenAI``.
        top_p: nucleus sampling, in (0, 1].
        sleep: waits before a failed request is repeated.
    """

    def __init__(
        self,
        path: str,
        arguments: Mapping[str, Any],
        *,
        top_p: float,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._path = path
        self._arguments = dict(arguments)
        self._top_p = top_p
        self._sleep = sleep

    @property
    def fingerprint(self) -> str:
        """Class, version of its package, and a hash of the arguments that decide replies.

        Raises:
            MissingPartError: its package is not installed.
            UsageError: it is not a chat model, or the arguments do not fit it.
        """
        return self._print(identity_of(redacted(self._arguments)))

    @property
    def former(self) -> str:
        """The fingerprint as earlier releases recorded it: addresses and timeouts were part of it.

        Raises:
            LineError: see ``fingerprint``.
        """
        return self._print(redacted(self._arguments))

    def was(self, fingerprint: str, arguments: Mapping[str, Any]) -> bool:
        """Tell whether an earlier release recorded this model under ``fingerprint``.

        ``arguments`` are those of the record.

        Raises:
            LineError: see ``fingerprint``.
        """
        return fingerprint == self._print(arguments) and self._print(identity_of(arguments)) == self.fingerprint

    def _print(self, arguments: Mapping[str, Any]) -> str:
        chosen = self._chosen(top_p=self._top_p)
        version = _version(type(self._model).__module__)
        given = json.dumps(arguments, sort_keys=True, default=str)
        digest = hashlib.sha256(given.encode()).hexdigest()[:16]
        settings = "".join(f" {name}={value}" for name, value in chosen.items())
        return f"langchain:{self._path} version={version} arguments={digest}{settings}"

    def complete(self, prompt: Prompt, *, seed: int, temperature: float) -> Completion:
        """See ``ChatEngine.complete``."""
        messages: list[tuple[str, str]] = [(message.role, message.content) for message in prompt.messages]
        chosen = self._chosen(seed=seed, temperature=temperature)
        # A copy, because calls may come from several threads; models without these fields may count their calls.
        model = self._model.model_copy(update=chosen) if chosen else self._model
        retrying = Retrying(
            sleep=self._sleep,
            wait=wait_exponential(),
            stop=stop_after_attempt(_MAX_ATTEMPTS),
            retry=retry_if_exception(_is_transient),
            reraise=True,
        )
        try:
            return retrying(lambda: _completion(_ask(model, messages, prompt.concepts)))
        except Exception as error:
            raise BackendError(
                f"the language model {self._path} failed: {self._reason(error)}",
                "check the arguments under [langchain] in line.toml, and the service behind it",
            ) from error

    @cached_property
    def _class(self) -> type[BaseChatModel]:
        return chat_model_class(self._path)

    @cached_property
    def _model(self) -> BaseChatModel:
        from pydantic import ValidationError

        self._refuse_unknown()
        try:
            arguments: dict[str, Any] = self._arguments | self._chosen(top_p=self._top_p)
            with redirect_stdout(sys.stderr):
                return self._class(**arguments)
        except ValidationError as error:
            first = error.errors(include_input=False, include_context=False)[0]
            name = ".".join(str(part) for part in first["loc"])
            said = f"{name}: {first['msg']}" if name else first["msg"]
            raise self._does_not_fit(clean_text(self._masked(said), 300)) from None
        except ImportError as error:
            raise MissingPartError(
                f"{self._path} needs a package that is not installed: {self._reason(error)}",
                "install that package beside line-neurons",
            ) from error
        except (Exception, SystemExit) as error:
            raise self._does_not_fit(self._reason(error)) from error

    def _refuse_unknown(self) -> None:
        """Refuse arguments that the class would silently ignore."""
        fields, known = self._class.model_fields, set()
        for name, field in fields.items():
            others = getattr(field.validation_alias, "choices", [field.validation_alias])
            known |= {name, field.alias, *(other for other in others if isinstance(other, str))}
        if self._class.model_config.get("extra") == "allow" or "model_kwargs" in fields:
            return
        for name in self._arguments:
            if name not in known:
                raise self._does_not_fit(f"it has no argument {name!r:.60}")

    def _does_not_fit(self, said: str) -> UsageError:
        return UsageError(
            f"the arguments of langchain:{self._path} do not fit: {said}", "correct [langchain] in line.toml"
        )

    def _chosen(self, **values: float) -> dict[str, float]:
        """Return those of ``values`` that the class has and the arguments leave open."""
        fields = self._class.model_fields
        return {name: value for name, value in values.items() if name in fields and name not in self._arguments}

    def _reason(self, error: BaseException) -> str:
        lines = str(error).strip().splitlines() or [""]
        return clean_text(self._masked(f"{type(error).__name__}: {lines[0]}"), 300)

    def _masked(self, text: str) -> str:
        for value in sorted(set(secret_texts(self._arguments)), key=len, reverse=True):
            text = text.replace(value, "***")
        return url_without_secrets(text, "***")


def chat_model_class(path: str) -> type[BaseChatModel]:
    """Import the chat model class at a dotted path.

    Raises:
        UsageError: the path names no chat model class.
        MissingPartError: the package is not installed.
        BackendError: the module fails when it is imported.
    """
    module, _, name = path.rpartition(".")
    if not module or not all(part.isidentifier() for part in path.split(".")):
        raise UsageError(
            f"{path!r:.80} is not the path of a class",
            "langchain:package.module.Class, for example langchain:langchain_openai.ChatOpenAI",
        )
    try:
        # What a module prints when it is imported is no part of the command's answer.
        _find_own_modules()
        with redirect_stdout(sys.stderr):
            found = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        raise _not_imported(module, error) from error
    except (Exception, SystemExit) as error:
        said = clean_text(f"{type(error).__name__}: {error}", 200)
        raise BackendError(f"{module} cannot be imported: {said}", "correct the module") from error
    from langchain_core.language_models import BaseChatModel

    if not inspect.isclass(found) or not issubclass(found, BaseChatModel):
        what = f"there is no {name} in {module}" if found is None else f"{path} is not a LangChain chat model"
        raise UsageError(what, "name a subclass of langchain_core.language_models.BaseChatModel")
    return found


def _find_own_modules() -> None:
    """Let modules of the working folder be imported, after all installed ones."""
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.append(folder)


def _ask(model: BaseChatModel, messages: list[tuple[str, str]], concepts: int) -> AIMessage:
    method = inspect.signature(type(model).with_structured_output).parameters.get("method")
    if method is None or "json_schema" not in str(method.annotation):
        return model.invoke(list(messages))
    what = "one concept" if concepts == 1 else "the concepts"
    schema = {"title": "proposal", "description": f"Reasoning, then {what}.", **reply_schema(concepts)}
    held = model.with_structured_output(schema, method="json_schema", include_raw=True)
    answer = held.invoke(list(messages))
    assert isinstance(answer, dict)
    raw: AIMessage = answer["raw"]
    return raw


def _completion(message: AIMessage) -> Completion:
    """Extract texts and thoughts of a message, whose content may be text or a list of blocks."""
    texts: list[str] = []
    thoughts: list[str] = []
    for block in message.content_blocks:
        # LangChain wraps kinds of parts that it does not know.
        part: Any = block.get("value", block)
        if part.get("type") == "text":
            texts.append(str(part.get("text", "")))
            continue
        summary = part.get("summary") if isinstance(part.get("summary"), list) else []
        told = [part.get("reasoning"), part.get("thinking"), *(entry.get("text") for entry in summary)]
        thoughts += [text for text in told if isinstance(text, str)]
    about = message.response_metadata
    ended = {str(about.get(name)) for name in ("finish_reason", "stop_reason", "done_reason")}
    return Completion("".join(texts), bool(ended & _CUT_OFF), "\n".join(thoughts))


def _is_transient(error: BaseException) -> bool:
    """Tell whether a retry may succeed: a network error, or a server that is busy or failing."""
    import httpx

    response = getattr(error, "response", None)
    status = getattr(error, "status_code", None) or getattr(response, "status_code", None)
    if isinstance(status, int):
        return status >= 500 or status in (408, 429)
    # Clients of services have errors of their own for a lost connection, with httpx's behind them.
    return isinstance(error, OSError | httpx.TransportError) or isinstance(
        error.__cause__, ConnectionError | httpx.TransportError
    )


def _version(module: str) -> str:
    root = module.partition(".")[0]
    for name in (root, *metadata.packages_distributions().get(root, ())):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "none"


def _not_imported(module: str, error: ImportError) -> LineError:
    root, absent = module.partition(".")[0], error.name or ""
    if absent == root:
        return MissingPartError(
            f"there is no module {root}, neither installed nor in the working folder",
            f"install its package (for one of LangChain's: pip install {root.replace('_', '-')})"
            if root.startswith("langchain")
            else "check the path of the class, or go to the folder with your module",
        )
    if absent and f"{module}.".startswith(f"{absent}."):
        return UsageError(f"there is no module {absent} in the package {root}", "check the path of the class")
    package = absent.partition(".")[0].replace("_", "-")
    return MissingPartError(
        f"{module} needs a package that is not installed: {clean_text(str(error), 200)}",
        f"pip install {package}" if package else "install what it needs beside line-neurons",
    )
