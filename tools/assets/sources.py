"""Download one archive with its registry's own client, or find it in a folder.

Package code never runs: wheels and Debian packages are only downloaded, npm scripts are off, and for a source
distribution pip gets a build backend that copies the metadata instead of building it.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from line_neurons.agent.errors import LineError, MissingPartError
from line_neurons.tools.assets import apt, manifest
from line_neurons.tools.assets.client import BytesDone, ClientError, run
from line_neurons.tools.assets.packs import Artifact, Source

# pip asks a source distribution's backend for metadata after every download; this answers without running it.
_METADATA_BACKEND = '''\
"""Stands in for setuptools while pip downloads a source distribution: no code of the package runs."""
import pathlib


class _Backend:
    def get_requires_for_build_wheel(self, config_settings=None):
        return []

    def prepare_metadata_for_build_wheel(self, metadata_directory, config_settings=None):
        folder = pathlib.Path(metadata_directory, "unbuilt.dist-info")
        folder.mkdir()
        (folder / "METADATA").write_bytes(pathlib.Path("PKG-INFO").read_bytes())
        return folder.name


__legacy__ = _Backend()
'''


def fetch(artifact: Artifact, folder: Path, root: Path, done: BytesDone) -> Path:
    """Download an archive into an empty folder, check its SHA-256 and return its path.

    A Debian package may come in another version, with its own file name: then the contents must be checked.

    Args:
        folder: an empty folder to work in.
        root: the assets root, where downloads share apt's package lists.
        done: called with the bytes so far.

    Raises:
        MissingPartError: the client is missing or could not download it.
        LineError: the download does not match its pin; it has been removed.
    """
    target = folder / "archive"
    target.mkdir()
    try:
        _CLIENTS[artifact.source](artifact, target, root, done)
    except ClientError as error:
        # pip checks the pinned hash itself before it looks into an archive.
        if "DO NOT MATCH THE HASHES" in error.log:
            raise _wrong_hash(artifact, "the registry") from error
        raise MissingPartError(
            f"{artifact.label} could not be downloaded: {error}",
            f"check the network, or get {artifact.filename} elsewhere and name its folder with --from",
        ) from error
    archives = [path for path in target.iterdir() if path.is_file()]
    if len(archives) != 1:
        raise LineError(f"downloading {artifact.label} left {len(archives)} files instead of one")
    other_version = artifact.source == "debian" and archives[0].name != artifact.filename
    if not other_version and manifest.hash_file(archives[0]) != artifact.sha256:
        archives[0].unlink()
        raise _wrong_hash(artifact, "the registry")
    return archives[0]


def from_folder(artifact: Artifact, folder: Path) -> Path:
    """Find an already downloaded archive, by its name or by its size, and check its SHA-256.

    Another version of a Debian package is returned if there is only one: then the contents must be checked.

    Raises:
        MissingPartError: there is none.
        LineError: the one of that name does not match its pin; it is not touched.
    """
    if not folder.is_dir():
        raise MissingPartError(f"{folder} is not a folder", "name the folder that holds the archives")
    named = folder / artifact.filename
    if named.is_file():
        if manifest.hash_file(named) != artifact.sha256:
            raise _wrong_hash(artifact, str(folder))
        return named
    # Browsers and mirrors rename archives (a Debian epoch is lost), so the contents decide.
    for path in sorted(folder.iterdir()):
        same_size = path.is_file() and path.stat().st_size == artifact.size
        if same_size and path.suffix == named.suffix and manifest.hash_file(path) == artifact.sha256:
            return path
    others = list(folder.glob(f"{artifact.package}_*.deb")) if artifact.source == "debian" else []
    if len(others) == 1:
        return others[0]
    raise MissingPartError(f"{folder} has no {artifact.filename}", f"download {artifact.label} into it")


def _wrong_hash(artifact: Artifact, place: str) -> LineError:
    return LineError(
        f"{artifact.filename} from {place} does not have the pinned SHA-256 {artifact.sha256[:16]}...; "
        "nothing was installed from it",
        "try again; if it stays so, the package was changed: do not use it",
    )


def _pip(artifact: Artifact, target: Path, root: Path, done: BytesDone) -> None:
    if importlib.util.find_spec("pip") is None:
        raise MissingPartError("pip is not installed in this environment", "python -m ensurepip")
    work = target.parent
    temporary = work / "tmp"
    temporary.mkdir()
    requirements = work / "requirements.txt"
    requirements.write_text(f"{artifact.package}=={artifact.version} --hash=sha256:{artifact.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes"]
    command += ["--requirement", str(requirements), "--dest", str(target), "--ignore-requires-python"]
    command += ["--no-cache-dir", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    environment = {"TMPDIR": str(temporary)}
    if artifact.filename.endswith(".whl"):
        command += ["--only-binary", ":all:"]
    else:
        command += ["--no-binary", ":all:", "--no-build-isolation", "--use-pep517"]
        backend = work / "backend" / "setuptools"
        backend.mkdir(parents=True)
        (backend / "__init__.py").touch()
        (backend / "build_meta.py").write_text(_METADATA_BACKEND)
        environment["PYTHONPATH"] = str(backend.parent)
    run(command, folder=work, done=done, environment=environment)


def _npm(artifact: Artifact, target: Path, root: Path, done: BytesDone) -> None:
    program = shutil.which("npm")
    if program is None:
        raise MissingPartError(
            f"npm, which gets {artifact.label}, is not installed",
            f"install Node.js, or get {artifact.filename} elsewhere and name its folder with --from",
        )
    command = [program, "pack", f"{artifact.package}@{artifact.version}", "--ignore-scripts"]
    command += ["--pack-destination", str(target)]
    run(command, folder=target, done=done, environment={"npm_config_cache": str(target.parent / "npm")})


_CLIENTS: dict[Source, Callable[[Artifact, Path, Path, BytesDone], None]] = {
    "pypi": _pip,
    "npm": _npm,
    "debian": apt.download,
}
