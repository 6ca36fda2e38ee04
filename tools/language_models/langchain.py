"""Any chat model of LangChain, named by the dotted path of its class."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from line_neurons.agent.errors import BackendError, DamagedError, LineError, MissingPartError, UsageError
from line_neurons.agent.ports import Prompt
from line_neurons.agent.replies import REPLY_SCHEMA
from line_neurons.agent.text import clean_text
from line_neurons.tools.language_models.proposer import Completion

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage

REDACTED = "(left out)"

_ROUNDS = 5
_CUT_OFF = {"length", "max_tokens", "model_length", "MAX_TOKENS"}
# A number under one of the first is a count or a limit, as in max_token or key_length; not under the others.
_SECRET_TEXTS = {"key", "keys", "apikey", "apikeys", "token", "auth", "bearer", "cookie", "cookies"}
_SECRET_ALWAYS = {"secret", "secrets", "password", "passwords", "passwd", "passphrase", "pwd", "authorization",
                  "credential", "credentials"}  # fmt: skip
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_USER_OF_URL = re.compile(r"(?<=://)[^/\s]*@")
_QUERY = re.compile(r"(?<=[?&])([^?&=\s]+)=([^&#\s]+)")


class LangChainEngine:
    """Chats with an instance of a LangChain chat model class; imports it when it is first needed.

    Seed, temperature and top_p are given to the model where its class has fields of these names and ``arguments``
    do not set them. Where the class can be held to a JSON schema and still give its raw answer, it is; else the
    prompt's own words have to do. What comes back is validated the same in both cases.

    Args:
        path: dotted path of the class, such as ``langchain_openai.ChatOpenAI``.
        arguments: what the class is called with.
        top_p: nucleus sampling, in (0, 1].
        sleep: waits before a failed request is made again.
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
        """Class, version of its package, and a hash of the arguments without the secrets among them.

        Raises:
            MissingPartError: its package is not installed.
            UsageError: it is not a chat model, or the arguments do not fit it.
        """
        chosen = self._chosen(top_p=self._top_p)
        version = _version(type(self._model).__module__)
        given = json.dumps(redacted(self._arguments), sort_keys=True, default=str)
        digest = hashlib.sha256(given.encode()).hexdigest()[:16]
        settings = "".join(f" {name}={value}" for name, value in chosen.items())
        return f"langchain:{self._path} version={version} arguments={digest}{settings}"

    def complete(self, prompt: Prompt, *, seed: int, temperature: float) -> Completion:
        """See ``ChatEngine.complete``."""
        messages: list[tuple[str, str]] = [(message.role, message.content) for message in prompt.messages]
        chosen = self._chosen(seed=seed, temperature=temperature)
        # A copy, because calls may come from several threads; models without these fields may count their calls.
        model = self._model.model_copy(update=chosen) if chosen else self._model
        for attempt in range(1, _ROUNDS + 1):
            try:
                return _completion(_ask(model, messages))
            except Exception as error:
                if attempt == _ROUNDS or not _may_pass(error):
                    raise BackendError(
                        f"the language model {self._path} failed: {self._told(error)}",
                        "check the arguments under [langchain] in line.toml, and the service behind it",
                    ) from error
                self._sleep(2.0 ** (attempt - 1))
        raise AssertionError("unreachable")

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
                f"{self._path} needs a package that is not installed: {self._told(error)}",
                "install that package beside line-neurons",
            ) from error
        except (Exception, SystemExit) as error:
            raise self._does_not_fit(self._told(error)) from error

    def _refuse_unknown(self) -> None:
        """Refuse arguments that the class would pass over in silence."""
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
            f"the arguments of langchain:{self._path} do not fit: {said}", "mend [langchain] in line.toml"
        )

    def _chosen(self, **values: float) -> dict[str, float]:
        """Those of ``values`` that the class has a field for and that the arguments leave open."""
        fields = self._class.model_fields
        return {name: value for name, value in values.items() if name in fields and name not in self._arguments}

    def _told(self, error: BaseException) -> str:
        lines = str(error).strip().splitlines() or [""]
        return clean_text(self._masked(f"{type(error).__name__}: {lines[0]}"), 300)

    def _masked(self, text: str) -> str:
        for value in sorted(set(_secrets(self._arguments)), key=len, reverse=True):
            text = text.replace(value, "***")
        return _without_secrets_of_url(text, "***")


def chat_model_class(path: str) -> type[BaseChatModel]:
    """The chat model class at a dotted path.

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
        raise BackendError(f"{module} cannot be imported: {said}", "mend the module") from error
    from langchain_core.language_models import BaseChatModel

    if not inspect.isclass(found) or not issubclass(found, BaseChatModel):
        what = f"there is no {name} in {module}" if found is None else f"{path} is not a LangChain chat model"
        raise UsageError(what, "name a subclass of langchain_core.language_models.BaseChatModel")
    return found


def _find_own_modules() -> None:
    """Let modules of the working folder be found, after all installed ones."""
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.append(folder)


def redacted(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments as they may be recorded: keys, tokens, passwords and the like replaced by ``REDACTED``."""
    return {
        name: REDACTED if _is_secret(name, value) else _without_secrets(value) for name, value in arguments.items()
    }


