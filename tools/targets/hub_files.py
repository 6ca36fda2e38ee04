"""Files of the Hugging Face hub: from its cache on this machine, or fetched where that is allowed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from line_neurons.agent.errors import MissingPartError, reason_of


def cached_snapshot(
    repository: str, patterns: Sequence[str], *, name: str, revision: str | None = None, download: bool = False
) -> Path:
    """The folder of a hub repository on this machine.

    Args:
        repository: id of the repository, ``owner/name``.
        patterns: the files that are wanted.
        name: the model, as the user named it.
        revision: branch, tag or commit; the main branch if None.
        download: fetch what is not here.

    Raises:
        MissingPartError: the repository is not here, and is not to be fetched or could not be.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            repository, revision=revision, allow_patterns=list(patterns), local_files_only=not download
        )
    except LocalEntryNotFoundError as error:
        if download:
            raise MissingPartError(
                f"{repository}, which {name} needs, could not be downloaded: the hub cannot be reached",
                "check the network, or give a folder that holds the files",
            ) from error
        raise MissingPartError(
            f"the files of {repository}, which {name} needs, are not in the hub's cache on this machine",
            f"allow the download with --download, or get them with: hf download {repository}",
        ) from error
    except (OSError, ValueError) as error:
        raise MissingPartError(
            f"{repository}, which {name} needs, could not be had: {reason_of(error)[:200]}",
            "check the name of the repository",
        ) from error
    return Path(folder)
