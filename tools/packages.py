"""Installed packages: their versions, those that cannot be loaded, and how to install more."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit

from line_neurons.agent.errors import MissingPartError, reason_of
from line_neurons.agent.text import shell_line

# Words of an error of the loader of shared libraries, and what helps.
_CAUSES = (
    (("Cannot allocate memory", "failed to map segment"), "let it have more memory: a limit is set (ulimit -v)"),
    (("cannot open shared object file", "undefined symbol"), "its libraries are incomplete: install it again"),
)

_RECORDED = (
    "line-neurons", "langgraph", "torch", "torchvision", "transformers", "timm", "diffusers", "langchain-ollama",
    "xllamacpp", "numpy", "pillow",
)  # fmt: skip


@cache
def installed_versions() -> dict[str, str]:
    """Return the versions of the packages that decide a run's result; the one dictionary is for all callers."""
    versions = {}
    for package in _RECORDED:
        with suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions


@cache
def source_hash() -> str:
    """Return the SHA-256 of the source of the packages that decide results."""
    digest, root = hashlib.sha256(), Path(__file__).parents[1]
    for name in ("agent", "tools", "graphs"):
        folder = root / name
        for file in sorted(folder.rglob("*.py")):
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            digest.update(f"line_neurons.{name}/{file.relative_to(folder).as_posix()} {content}\n".encode())
    return digest.hexdigest()


def missing_package(error: BaseException, name: str, remedy: str, *, needed: str = "") -> MissingPartError:
    """Return the error for a package that could not be imported, with the true cause.

    Args:
        name: the package as the user knows it; of several, with `` and `` between.
        remedy: how it is installed.
        needed: what needs it, with the verb: ``frames need``.
    """
    packages = name.split(" and ")
    verb = "are" if len(packages) > 1 else "is"
    said = f"{needed} {name}, which" if needed else name
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in packages:
        return MissingPartError(f"{said} {verb} not installed", remedy)
    if isinstance(error, MemoryError):
        return MissingPartError(f"{said} cannot be loaded: memory ran out", _CAUSES[0][1])
    told = reason_of(error)
    known = next((helps for signs, helps in _CAUSES if any(sign in told for sign in signs)), "")
    return MissingPartError(f"{said} cannot be loaded: {told}", known or f"install what it needs: {remedy}")


@contextmanager
def required_package(name: str, extra: str = "", *, needed: str = "", remedy: str = "{}") -> Iterator[None]:
    """Raise what ``missing_package`` returns where the body cannot import a package.

    Args:
        extra: see ``pip_install``.
        needed: see ``missing_package``.
        remedy: how it is installed; ``{}`` stands for the command that adds the extra.
    """
    try:
        yield
    except ImportError as error:
        raise missing_package(error, name, remedy.format(pip_install(extra)), needed=needed) from error


def pip_install(extra: str, *options: str) -> str:
    """Return the command that adds an extra of this package, from its own source.

    The package is on no index: it comes from a clone or a repository, which pip records (PEP 610).

    Args:
        extra: extras of ``pyproject.toml``, separated by commas; empty for the package itself.
        options: more options of ``pip install``.
    """
    # A clone in the current folder may hold metadata of its own, without the record.
    texts = (found.read_text("direct_url.json") for found in metadata.distributions(name="line-neurons"))
    try:
        recorded = json.loads(next(filter(None, texts), "{}"))
    except ValueError:
        recorded = {}
    url, vcs = urlsplit(recorded.get("url", "")), recorded.get("vcs_info")
    extra = f"[{extra}]" if extra else ""
    if vcs:
        wanted = f"line-neurons{extra} @ {vcs['vcs']}+{recorded['url']}"
    elif url.scheme == "file" and "dir_info" in recorded:
        wanted = f"{unquote(url.path)}{extra}"
        options = (*options, *(["-e"] if recorded["dir_info"].get("editable") else []))
    else:
        wanted = f".{extra}"
    return shell_line(["pip", "install", *options, wanted])
