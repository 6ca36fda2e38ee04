"""Download a Debian package with apt-get as any user, without changing the system.

The system's package lists are used if they know the package. Where they are empty or stale, separate lists are
downloaded into a private folder, with the sources that the system is configured for; then for Debian 12, which the
mirror of another release of Debian serves too. Last comes the version that the system offers, such as Ubuntu's, of
which the contents decide.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from line_neurons.agent.errors import LineError, MissingPartError
from line_neurons.tools.assets.client import BytesDone, ClientError, run
from line_neurons.tools.assets.packs import Artifact
from line_neurons.tools.store.locks import file_lock

RELEASE = "bookworm"
"""The release of Debian that has the pinned versions."""

MIRROR = "LINE_DEBIAN_MIRROR"
"""Environment variable with the address of a Debian mirror, for systems that name none."""

# The hooks would run the system's clean-up commands; "#clear" needs a file, "-o" cannot empty a list.
_CONFIGURATION = """\
Dir::State::Lists "{folder}/lists";
Dir::Cache "{folder}/cache";
Acquire::Languages "none";
Acquire::Retries "3";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
"""
# The pinned SHA-256 of the package vouches for it, and not every system has Debian's keys.
_RELEASE_CONFIGURATION = """\
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Acquire::Check-Valid-Until "false";
"""


def download(artifact: Artifact, target: Path, root: Path, done: BytesDone) -> None:
    """Download one package into a folder: the pinned version if any source has it, else the system's own.

    Args:
        target: an empty folder.
        root: the assets root; separate lists go below its staging folder.
        done: called with the bytes so far.

    Raises:
        MissingPartError: there is no apt-get, or no source offers the package.
        ClientError: it failed in another way, as without a network.
    """
    program = shutil.which("apt-get")
    elsewhere = f"get {artifact.filename} elsewhere and name its folder with --from"
    if program is None:
        raise MissingPartError(f"apt-get, which gets {artifact.label}, is not on this system", elsewhere)
    pinned, anyhow = f"{artifact.package}={artifact.version}", artifact.package

    def get(wanted: str, *options: str) -> ClientError | None:
        try:
            run([program, "-q", *options, *_unsandboxed(), "download", wanted], folder=target, done=done)
        except ClientError as error:
            _empty(target)
            return error
        return None

    if get(pinned) is None:
        return
    staging = root / ".staging"
    with file_lock(root / ".locks" / "apt.lock", refusal=LineError, on_wait=lambda holder: done(0)):
        system = ["-c", str(_configure(staging / "apt"))]
        if get(pinned, *system) is None:
            return
        # An update that fetched nothing is no error to apt-get, so its words are kept to tell why.
        updated = _update(program, system, target, done)
        if get(pinned, *system) is None:
            return
        for mirror in _mirrors(program, target):
            options = ["-c", str(_configure(staging / "apt-release", mirror))]
            if get(pinned, *options) is None:
                return
            _update(program, options, target, done)
            if get(pinned, *options) is None:
                return
        error = get(anyhow, *system)
        if error is None:
            return
        if "Failed to fetch" in updated:
            raise ClientError(updated) from error
        if "was not found" in error.log or "Unable to locate package" in error.log:
            raise MissingPartError(
                f"this system's package sources do not offer {artifact.package} {artifact.version}",
                f"set {MIRROR} to the address of a Debian mirror, or {elsewhere}",
            ) from error
        raise error


def _mirrors(program: str, folder: Path) -> list[str]:
    """Return the addresses that may serve Debian: the user's, else all that the system names."""
    if named := os.environ.get(MIRROR):
        return [named]
    try:
        listed = run(
            [program, "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"],
            folder=folder,
            done=lambda size: None,
        )
    except ClientError:
        return []
    return list(dict.fromkeys(line for line in listed.split() if "://" in line or line.startswith("file:")))


def _update(program: str, options: Sequence[str], folder: Path, done: BytesDone) -> str:
    command = [program, "-q", *options, *_unsandboxed(), "update"]
    try:
        return run(command, folder=folder, done=lambda size: done(0))
    except ClientError as error:
        return error.log


def _configure(private: Path, mirror: str = "") -> Path:
    """Write a configuration with lists of its own: the system's sources, or the pinned release on a mirror."""
    for folder in ("lists/partial", "cache/archives/partial"):
        (private / folder).mkdir(parents=True, exist_ok=True)
    configuration, text = private / "apt.conf", _CONFIGURATION
    if mirror:
        (private / "sources.list").write_text(f"deb [trusted=yes] {mirror} {RELEASE} main\n")
        text += _RELEASE_CONFIGURATION
    configuration.write_text(text.format(folder=private.resolve()))
    return configuration


def _unsandboxed() -> list[str]:
    """Return options for root; apt's own user may not read folders below root's home."""
    return ["-o", "APT::Sandbox::User=root"] if os.geteuid() == 0 else []


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
