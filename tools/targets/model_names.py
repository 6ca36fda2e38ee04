"""Check names of vision models before anything is loaded: neither torch nor code of the user runs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from line_neurons.agent.errors import UsageError
from line_neurons.agent.near_names import MISTYPED, near_names, near_paths
from line_neurons.tools.target_specs import IN_MEMORY, SOURCES, known_prefixes

_REGISTERED = re.compile(r"^@register_model\b[^\n]*\n(?:[@ )][^\n]*\n)*def (\w+)", re.MULTILINE)
_LIBRARIES = {"torchvision": ("*.py", "@"), "timm": ("**/*.py", ".")}
"""Files of a library's folder ``models`` that define models, and what stands before the version in a name."""
_BACKBONES = {"torchvision": ("detection/*.py", "segmentation/*.py")}
"""Files that define models of which the backbone alone is opened, as NAME.backbone."""
_MOST_NAMES = 12


def check_model(spec: str) -> None:
    """Check the name of a vision model, as far as that is possible without its library.

    Raises:
        UsageError: it is no source, no model of torchvision or timm, or no function of a Python file.
    """
    prefix, colon, name = spec.partition(":")
    if prefix in _LIBRARIES and name:
        names, mark = library_models(prefix), _LIBRARIES[prefix][1]
        bare = name.partition(mark)[0]
        # A detector's own name is refused later, with what to name instead.
        if names and not {bare, f"{bare}.backbone"} & names and (near := near_names(bare, names)):
            what = "classification model" if prefix == "torchvision" else "model"
            raise UsageError(f"{prefix} has no {what} {name!r:.80}; {near}", f"name one as in {prefix}:resnet18")
    elif prefix in SOURCES and name:
        return
    elif file := _python_file(spec):
        _check_function(spec, *file)
    elif not colon or not name or not prefix:
        raise UsageError(f"{spec!r:.80} names no model", _remedy(spec))
    elif not Path(prefix).exists() and not find_spec(prefix.partition(".")[0]):
        near = near_names(prefix, [source for source in SOURCES if source != IN_MEMORY], least=MISTYPED)
        if near:
            raise UsageError(
                f"there is no source of models {prefix!r:.60}; {near}", f"a model starts with {known_prefixes()}"
            )


@cache
def library_models(library: str) -> frozenset[str]:
    """Return the names of a library's models, read from its files; empty if it is not installed."""
    found = find_spec(library)
    if found is None or found.origin is None:
        return frozenset()
    folder = Path(found.origin).parent / "models"
    patterns = {_LIBRARIES[library][0]: "", **dict.fromkeys(_BACKBONES.get(library, ()), ".backbone")}
    return frozenset(
        f"{name}{suffix}"
        for pattern, suffix in patterns.items()
        for file in folder.glob(pattern)
        for name in _REGISTERED.findall(file.read_text("utf-8", "replace"))
    )


def functions_of(file: Path) -> list[str]:
    """Return the public functions of a Python file that need no argument, without running it.

    Raises:
        UsageError: it cannot be read as Python.
    """
    return [
        part.name
        for part in _parsed(file).body
        if isinstance(part, ast.FunctionDef)
        and not part.name.startswith("_")
        and len(part.args.posonlyargs + part.args.args) <= len(part.args.defaults)
        and None not in part.args.kw_defaults
    ]


def _parsed(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_bytes())
    except (SyntaxError, ValueError) as error:
        raise UsageError(f"{file!s:.200} is no Python code: {error}", "correct it") from None
    except OSError as error:
        raise UsageError(f"{file!s:.200} cannot be read: {error.strerror}", "name another file") from None


def _python_file(spec: str) -> tuple[Path, str] | None:
    """Return the file and function of a spec that names a Python file, which may lack either."""
    place, _, function = spec.rpartition(":") if not spec.endswith(".py") else (spec, "", "")
    if not place:
        place, function = spec, ""
    if place.endswith(".py"):
        return Path(place).expanduser(), function
    file = Path(f"{place}.py")
    return (file, function) if place.isidentifier() and file.is_file() else None


def _check_function(spec: str, file: Path, function: str) -> None:
    if not file.is_file():
        folder = file.parent if file.parent.is_dir() else Path()
        near = near_paths(str(file), (str(path) for path in folder.glob("*.py")))
        missing = f"there is no file {file!s:.200}"
        raise UsageError(f"{missing}; {near}" if near else missing, "name it as FILE.py:FUNCTION")
    defined = set(_definitions(_parsed(file)))
    if function in defined or (function and "*" in defined):
        return
    known = functions_of(file)
    listed = ", ".join(f"{file}:{name}" for name in known[:_MOST_NAMES])
    remedy = f"choose from {listed}" if known else "write a function that returns the module, and name it"
    near = near_names(function, known) if function else ""
    problem = f"has no function {function!r:.80}{near and f'; {near}'}" if function else "is a file of functions"
    raise UsageError(f"{file!s:.200} {problem}", remedy)


def _definitions(code: ast.Module) -> Iterator[str]:
    """Yield the names that a module's top level may define; ``*`` where that is not certain."""
    for part in ast.walk(code):
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield part.name
        elif isinstance(part, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in part.names)
        elif isinstance(part, ast.Name):
            yield part.id
            if part.id in {"globals", "setattr", "exec", "__getattr__"}:
                yield "*"


def _remedy(spec: str) -> str:
    name = spec.strip(":")
    bare = name.partition(".")[0].partition("@")[0]
    models = [f"{library}:{model}" for library in _LIBRARIES for model in library_models(library)]
    same = [model for model in models if bare and model.partition(":")[2] == bare]
    near = f"near: {', '.join(same)}" if same else near_names(f"torchvision:{name}", models, least=MISTYPED)
    files = [f"{file}:{name}" for file in sorted(Path().glob("*.py")) if name in _functions_or_none(file)]
    found = "; ".join(filter(None, [near, f"or {', '.join(files)}" if files else ""]))
    return f"{found + '; ' if found else ''}a model starts with {known_prefixes()}"


def _functions_or_none(file: Path) -> list[str]:
    try:
        return functions_of(file)
    except UsageError:
        return []
