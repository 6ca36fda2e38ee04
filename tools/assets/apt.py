"""Download a Debian package with apt-get as any user, without changing the system.

The system's package lists are used if they know the package. Where they are empty or stale, separate lists are
downloaded into a private folder, with the sources that the system is configured for.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from line_neurons.agent.errors import LineError, MissingPartError
from line_neurons.tools.assets.client import BytesDone, ClientError, run
from line_neurons.tools.assets.packs import Artifact
from line_neurons.tools.store.locks import file_lock

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


def download(artifact: Artifact, target: Path, root: Path, done: BytesDone) -> None:
    """Download one package into a folder.

    Args:
        artifact: the package and its exact version.
        target: an empty folder.
        root: the assets root; separate lists go below its staging folder.
        done: called with the bytes so far.

    Raises:
        MissingPartError: there is no apt-get, or it does not offer this version.
        ClientError: it failed in another way, as without a network.
    """
    program = shutil.which("apt-get")
    elsewhere = f"get {artifact.filename} elsewhere and name its folder with --from"
    if program is None:
        raise MissingPartError(f"apt-get, which gets {artifact.label}, is not on this system", elsewhere)
    wanted = ["download", f"{artifact.package}={artifact.version}"]
    try:
        run([program, "-q", *_unsandboxed(), *wanted], folder=target, done=done)
        return
    except ClientError:
        _empty(target)
    private = root / ".staging" / "apt"
    with file_lock(root / ".locks" / "apt.lock", refusal=LineError, on_wait=lambda holder: done(0)):
        options = ["-q", "-c", str(_configure(private)), *_unsandboxed()]
        try:
            run([program, *options, *wanted], folder=target, done=done)
            return
        except ClientError:
            _empty(target)
        # An update that fetched nothing is no error to apt-get, so its words are kept to tell why.
        updated = run([program, *options, "update"], folder=target, done=lambda size: done(0))
        try:
            run([program, *options, *wanted], folder=target, done=done)
        except ClientError as error:
            if "Failed to fetch" in updated:
                raise ClientError(updated) from error
            if "was not found" in error.log or "Unable to locate package" in error.log:
                raise MissingPartError(
                    f"this system's package sources do not offer {artifact.package} {artifact.version}",
                    elsewhere,
                ) from error
            raise


def _configure(private: Path) -> Path:
    for folder in ("lists/partial", "cache/archives/partial"):
        (private / folder).mkdir(parents=True, exist_ok=True)
    configuration = private / "apt.conf"
    configuration.write_text(_CONFIGURATION.format(folder=private.resolve()))
    return configuration


def _unsandboxed() -> list[str]:
    """Return options for root; apt's own user may not read folders below root's home."""
    return ["-o", "APT::Sandbox::User=root"] if os.geteuid() == 0 else []


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
