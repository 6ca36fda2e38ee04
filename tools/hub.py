"""The Hugging Face hub: its cache on this machine, and what can be fetched into it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from line_neurons.agent.errors import MissingPartError, UsageError
from line_neurons.agent.text import clean_text
from line_neurons.tools.generators.presets import Source


def cached(hub: str, revision: str | None = None) -> Path | None:
    """The folder of a repository in the hub's cache, which may hold only some of its files.

    Raises:
        UsageError: it is no name of a repository.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub, revision=revision, local_files_only=True))
    except HFValidationError:
        raise UsageError(f"{hub!r} is no name of a hub repository", "owner/name") from None
    except (LocalEntryNotFoundError, OSError):
        return None


def listed(source: Source, commit: str) -> list[str]:
    """The names of all files of a repository; asks the hub.

    Raises:
        MissingPartError: the hub cannot be reached.
    """
    from huggingface_hub import HfApi

    try:
        return list(HfApi().list_repo_files(source.hub, revision=commit))
    except Exception as error:
        raise _not_fetched(source, error) from error


def fetch(source: Source, files: list[str], revision: str | None = None, *, hub: str = "") -> Path:
    """Bring files of a repository into the hub's cache, and give its folder.

    Args:
        source: the model that they are for.
        files: names or patterns.
        revision: branch, tag or commit.
        hub: the repository; the model's own if empty.

    Raises:
        MissingPartError: the hub cannot be reached, or wants its licence accepted.
        UsageError: there is no such repository or revision.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(hub or source.hub, revision=revision, allow_patterns=files))
    except Exception as error:
        raise _not_fetched(replace(source, hub=hub or source.hub), error) from error


def _not_fetched(source: Source, error: Exception) -> MissingPartError | UsageError:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, GatedRepoError):  # a kind of RepositoryNotFoundError, so asked for first
        return MissingPartError(
            f"{source.hub} is given only to those who accept its licence",
            "accept it on the model's page of the Hugging Face hub, then `hf auth login`",
        )
    if isinstance(error, RepositoryNotFoundError):
        return UsageError(
            f"the hub has no repository {source.hub!r}", "owner/name; a private one: `hf auth login`"
        )
    if isinstance(error, RevisionNotFoundError):
        return UsageError(
            f"{source.hub} has no such revision", "set diffusion.revision to a branch, tag or commit"
        )
    reason = clean_text(str(error).strip().partition("\n")[0], 160) or type(error).__name__
    here = not_here(source, tried=True)
    return MissingPartError(f"{here.message}, and could not be fetched: {reason}", here.remedy)


def not_here(source: Source, *, revision: str | None = None, tried: bool = False) -> MissingPartError:
    """The error for a model that is not on this machine: what it is, how large, and where to get it."""
    preset = source.preset
    how = "check the network" if tried else "allow the download with --download"
    at = f" at revision {revision!r}" if revision else ""
    if preset is None or source.hub != preset.hub:
        return MissingPartError(
            f"{source.hub}{at} is not here, neither as a folder nor in the hub's cache",
            f"{how}, or `hf download {source.hub}{f' --revision {revision}' if revision else ''}`",
        )
    parts = preset.hub if not preset.denoiser_hub else f"{preset.hub} and {preset.denoiser_hub}"
    half = f" ({preset.variant})" if preset.variant else ""
    licence = "; accept its licence on the hub first, and `hf auth login`" if preset.gated else ""
    name = source.name.partition("=")[0]
    return MissingPartError(
        f"{name}{at} is not here: {parts}, {preset.gigabytes} GB{half}",
        f"{how}, or name a copy as {name}=FOLDER{licence}",
    )
