"""Re-reads installed packs and says what is not as it was installed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from line_neurons.tools.assets import manifest
from line_neurons.tools.assets.install import Report, Step, silent
from line_neurons.tools.assets.location import assets_root
from line_neurons.tools.assets.packs import Pack


@dataclass(frozen=True)
class Problem:
    """One thing wrong with an installed pack.

    Args:
        path: the file, below the pack's folder.
        kind: ``missing``, ``changed``, ``unexpected`` (not in the manifest) or ``outdated`` (the manifest is
            that of another version of the pack, or was edited).
    """

    path: str
    kind: Literal["missing", "changed", "unexpected", "outdated"]


def verify(pack: Pack, *, root: Path | None = None, report: Report = silent) -> list[Problem]:
    """Hash every file of a pack against its manifest and against the pinned hashes.

    Returns:
        What is wrong, sorted by path; empty if the pack is as it was published.
    """
    folder = (root or assets_root()) / pack.name
    try:
        written = manifest.read(folder)
    except FileNotFoundError:
        return [Problem(manifest.NAME, "missing")]
    except (OSError, ValueError):
        return [Problem(manifest.NAME, "changed")]
    problems: list[Problem] = []
    if not written.tree_sha256 == manifest.tree_digest(written.files) == pack.tree_sha256:
        problems.append(Problem(manifest.NAME, "outdated"))
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
            problems.append(Problem(name, "missing"))
            continue
        if path.is_symlink() or manifest.hash_file(path) != sha256:
            problems.append(Problem(name, "changed"))
        done += path.lstat().st_size
        report(Step(pack.name, "verify", name, done, pack.installed_bytes))
    problems += [Problem(name, "unexpected") for name in present]
    return sorted(problems, key=lambda problem: problem.path)
