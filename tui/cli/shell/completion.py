"""Completion of arguments by the shell: names are listed without loading a model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import typer

from line_neurons.agent.errors import LineError
from line_neurons.agent.presets import PRESETS, SERVERS

_SECONDS = 1
"""Time that a server has to list its models."""
Names = Callable[[typer.Context, str], list[str]]


def completed(names: Callable[[typer.Context, str], Iterable[str]]) -> Names:
    """Return the completion of a parameter, from a function of what was typed before and of its beginning."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        # An error here would be printed into the command line of the user.
        with suppress(LineError, OSError, ValueError):
            return list(dict.fromkeys(name for name in names(ctx, incomplete) if name.startswith(incomplete)))
        return []

    return complete


def _store(ctx: typer.Context) -> Path:
    from line_neurons.agent.settings import load_settings
    from line_neurons.tools.store.runs import default_store

    return load_settings(store=ctx.params.get("store")).store or default_store()


def _runs(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    from line_neurons.tools.store.runs import has_runs, open_store

    store = _store(ctx)
    return open_store(store).names() if has_runs(store) else ()


def _models(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    from line_neurons.tools.target_specs import IN_MEMORY, SOURCES
    from line_neurons.tools.targets.model_names import functions_of, library_models
    from line_neurons.tools.targets.planted.truth import MODELS

    library, colon, _ = incomplete.partition(":")
    if not colon:
        yield from (f"{source}:" for source in SOURCES if source != IN_MEMORY)
        for file in sorted(Path().glob("*.py")):
            with suppress(LineError):
                yield from (f"{file}:{name}" for name in functions_of(file))
    elif library.endswith(".py"):
        yield from (f"{library}:{name}" for name in functions_of(Path(library)))
    elif library in {"torchvision", "timm"}:
        yield from (f"{library}:{name}" for name in sorted(library_models(library)))
    elif library == "planted":
        yield from MODELS


def _layers(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    from line_neurons.tools.store.runs import has_runs, open_store

    model, store = str(ctx.params.get("model")), _store(ctx)
    before, comma, _ = incomplete.rpartition(",")
    known: list[str] = []
    with suppress(OSError, ValueError):
        known = json.loads(_layer_file(model).read_text(encoding="utf-8"))
    if has_runs(store):
        bare = model.partition("@")[0]
        known += [run.layer for run in open_store(store).runs() if run.model.partition("@")[0] == bare]
    return (f"{before}{comma}{layer}" for layer in known)


def _language_models(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    from line_neurons.tools.language_models.registry import FORMS, NAMED_KINDS

    for form in FORMS:
        kind, colon, _ = form.partition(":")
        yield kind + colon if kind in NAMED_KINDS else form
    if incomplete.startswith(("ollama:", "openai:")):
        from line_neurons.agent.settings import load_settings
        from line_neurons.tools.language_models.available import available_models

        settings = load_settings(**{name: ctx.params.get(name) for name in SERVERS})
        for offered in available_models(settings, timeout=_SECONDS):
            yield from offered.models


def _generators(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    from line_neurons.tools.generators.presets import PRESETS as GENERATORS
    from line_neurons.tools.image_bank.bank import BUNDLED

    kind, colon, folder = incomplete.partition(":")
    return (f"bank:{path}" for path in _paths(folder)) if colon and kind == "bank" else (*GENERATORS, *BUNDLED)


def _control_sets(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    return ("bank", "none", "hf:", *_paths(incomplete))


def _paths(incomplete: str) -> Iterable[str]:
    """Yield the folders, and files of activations, that a path may be continued to."""
    folder, slash, _ = incomplete.rpartition("/")
    place = Path(f"{folder}{slash}" or ".").expanduser()
    for path in sorted(place.iterdir()) if place.is_dir() else ():
        if path.is_dir() and not path.name.startswith("."):
            yield f"{folder}{slash}{path.name}/"
        elif path.suffix == ".npz":
            yield f"{folder}{slash}{path.name}"


RUNS = completed(_runs)
MODELS = completed(_models)
LAYERS = completed(_layers)
PRESET_NAMES = completed(lambda ctx, incomplete: PRESETS)
SETTINGS: dict[str, Names] = {
    "llm": completed(_language_models),
    "generator": completed(_generators),
    "control": completed(_control_sets),
}
"""Completions of options, by setting; those with choices are completed by them."""


def choices(names: Sequence[str]) -> Names:
    """Return the completion of an option with a fixed set of values."""
    return completed(lambda ctx, incomplete: names)


def remember_layers(model: str, layers: Sequence[str]) -> None:
    """Keep the layers of a model, so that the shell can complete them."""
    with suppress(OSError):
        file = _layer_file(model)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(list(layers)), encoding="utf-8")


def _layer_file(model: str) -> Path:
    from line_neurons.agent.settings import load_settings
    from line_neurons.tools.assets.location import assets_root
    from line_neurons.tools.target_specs import absolute_spec

    return (
        (load_settings().assets or assets_root()).parent
        / "layers"
        / f"{sha256(absolute_spec(model).encode()).hexdigest()[:16]}.json"
    )
