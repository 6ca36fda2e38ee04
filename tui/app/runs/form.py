"""Values of the form for a new run: checks, and the command that starts it."""

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
from line_neurons.tui.app import external

SETTINGS = {
    "llm": "--llm",
    "generator": "--generator",
    "control": "--control",
    "iterations": "--iterations",
    "images": "--images",
    "seed": "--seed",
    "max_concurrent_units": "--max-concurrent-units",
}
"""Settings in the form, with the options of the command."""

_TIMEOUT_SECONDS = 300
_REGISTERED = re.compile(r"^@register_model\([^)]*\)\s*(?:@.*\n)*def (\w+)\(", re.MULTILINE)


@dataclass(frozen=True)
class Layer:
    """A layer of the model: dotted path, kind and number of units."""

    path: str
    kind: str
    units: int


def command(values: Mapping[str, str]) -> list[str]:
    """Return the arguments of ``line`` that start the run, without the store."""
    options = [part for name, flag in SETTINGS.items() if values.get(name) for part in (flag, values[name])]
    units = values.get("units", "")
    return ["batch", values.get("model", ""), values.get("layer", ""), "--units", units, *options]


def command_line(store: Path, default: Path, values: Mapping[str, str]) -> str:
    """Return the command as it is typed into a shell, with placeholders for empty fields."""
    option = [] if store.absolute() == default else ["--store", str(store)]
    placeholders = {"model": "MODEL", "layer": "LAYER", "units": "UNITS"}
    filled = {**values, **{name: values.get(name) or word for name, word in placeholders.items()}}
    return shlex.join(["line", *command(filled), *option])


def field_errors(values: Mapping[str, str], layers: Sequence[Layer] | None) -> dict[str, str]:
    """Return the error of each field that has one.

    Args:
        values: the text of each field; empty for the default.
        layers: the layers of the model; None if unknown.
    """
    errors = {name: error for name in SETTINGS if (error := _setting_error(name, values.get(name, "")))}
    if not errors and (error := _setting_error(None, values)):
        errors["control"] = error
    for name, check in (("model", _model_error), ("layer", _layer_error), ("units", _units_error)):
        if error := check(values, layers):
            errors[name] = error
    return errors


def _setting_error(name: str | None, value: Any) -> str:
    """Return the error of one setting or, without a name, of their combination; empty if there is none."""
    settings = {name: value} if name else {key: value[key] for key in SETTINGS if value.get(key)}
    if name and not value:
        return ""
    try:
        load_settings(**settings)
        if name in _SPECS:
            _SPECS[name](value)
    except UsageError as error:
        # Errors of the combination are reported for all settings together.
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


def _model_error(values: Mapping[str, str], layers: Sequence[Layer] | None) -> str:
    model = values.get("model", "")
    prefix, colon, name = model.partition(":")
    if not model:
        return "name a model"
    return "" if prefix and colon and name and not model.startswith("-") else f"begins with {known_prefixes()}"


def _layer_error(values: Mapping[str, str], layers: Sequence[Layer] | None) -> str:
    layer = values.get("layer", "")
    if not layer:
        return "name a layer"
    if layers is None:
        return "a layer does not begin with -" if layer.startswith("-") else ""
    known = [layer.path for layer in layers]
    for path in map(str.strip, layer.split(",")):
        if path not in known:
            near = near_names(path, known)
            return f"no layer {path!r:.60}" + (f"; {near}" if near else "")
    return ""


def _units_error(values: Mapping[str, str], layers: Sequence[Layer] | None) -> str:
    units = values.get("units", "")
    if not units:
        return "name units: 7, 10-20, all, random:50, cosy, @FILE or class names"
    if units.startswith("-"):
        return "units do not begin with -"
    seed = values.get("seed", "")
    for layer in layers or ():
        if layer.path not in [part.strip() for part in values.get("layer", "").split(",")]:
            continue
        try:
            parse_units([units], layer.units, seed=int(seed) if seed.isdecimal() else 0, layer=layer.path)
        except UsageError as error:
            # Only the model knows its class names, and it is loaded when the run starts.
            if not may_be_class_names(units):
                return str(error)
    return ""


def may_be_class_names(units: str) -> bool:
    """Whether units may be given by class names."""
    known = re.compile(r"@|random:|all$|cosy$|[\d\s,-]*$", re.IGNORECASE)
    return any(not known.match(part.strip()) for part in units.split(","))


def count_units(values: Mapping[str, str], layers: Sequence[Layer] | None) -> int | None:
    """Count the units in all chosen layers; None if unknown yet."""
    chosen = [layer for layer in layers or () if layer.path in values.get("layer", "").split(",")]
    seed = values.get("seed", "")
    try:
        return (
            sum(
                len(parse_units([values.get("units", "")], layer.units, seed=int(seed or 0), layer=layer.path))
                for layer in chosen
            )
            or None
        )
    except (UsageError, ValueError):
        return None


class LayerListing:
    """Layers of a model, listed by ``line layers`` in a process that can be cancelled."""

    def __init__(self, model: str) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - the program itself, and no shell
            [*external.COMMAND, "layers", model, "--json"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def wait(self) -> list[Layer]:
        """Wait for the layers.

        Raises:
            BackendError: the command failed.
        """
        try:
            out, err = self._process.communicate(timeout=_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self.cancel()
            raise BackendError(f"no answer within {_TIMEOUT_SECONDS} s") from None
        if self._process.returncode:
            lines = [line for line in err.decode(errors="replace").splitlines() if line.strip()]
            raise BackendError(lines[-1].removeprefix("error: ") if lines else "the command gave no reason")
        try:
            return [Layer(str(row["path"]), str(row["kind"]), int(row["units"])) for row in json.loads(out)]
        except (ValueError, KeyError, TypeError) as error:
            raise BackendError(f"`line layers` printed no list of layers: {error}") from error

    def cancel(self) -> None:
        """End the process."""
        self._process.kill()


def torchvision_specs() -> list[str]:
    """List torchvision's models from its source files: importing it takes seconds."""
    spec = find_spec("torchvision")
    folder = Path(spec.origin).parent / "models" if spec and spec.origin else None
    if folder is None or not folder.is_dir():
        return []
    names = {name for file in folder.glob("*.py") for name in _REGISTERED.findall(file.read_text("utf-8"))}
    return sorted(f"torchvision:{name}" for name in names)
