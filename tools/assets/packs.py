"""The table of asset packs, read from ``packs.toml``."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Literal

from line_neurons.agent.errors import UsageError
from line_neurons.agent.near_names import choices

Source = Literal["pypi", "npm", "debian"]


@dataclass(frozen=True)
class Artifact:
    """One archive of a registry.

    Args:
        source: the registry, which decides the client.
        package: the package's name there.
        filename: how the registry's client names the archive.
        size: of the archive, in bytes.
    """

    source: Source
    package: str
    version: str
    filename: str
    sha256: str
    size: int

    @property
    def label(self) -> str:
        """Registry, package and version in one phrase."""
        return f"{self.source} {self.package} {self.version}"


@dataclass(frozen=True)
class FileRule:
    """What to take from an archive.

    Args:
        member: regular expression that a member's whole path must match.
        target: path inside the pack's folder; may refer to the expression's groups.
        join: members with the same target are joined to one file, in the archives' order.
        inside: the member is a Qt resource file or a zip file, and these rules say what to take out of it.
    """

    member: str
    target: str = ""
    join: bool = False
    inside: tuple[FileRule, ...] = ()


@dataclass(frozen=True)
class Pack:
    """A set of files that is installed as a whole.

    Args:
        name: its folder below the assets root.
        title: what it is, in one line.
        licence: in short; NOTICE has the long form.
        tree_sha256: ``manifest.tree_digest`` of its files; it is the pack's version.
        pinned: path to SHA-256 of the main files, for which others publish hashes too.
        content_sha256: the same without the licences, which differ between versions of a Debian package; empty if
            only one version is known.
    """

    name: str
    title: str
    licence: str
    artifacts: tuple[Artifact, ...]
    rules: tuple[FileRule, ...]
    installed_bytes: int
    tree_sha256: str
    pinned: Mapping[str, str] = field(default_factory=dict)
    content_sha256: str = ""

    @property
    def download_bytes(self) -> int:
        """Size of its archives."""
        return sum(artifact.size for artifact in self.artifacts)


# How the archives of each registry are called, if a row of the table does not say.
_FILENAMES: Mapping[Source, Callable[[str, str], str]] = {
    "pypi": lambda package, version: f"{package.replace('-', '_')}-{version}-py3-none-any.whl",
    "debian": lambda package, version: f"{package}_{version.replace(':', '%3a')}_all.deb",
    "npm": lambda package, version: f"{package}-{version}.tgz",
}


def _artifact(row: Mapping[str, Any]) -> Artifact:
    return Artifact(**{"filename": _FILENAMES[row["source"]](row["package"], row["version"]), **row})


def _rule(row: Mapping[str, Any]) -> FileRule:
    return FileRule(**{**row, "inside": tuple(map(_rule, row.get("inside", ())))})


def _pack(row: Mapping[str, Any]) -> Pack:
    rest = {key: value for key, value in row.items() if key not in {"archives", "rules"}}
    return Pack(artifacts=tuple(map(_artifact, row["archives"])), rules=tuple(map(_rule, row["rules"])), **rest)


_TABLE = tomllib.loads(files("line_neurons.tools.assets").joinpath("packs.toml").read_text("utf-8"))

PACKS: tuple[Pack, ...] = tuple(map(_pack, _TABLE["packs"]))
GROUPS: Mapping[str, tuple[str, ...]] = {name: tuple(names) for name, names in _TABLE["groups"].items()}


def find(name: str) -> Pack:
    """Return the pack of that name.

    Raises:
        UsageError: there is none.
    """
    for pack in PACKS:
        if pack.name == name:
            return pack
    raise UsageError(
        f"there is no asset pack {name!r}",
        choices(name, [*(pack.name for pack in PACKS), *GROUPS]),
    )


def select(names: Iterable[str]) -> list[Pack]:
    """Return the packs behind names of packs and groups, each once, in the table's order.

    Raises:
        UsageError: a name is neither.
    """
    wanted = {find(name).name for given in names for name in GROUPS.get(given, (given,))}
    return [pack for pack in PACKS if pack.name in wanted]
