"""A new run as it is typed into a form: what does not fit yet, and the command that begins it."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from line_neurons.agent.errors import BackendError, UsageError
from line_neurons.agent.settings import load_settings
from line_neurons.tools.generators.presets import parse_source
from line_neurons.tools.language_models.registry import EMBEDDED, FORMS
from line_neurons.tools.target_specs import known_prefixes
from line_neurons.tools.targets.base import near_names
from line_neurons.tools.targets.unit_selectors import parse_units
from line_neurons.tui.app import processes

SETTINGS = {
    "llm": "--llm",
    "generator": "--generator",
    "control": "--control",
    "iterations": "--iterations",
    "images": "--images",
    "seed": "--seed",
    "max_concurrent_units": "--max-concurrent-units",
}
"""Settings that the form asks for, by the option of the command."""

_PATIENCE = 300
_REGISTERED = re.compile(r"^@register_model\([^)]*\)\s*(?:@.*\n)*def (\w+)\(", re.MULTILINE)


@dataclass(frozen=True)
class Layer:
    """A layer of the model that was named: dotted path, kind and number of units."""

    path: str
    kind: str
    units: int


def command(values: Mapping[str, str]) -> list[str]:
    """The arguments of ``line`` that begin the run, without the store."""
    given = [part for name, flag in SETTINGS.items() if values.get(name) for part in (flag, values[name])]
    units = values.get("units", "")
    return ["batch", values.get("model", ""), values.get("layer", ""), "--units", units, *given]


def command_line(store: Path, default: Path, values: Mapping[str, str]) -> str:
    """The command as it is typed into a shell."""
    place = [] if store.absolute() == default else ["--store", str(store)]
    wanted = {"model": "MODEL", "layer": "LAYER", "units": "UNITS"}
    shown = {**values, **{name: values.get(name) or word for name, word in wanted.items()}}
    return shlex.join(["line", *command(shown), *place])


def faults(values: Mapping[str, str], layers: Sequence[Layer] | None) -> dict[str, str]:
    """What does not fit, by field.

    Args:
        values: what was typed, by field; empty where the default is to be.
        layers: the layers of the model, where they are known.
    """
    found = {name: fault for name in SETTINGS if (fault := _setting(name, values.get(name, "")))}
    if not found and (fault := _setting(None, values)):
        found["control"] = fault
    for name, check in (("model", _model), ("layer", _layer), ("units", _units)):
        if fault := check(values, layers):
            found[name] = fault
    return found


def _setting(name: str | None, value: Any) -> str:
    """What is wrong with one setting, or with all together."""
    given = {name: value} if name else {key: value[key] for key in SETTINGS if value.get(key)}
    if name and not value:
        return ""
    try:
        load_settings(**given)
        if name in _SPECS:
            _SPECS[name](value)
    except UsageError as error:
        # That settings need one another is told once all are there.
        if name and error.message.startswith("settings:"):
            return ""
        return error.message.removeprefix(f"setting {name}").removeprefix(f" = {value!r:.80}").lstrip(": ")
    return ""


def _language_model(spec: str) -> None:
    kind, colon, name = spec.partition(":")
    if spec not in {"embedded", "random"} and not (
        (kind in {"ollama", "langchain"} and name) or (kind == "embedded" and colon and name in EMBEDDED)
    ):
        raise UsageError(f"is none of: {', '.join(FORMS)}")


def _generator(spec: str) -> None:
    kind, _, folder = spec.partition(":")
    if kind != "bank":
        parse_source(spec)
    elif spec != "bank" and not Path(folder).expanduser().is_dir():
        raise UsageError(f"there is no folder {folder!r:.80}")


_SPECS: Mapping[str | None, Callable[[str], None]] = {"llm": _language_model, "generator": _generator}


def _model(values: Mapping[str, str], layers: Sequence[Layer] | None) -> str:
    model = values.get("model", "")
    prefix, colon, name = model.partition(":")
    if not model:
        return "name a model"
    return "" if prefix and colon and name and not model.startswith("-") else f"begins with {known_prefixes()}"


def _layer(values: Mapping[str, str], layers: Sequence[Layer] | None) -> str:
    layer = values.get("layer", "")
    if not layer:
        return "name a layer"
    if layers is None:
        return "a layer does not begin with -" if layer.startswith("-") else ""
    known = [one.path for one in layers]
    for one in layer.split(","):
        if one.strip() not in known:
            near = near_names(one.strip(), known)
            return f"no layer {one.strip()!r:.60}" + (f"; {near}" if near else "")
    return ""


def _units(values: Mapping[str, str], layers: Sequence[Layer] | None) -> str:
    units = values.get("units", "")
    if not units:
        return "name units: 7, 10-20, all, random:50, cosy, @FILE or names of classes"
    if units.startswith("-"):
        return "units do not begin with -"
    seed = values.get("seed", "")
    for one in layers or ():
        if one.path not in [part.strip() for part in values.get("layer", "").split(",")]:
            continue
        try:
            parse_units([units], one.units, seed=int(seed) if seed.isdecimal() else 0, layer=one.path)
        except UsageError as error:
            # Only the model knows the names of its classes, and it is opened when the run begins.
            if not may_be_names(units):
                return str(error)
    return ""


def may_be_names(units: str) -> bool:
    """Whether units may be meant by the names of classes."""
    known = re.compile(r"@|random:|all$|cosy$|[\d\s,-]*$", re.IGNORECASE)
    return any(not known.match(part.strip()) for part in units.split(","))


def count_units(values: Mapping[str, str], layers: Sequence[Layer] | None) -> int | None:
    """How many units were chosen in all layers; None where that is not known yet."""
    chosen = [one for one in layers or () if one.path in values.get("layer", "").split(",")]
    seed = values.get("seed", "")
    try:
        return (
            sum(
                len(parse_units([values.get("units", "")], one.units, seed=int(seed or 0), layer=one.path))
                for one in chosen
            )
            or None
        )
    except (UsageError, ValueError):
        return None


class LayersQuestion:
    """The layers of a model, asked of ``line layers`` in a process that can be given up.

    Args:
        model: the model.
    """

    def __init__(self, model: str) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - the program itself, and no shell
            [*processes.COMMAND, "layers", model, "--json"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def answer(self) -> list[Layer]:
        """Wait for the layers.

        Raises:
            BackendError: the command failed, with what it said.
        """
        try:
            out, err = self._process.communicate(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            self.give_up()
            raise BackendError(f"no answer within {_PATIENCE} s") from None
        if self._process.returncode:
            lines = [line for line in err.decode(errors="replace").splitlines() if line.strip()]
            raise BackendError(lines[-1].removeprefix("error: ") if lines else "the command gave no reason")
        try:
            return [Layer(str(one["path"]), str(one["kind"]), int(one["units"])) for one in json.loads(out)]
        except (ValueError, KeyError, TypeError) as error:
            raise BackendError(f"`line layers` gave no list of layers: {error}") from error

    def give_up(self) -> None:
        """End the process; nobody waits for its answer any more."""
        self._process.kill()


def torchvision_names() -> list[str]:
    """Specs of torchvision's models, read off its files: importing it takes seconds."""
    spec = find_spec("torchvision")
    folder = Path(spec.origin).parent / "models" if spec and spec.origin else None
    if folder is None or not folder.is_dir():
        return []
    names = {name for file in folder.glob("*.py") for name in _REGISTERED.findall(file.read_text("utf-8"))}
    return sorted(f"torchvision:{name}" for name in names)
