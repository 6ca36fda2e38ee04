"""Values of the form for a new run: checks, and the command that starts it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from line_neurons.agent.errors import BackendError, UsageError
from line_neurons.agent.near_names import near_names
from line_neurons.agent.text import shell_line
from line_neurons.tools.generators.presets import parse_source
from line_neurons.tools.image_bank.bank import BUNDLED
from line_neurons.tools.image_bank.opening import uses_image_bank
from line_neurons.tools.language_models.registry import check_language_model
from line_neurons.tools.target_specs import known_prefixes
from line_neurons.tools.targets.latents.names import base_layer
from line_neurons.tools.targets.unit_selectors import parse_units
from line_neurons.tui.app.listing import Listing
from line_neurons.tui.app.runs.fields import REQUIRED, SETTINGS, option, settings_of
from line_neurons.tui.cli.options import LATENTS, MACHINE, TARGET, UNITS

LISTED_WITH = ("weights", "layout", "tokens", *LATENTS)
"""Settings that the list of layers depends on."""
UNITS_LISTED_WITH = ("generator", "seed", "exclude", *TARGET, *MACHINE, "assets")
"""Settings that the list of units depends on, besides the store."""
_TIMEOUT_SECONDS = 300


@dataclass(frozen=True)
class Layer:
    """A layer of the model: dotted path, kind and number of units."""

    path: str
    kind: str
    units: int


def command(values: Mapping[str, str]) -> list[str]:
    """Return the arguments of ``line`` that start the run, without the store."""
    options = []
    for name in SETTINGS:
        if name != "store" and (text := values.get(name, "")):
            # The command is shown while a value is still typed.
            with suppress(UsageError):
                options += option(name, text)
    units = values.get("units", "")
    return ["batch", values.get("model", ""), values.get("layer", ""), "--units", units, *options]


def store_of(values: Mapping[str, str], opened: Path) -> Path:
    """Return the store of the run: the field's, or else the one that is open."""
    return Path(values["store"]).expanduser() if values.get("store") else opened


def command_line(opened: Path, default: Path, values: Mapping[str, str]) -> str:
    """Return the command as it is typed into a shell, with placeholders for empty fields.

    Args:
        opened: the store that the app shows.
        default: the store of a command without ``--store``.
    """
    store = store_of(values, opened)
    given = [] if store.absolute() == default else ["--store", str(store)]
    filled = {**values, **{name: values.get(name) or name.upper() for name in REQUIRED}}
    return shell_line(["line", *command(filled), *given])


def field_errors(values: Mapping[str, str], layers: Sequence[Layer] | None) -> dict[str, str]:
    """Return the error of each field that has one.

    Args:
        values: the text of each field; empty for the default.
        layers: the layers of the model; None if unknown.
    """
    errors = {name: error for name in SETTINGS if (error := _setting_error(name, values.get(name, "")))}
    if not errors:
        errors = _combination_error(values)
    for name, check in (("model", _model_error), ("layer", _layer_error), ("units", _units_error)):
        if error := check(values, layers):
            errors[name] = error
    if layers and (error := _layout_error(values, layers)):
        errors.setdefault("layout", error)
    return errors


def _setting_error(name: str, text: str) -> str:
    """Return the error of one setting; empty if there is none."""
    if not text:
        return ""
    try:
        if name in _CHECKS:
            _CHECKS[name](text)
        settings_of({name: text})
    except UsageError as error:
        # Errors of a combination are reported for all settings together.
        if error.message.startswith("settings:") or name == "preset":
            return ""
        found = re.fullmatch(r"setting [\w.]+ = .{1,80}?: (.*)", error.message, re.DOTALL)
        return found[1] if found else error.message
    return ""


def _combination_error(values: Mapping[str, str]) -> dict[str, str]:
    """Return the error of settings that do not fit together, at the last one that its message names."""
    try:
        settings_of(values)
    except UsageError as error:
        message = error.message.removeprefix("settings: ")
        named = [word for word in re.findall(r"\w+", message) if word in SETTINGS]
        return {named[-1] if named else "preset": message}
    return {}


def _generator(spec: str) -> None:
    folder = spec.partition(":")[2]
    if not uses_image_bank(spec):
        parse_source(spec)
    elif spec not in BUNDLED and not Path(folder).expanduser().is_dir():
        raise UsageError(f"there is no folder {folder!r:.80}")


def _control(spec: str) -> None:
    folder = Path(spec.partition("@")[0]).expanduser()
    if spec not in {"bank", "none"} and not spec.startswith("hf:") and not folder.exists():
        raise UsageError(f"there is no file or folder {spec!r:.80}; a dataset begins with hf:")


def _weights(text: str) -> None:
    # Only a named checkpoint needs it.
    from line_neurons.tools.targets.weights.files import weights_file

    weights_file(Path(text).expanduser())


def _file(text: str) -> None:
    if not Path(text).expanduser().is_file():
        raise UsageError(f"there is no file {text!r:.80}")


def _folder(text: str) -> None:
    path = Path(text).expanduser()
    if not path.is_dir() and (path.exists() or not path.absolute().parent.is_dir()):
        raise UsageError(f"{text!r:.80} is no folder, and cannot be made one")


_CHECKS: Mapping[str, Callable[[str], None]] = {
    "llm": check_language_model, "generator": _generator, "control": _control, "weights": _weights,
    "vocabulary": _file, "class_names": _file, "store": _folder, "assets": _folder,
}  # fmt: skip


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


def _layout_error(values: Mapping[str, str], layers: Sequence[Layer]) -> str:
    known = [layer.path for layer in layers]
    for part in filter(None, values.get("layout", "").split(",")):
        path, equals, _ = part.strip().rpartition("=")
        if equals and path not in known:
            near = near_names(path, known)
            return f"no layer {path!r:.60}" + (f"; {near}" if near else "")
    return ""


def _units_error(values: Mapping[str, str], layers: Sequence[Layer] | None) -> str:
    units = values.get("units", "")
    if not units:
        return f"name units: {UNITS}"
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


def layer_listing(values: Mapping[str, str]) -> Listing:
    """Start to list the layers of the model of a form; ``layers_of`` reads them."""
    return Listing(["layers", values["model"], *_options_of(values, LISTED_WITH)], _TIMEOUT_SECONDS)


def layers_of(rows: Iterable[Mapping[str, Any]]) -> list[Layer]:
    """Return the layers that ``layer_listing`` listed; those of latents by the path of the model's layer.

    Raises:
        BackendError: the rows are no layers.
    """
    try:
        return [Layer(base_layer(str(row["path"])), str(row["kind"]), int(row["units"])) for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise BackendError(f"`line layers` printed no list of layers: {error}") from error


def unit_arguments(values: Mapping[str, str], opened: Path) -> list[str]:
    """Return the arguments of ``line units`` for the model and the first layer of a form."""
    layer = values.get("layer", "").partition(",")[0].strip()
    settings = _options_of(values, UNITS_LISTED_WITH)
    return ["units", values["model"], layer, *settings, "--store", str(store_of(values, opened))]


def _options_of(values: Mapping[str, str], names: Iterable[str]) -> list[str]:
    return [part for name in names if values.get(name) for part in option(name, values[name])]
