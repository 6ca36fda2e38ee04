"""Install asset packs: download, verify, unpack, then publish by a rename.

A pack's archives gather in ``.staging/<pack>`` below the assets root and stay there until the pack is complete, so
that an interrupted installation resumes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from line_neurons.agent.errors import LineError, MissingPartError
from line_neurons.tools.assets import manifest
from line_neurons.tools.assets.apt import MIRROR
from line_neurons.tools.assets.location import assets_root, state
from line_neurons.tools.assets.manifest import FileEntry, Manifest
from line_neurons.tools.assets.packs import Artifact, Pack
from line_neurons.tools.assets.sources import fetch, from_folder
from line_neurons.tools.assets.unpack import unpack
from line_neurons.tools.store.locks import file_lock

_SPARE_BYTES = 32 << 20


@dataclass(frozen=True)
class InstallStep:
    """The progress of an installation.

    Args:
        action: ``wait`` (``item`` says for whom), ``download``, ``unpack``, ``verify`` or ``done``.
        item: the archive, the file, or the holder of the lock.
        done: bytes so far.
        total: bytes in all.
    """

    pack: str
    action: Literal["wait", "download", "unpack", "verify", "done"]
    item: str
    done: int
    total: int


Report = Callable[[InstallStep], None]
"""Told of every step; raising from it cancels the installation, which can be taken up again."""


def silent(step: InstallStep) -> None:
    """Report nothing."""


def install(
    pack: Pack,
    *,
    root: Path | None = None,
    source_dir: Path | None = None,
    report: Report = silent,
    wait: bool = True,
    force: bool = False,
) -> Path:
    """Install a pack unless it is there already, and return its folder.

    Args:
        root: the assets root; by default the configured one.
        source_dir: take the archives from this folder instead of the registries; it is only read.
        wait: wait for another installer of the pack, or fail at once.

    Raises:
        MissingPartError: a client, the network or an archive is missing.
        LineError: the disk is too full, the folder is not writable, or a download does not match its pin.
    """
    root = root or assets_root()
    try:
        return _install_locked(pack, root, source_dir, report, wait=wait, force=force)
    except OSError as error:
        raise LineError(
            f"{pack.name} could not be installed in {root}: {error}",
            "set LINE_ASSETS to a folder that can be written to",
        ) from error


def install_all(
    packs: Sequence[Pack],
    *,
    root: Path | None = None,
    source_dir: Path | None = None,
    report: Report = silent,
    wait: bool = True,
    force: bool = False,
) -> list[Path]:
    """Install several packs, after checking that the disk has room for them all."""
    root = root or assets_root()
    missing = [pack for pack in packs if force or state(pack, root) != "installed"]
    archives = 0 if source_dir else max((_bytes_to_come(pack, root) for pack in missing), default=0)
    _require_space(root, sum(pack.installed_bytes for pack in missing) + archives)
    return [
        install(pack, root=root, source_dir=source_dir, report=report, wait=wait, force=force) for pack in packs
    ]


def _install_locked(
    pack: Pack, root: Path, source_dir: Path | None, report: Report, *, wait: bool, force: bool
) -> Path:
    def waiting(holder: str) -> None:
        report(InstallStep(pack.name, "wait", holder, 0, pack.download_bytes))

    def taken(holder: str) -> LineError:
        return LineError(f"the asset pack {pack.name!r} is being installed by {holder}", "wait until it is done")

    path = root / ".locks" / f"{pack.name}.lock"
    with file_lock(path, refusal=taken, on_wait=waiting if wait else None):
        folder = root / pack.name
        if not force and state(pack, root) == "installed":
            report(InstallStep(pack.name, "done", "", pack.installed_bytes, pack.installed_bytes))
            return folder
        staging = root / ".staging" / pack.name
        for leftover in ("work", "tree", "old"):
            shutil.rmtree(staging / leftover, ignore_errors=True)
        to_come = 0 if source_dir else _bytes_to_come(pack, root)
        _require_space(root, pack.installed_bytes + to_come)
        staging.mkdir(parents=True, exist_ok=True)
        archives = [
            from_folder(artifact, source_dir) if source_dir else _staged(pack, artifact, root, report)
            for artifact in pack.artifacts
        ]
        tree = staging / "tree"
        tree.mkdir()

        def written(size: int) -> None:
            report(InstallStep(pack.name, "unpack", "", size, pack.installed_bytes))

        sources = tuple(map(_source, pack.artifacts, archives))
        try:
            files = unpack(archives, pack.rules, tree, written)
            _check_pins(pack, files, sources)
        except LineError:
            # Another version is of no use to the next try; one in the user's own folder is left there.
            for artifact, archive in zip(pack.artifacts, archives, strict=True):
                if not source_dir and archive.name != artifact.filename:
                    archive.unlink()
            raise
        _write_durably(
            tree / manifest.NAME, manifest.dump(Manifest(pack.name, pack.tree_sha256, sources, tuple(files)))
        )
        _publish(tree, folder, staging / "old")
        shutil.rmtree(staging, ignore_errors=True)
        _tidy(root / ".staging")
        report(InstallStep(pack.name, "done", "", pack.installed_bytes, pack.installed_bytes))
        return folder


def _staged(pack: Pack, artifact: Artifact, root: Path, report: Report) -> Path:
    """Return the archive in the staging folder, downloaded unless the right one is there."""
    staging = root / ".staging" / pack.name
    archive = staging / artifact.filename

    def done(size: int) -> None:
        report(InstallStep(pack.name, "download", artifact.filename, min(size, artifact.size), artifact.size))

    if not (archive.is_file() and manifest.hash_file(archive) == artifact.sha256):
        done(0)
        work = staging / "work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        try:
            fetched = fetch(artifact, work, root, done)
            archive = fetched.replace(staging / fetched.name)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    done(artifact.size)
    return archive


def _bytes_to_come(pack: Pack, root: Path) -> int:
    staging = root / ".staging" / pack.name
    return sum(artifact.size for artifact in pack.artifacts if not (staging / artifact.filename).is_file())


def _require_space(root: Path, needed: int) -> None:
    existing = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if needed and free < needed + _SPARE_BYTES:
        raise LineError(
            f"{root} needs {(needed + _SPARE_BYTES) / 1e6:,.0f} MB of disk, {free / 1e6:,.0f} MB are free",
            "make room, or set LINE_ASSETS to a folder on a larger disk",
        )


def _source(artifact: Artifact, archive: Path) -> dict[str, object]:
    """Describe the archive that was used: the pinned one, or another version of a Debian package."""
    sha256 = manifest.hash_file(archive)
    if sha256 != artifact.sha256:
        version = archive.name.removesuffix(".deb").split("_")[1].replace("%3a", ":")
        size = archive.stat().st_size
        artifact = replace(artifact, version=version, filename=archive.name, sha256=sha256, size=size)
    return asdict(artifact)


def fits(pack: Pack, files: Sequence[FileEntry]) -> bool:
    """Tell whether files are those of a pack; licences may be those of another version of its packages."""
    return manifest.tree_digest(files) == pack.tree_sha256 or (
        pack.content_sha256 != "" and manifest.content_digest(files) == pack.content_sha256
    )


def _check_pins(pack: Pack, files: Sequence[FileEntry], sources: Sequence[Mapping[str, object]]) -> None:
    found = {file.path: file.sha256 for file in files}
    for path, sha256 in pack.pinned.items():
        if found.get(path) != sha256:
            raise LineError(f"{pack.name}: {path} does not have its pinned SHA-256 {sha256[:16]}...")
    if fits(pack, files):
        return
    others = [
        f"{source['package']} {source['version']}"
        for source, artifact in zip(sources, pack.artifacts, strict=True)
        if source["sha256"] != artifact.sha256
    ]
    if others:
        raise MissingPartError(
            f"{pack.name}: {' and '.join(others)}, which this system offers, has other files than the pinned ones",
            f"set {MIRROR} to the address of a Debian mirror, or get the pinned versions elsewhere and name their "
            "folder with --from",
        )
    raise LineError(f"{pack.name}: the unpacked files are not the pinned ones ({manifest.tree_digest(files)})")


def _publish(tree: Path, folder: Path, old: Path) -> None:
    for parent, _, _ in os.walk(tree):
        _sync_folder(Path(parent))
    if folder.exists():
        folder.rename(old)
    tree.rename(folder)
    _sync_folder(folder.parent)


def _write_durably(path: Path, contents: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(contents)
        stream.flush()
        os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _tidy(staging: Path) -> None:
    """Remove the shared staging folder unless another installer works in it."""
    with suppress(OSError):
        if {path.name for path in staging.iterdir()} <= {"apt", "apt-release"}:
            shutil.rmtree(staging)
            return
        staging.rmdir()
