"""Verify installed packs by reading all their files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from line_neurons.tools.assets import manifest
from line_neurons.tools.assets.install import InstallStep, Report, fits, silent
from line_neurons.tools.assets.location import assets_root
from line_neurons.tools.assets.packs import Pack


@dataclass(frozen=True)
class FileProblem:
    """A problem of an installed pack.

    Args:
        path: the file, below the pack's folder.
        kind: ``missing``, ``changed``, ``unexpected`` (not in the manifest) or ``outdated`` (the manifest is that
            of another version of the pack, or was edited).
    """

    path: str
    kind: Literal["missing", "changed", "unexpected", "outdated"]


def verify(pack: Pack, *, root: Path | None = None, report: Report = silent) -> list[FileProblem]:
    """Check every file of a pack against its manifest and the pinned hashes."""
    folder = (root or assets_root()) / pack.name
    try:
        written = manifest.read(folder)
    except FileNotFoundError:
        return [FileProblem(manifest.NAME, "missing")]
    except (OSError, ValueError):
        return [FileProblem(manifest.NAME, "changed")]
    problems: list[FileProblem] = []
    if written.tree_sha256 != pack.tree_sha256 or not fits(pack, written.files):
        problems.append(FileProblem(manifest.NAME, "outdated"))
    expected = {file.path: file.sha256 for file in written.files} | dict(pack.pinned)
    present = {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }
    present.pop(manifest.NAME, None)
    done = 0
    for name, sha256 in expected.items():
        path = present.pop(name, None)
        if path is None:
            problems.append(FileProblem(name, "missing"))
            continue
        if path.is_symlink() or manifest.hash_file(path) != sha256:
            problems.append(FileProblem(name, "changed"))
        done += path.lstat().st_size
        report(InstallStep(pack.name, "verify", name, done, pack.installed_bytes))
    problems += [FileProblem(name, "unexpected") for name in present]
    return sorted(problems, key=lambda problem: problem.path)