def with_secrets(
    recorded: Mapping[str, Any], given: Mapping[str, Any], table: tuple[str, ...] = ("langchain",)
) -> dict[str, Any]:
    """Recorded arguments with what was left out of the record put in from arguments given anew.

    Args:
        recorded: what ``redacted`` gave.
        given: the arguments of line.toml and the environment of now.
        table: where in line.toml they stand.

    Raises:
        UsageError: a secret is not given any more.
        DamagedError: the record is no table.
    """
    if not isinstance(recorded, Mapping):
        raise DamagedError(
            f"the arguments of the language model are recorded as {recorded!r:.60}",
            "put a backup of the store in its place",
        )
    filled: dict[str, Any] = {}
    for name, value in recorded.items():
        now = given.get(name)
        if isinstance(value, Mapping):
            filled[name] = with_secrets(value, now if isinstance(now, Mapping) else {}, (*table, name))
        elif REDACTED not in str(value):
            filled[name] = value
        elif now is None:
            remedy = f"give it again in line.toml under [{'.'.join(table)}]"
            if len(table) == 1:
                remedy += f", or as LINE_LANGCHAIN__{name.upper()}"
            raise UsageError(f"the argument {name!r:.60} of the language model is not kept with the run", remedy)
        else:
            filled[name] = now
    return filled


def _without_secrets(value: Any) -> Any:
    if isinstance(value, Mapping):
        return redacted(value)
    if isinstance(value, list | tuple):
        return [_without_secrets(part) for part in value]
    return _without_secrets_of_url(value, REDACTED) if isinstance(value, str) else value


def _without_secrets_of_url(text: str, instead: str) -> str:
    """Text whose addresses have neither users and passwords nor secrets after their question marks."""

    def query(found: re.Match[str]) -> str:
        return f"{found[1]}={instead}" if _is_secret(found[1], found[2]) else found[0]

    return _QUERY.sub(query, _USER_OF_URL.sub(f"{instead}@", text))


def _is_secret(name: str, value: Any) -> bool:
    """Whether a value is secret by its name: ``api_key`` is, ``max_tokens`` and ``use_token=true`` are not."""
    if isinstance(value, bool | None):
        return False
    words = set(re.findall(r"[a-z]+", _HUMP.sub(" ", str(name)).lower()))
    secret = _SECRET_ALWAYS if isinstance(value, int | float) else _SECRET_ALWAYS | _SECRET_TEXTS
    return not secret.isdisjoint(words)


def _secrets(value: Any, *, secret: bool = False) -> Iterator[str]:
    """The secret texts among arguments."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _secrets(part, secret=secret or _is_secret(name, part))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _secrets(part, secret=secret)
    elif secret and len(text := str(value)) >= 4:
        # A message may hold one line of a key, or a token without the word before it.
        yield from (text, *(part for part in text.split() if len(part) >= 8))


def _ask(model: BaseChatModel, messages: list[tuple[str, str]]) -> AIMessage:
    method = inspect.signature(type(model).with_structured_output).parameters.get("method")
    if method is None or "json_schema" not in str(method.annotation):
        return model.invoke(list(messages))
    schema = {"title": "proposal", "description": "Reasoning, then one concept.", **REPLY_SCHEMA}
    held = model.with_structured_output(schema, method="json_schema", include_raw=True)
    answer = held.invoke(list(messages))
    assert isinstance(answer, dict)
    raw: AIMessage = answer["raw"]
    return raw


def _completion(message: AIMessage) -> Completion:
    """The texts and the thoughts of a message, whose content may be text or a list of parts."""
    texts: list[str] = []
    thoughts: list[str] = []
    for block in message.content_blocks:
        # LangChain wraps kinds of parts that it does not know.
        part: Any = block.get("value", block)
        if part.get("type") == "text":
            texts.append(str(part.get("text", "")))
            continue
        summary = part.get("summary") if isinstance(part.get("summary"), list) else []
        told = [part.get("reasoning"), part.get("thinking"), *(one.get("text") for one in summary)]
        thoughts += [text for text in told if isinstance(text, str)]
    about = message.response_metadata
    ended = {str(about.get(name)) for name in ("finish_reason", "stop_reason", "done_reason")}
    return Completion("".join(texts), bool(ended & _CUT_OFF), "\n".join(thoughts))


def _may_pass(error: Exception) -> bool:
    """Whether the same request may succeed in a moment: the network, or a server too busy or out of order."""
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
