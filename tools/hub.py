"""The Hugging Face hub: its cache on this machine, and downloads into it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

from line_neurons.agent.errors import LineError, MissingPartError, UsageError, reason_of
from line_neurons.agent.text import clean_text

_CONFIGURATION = ("*.json", "*.txt", "tokenizer.model")
_WEIGHTS = (("model.safetensors", "model-*-of-*.safetensors"), ("pytorch_model.bin",))


def cached(repository: str, revision: str | None = None) -> Path | None:
    """Find a repository's folder in the hub's cache, which may be incomplete.

    Raises:
        UsageError: it is no name of a repository.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        # No patterns: newer versions of the library refuse a folder that lacks files which match.
        return Path(snapshot_download(repository, revision=revision, allow_patterns=[], local_files_only=True))
    except HFValidationError:
        raise UsageError(f"{repository!r} is no name of a hub repository", "owner/name") from None
    except (LocalEntryNotFoundError, OSError):
        return None


def cached_snapshot(
    repository: str, patterns: Sequence[str], *, name: str, revision: str | None = None, download: bool = False
) -> Path:
    """Find or download a repository for the model called ``name`` in messages.

    Raises:
        MissingPartError: the repository is not here, and must not or cannot be downloaded.
        UsageError: there is no such repository or revision.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    needed = f"{repository}, which {name} needs,"
    if download:
        absent = MissingPartError(f"{needed} is not here", "check the network, or give a folder with the files")
        return fetch(repository, patterns, revision, absent=absent)
    try:
        return Path(
            snapshot_download(repository, revision=revision, allow_patterns=list(patterns), local_files_only=True)
        )
    except LocalEntryNotFoundError as error:
        raise MissingPartError(
            f"the files of {needed} are not in the hub's cache on this machine",
            f"allow the download with --download, or get them with: hf download {repository}",
        ) from error
    except (OSError, ValueError) as error:
        raise MissingPartError(
            f"{needed} cannot be used: {reason_of(error)[:200]}", "check the name of the repository"
        ) from error


def model_folder(name: str, download: bool) -> Path:
    """Find or download a model of transformers with its preprocessing and vocabulary.

    Args:
        name: its folder, or an id of the hub with an optional ``@REVISION``.

    Raises:
        MissingPartError: the model is not here, and must not or cannot be downloaded.
        UsageError: there is no such repository or revision.
    """
    if (folder := Path(name).expanduser()).is_dir():
        return folder
    repository, _, revision = name.partition("@")
    for weights in _WEIGHTS:
        folder = cached_snapshot(
            repository,
            (*_CONFIGURATION, *weights),
            name=f"hf:{name}",
            revision=revision or None,
            download=download,
        )
        if any(found for pattern in weights for found in folder.glob(pattern)):
            return folder
    raise MissingPartError(f"hf:{name} has no weights that can be read", "allow the download with --download")


def downloaded_bytes() -> int:
    """Return the size of what was downloaded into the caches of the hub and of torch, partial files included."""
    places: list[Iterator[Path]] = []
    with suppress(ImportError):
        from huggingface_hub.constants import HF_HUB_CACHE

        places.append(Path(HF_HUB_CACHE).glob("*/blobs/*"))
    with suppress(ImportError):
        from torch.hub import get_dir

        places.append(Path(get_dir(), "checkpoints").glob("*"))
    size = 0
    for path in chain.from_iterable(places):
        with suppress(OSError):
            size += path.stat().st_size
    return size


def list_files(repository: str, revision: str | None, *, absent: MissingPartError) -> list[str]:
    """List the names of all files of a repository on the hub; errors as for ``fetch``."""
    from huggingface_hub import HfApi

    try:
        return list(HfApi().list_repo_files(repository, revision=revision))
    except Exception as error:
        raise _failure(repository, error, absent) from error


def fetch(
    repository: str, patterns: Sequence[str], revision: str | None = None, *, absent: MissingPartError
) -> Path:
    """Download files of a repository into the hub's cache, and return its folder there.

    Args:
        repository: ``owner/name``.
        revision: branch, tag or commit; the main branch if None.
        absent: says what is missing; raised with the reason where the download fails.

    Raises:
        MissingPartError: the hub cannot be reached, or its licence has not been accepted.
        UsageError: there is no such repository or revision.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(patterns)))
    except Exception as error:
        raise _failure(repository, error, absent) from error


def _failure(repository: str, error: Exception, absent: MissingPartError) -> LineError:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, GatedRepoError):  # a kind of RepositoryNotFoundError, so tested first
        return MissingPartError(
            f"{repository} is available only after accepting its licence",
            "accept it on the model's page of the Hugging Face hub, then `hf auth login`",
        )
    if isinstance(error, RepositoryNotFoundError):
        return UsageError(
            f"the hub has no repository {repository!r}", "owner/name; a private one: `hf auth login`"
        )
    if isinstance(error, RevisionNotFoundError):
        return UsageError(f"{repository} has no such revision", "name a branch, tag or commit")
    reason = clean_text(str(error).strip().partition("\n")[0], 160) or type(error).__name__
    return MissingPartError(f"{absent.message}, and could not be downloaded: {reason}", absent.remedy)
