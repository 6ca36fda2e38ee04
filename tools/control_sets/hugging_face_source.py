"""Open a Hugging Face dataset: a folder, the library's cache, or the hub as a stream."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from line_neurons.agent.errors import BackendError, LineError, MissingPartError, UsageError
from line_neurons.agent.text import clean_text
from line_neurons.tools.cache.file_hashes import FileHashes
from line_neurons.tools.packages import required_package

if TYPE_CHECKING:
    from datasets import Dataset, DatasetBuilder, IterableDataset

_HUB_NAME = re.compile(r"(?P<id>[\w.-]+(?:/[\w.-]+)?)(?:/(?P<config>[^/@]+))?(?:@(?P<split>[^@/]+))?", re.ASCII)
_SPLITS = ("validation", "val", "valid", "dev", "test", "train")
_SHARD = re.compile(r"(?P<name>.*)-\d{5}-of-(?P<count>\d{5})(?P<ending>\..*)?")


@dataclass(frozen=True)
class DatasetSplit:
    """One split of a dataset.

    Args:
        count: number of rows, where it is known beforehand.
        roots: folders and addresses below which the files lie that rows name.
        column: opens one column alone, with images left encoded.
        identity: identifies its content, as JSON data; may read every file once.
        remote: whether its images are downloaded one by one as they are needed.
    """

    name: str
    features: Mapping[str, Any]
    count: int | None
    roots: tuple[str, ...]
    column: Callable[[str], Dataset | IterableDataset]
    identity: Callable[[], Any]
    remote: bool = False


def open_source(spec: str, download: bool, digests: FileHashes) -> DatasetSplit:
    """Open a split of a dataset on this machine, or else of the hub if that is allowed.

    Args:
        spec: ``DATASET[/CONFIG][@SPLIT]``; DATASET is a folder, or ``name`` or ``owner/name`` on the hub. Without
            a split it is validation, test or train, the first there is.
        download: let the dataset be streamed from the hub.

    Raises:
        UsageError: there is no such dataset, configuration or split, or it cannot be read.
        MissingPartError: datasets is not installed, or the dataset is missing and must not be downloaded.
        BackendError: the hub cannot be reached.
    """
    with required_package("datasets", "datasets", needed="Hugging Face datasets need"):
        import datasets
    datasets.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    shown = clean_text(spec, 200)
    with dataset_errors(shown):
        folder, config, split = _local(spec)
        if folder is None:
            return _on_hub(shown, spec, download)
        if not folder.is_dir():
            raise UsageError(f"there is no dataset folder {shown}", "give a folder, or owner/name of a dataset")
        if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
            return _saved(shown, folder, split, digests)
        return _of_files(shown, folder, config, split, digests)


@contextmanager
def dataset_errors(name: str) -> Iterator[None]:
    """Turn whatever the library raises into one line that names the dataset."""
    try:
        yield
    except LineError:
        raise
    except Exception as error:
        raise _explained(name, error) from error


def _explained(name: str, error: Exception) -> LineError:
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.errors import HfHubHTTPError

    reason = clean_text(str(error), 300) or type(error).__name__
    if isinstance(error, DatasetNotFoundError):
        return UsageError(reason.rstrip("."), "check its name; for a private or gated one run `hf auth login`")
    network = isinstance(error, (ConnectionError, TimeoutError, HfHubHTTPError))
    if network or type(error).__module__.startswith("httpx"):
        return BackendError(
            f"the dataset {name} could not be fetched: {reason}",
            "check the network and HF_HUB_OFFLINE, and run it again: it resumes where it stopped",
        )
    return UsageError(
        f"the dataset {name} cannot be read: {reason}", "give a dataset that datasets.load_dataset reads"
    )


def _local(spec: str) -> tuple[Path | None, str | None, str | None]:
    """Split a spec into folder, configuration and split; no folder for the hub."""
    before, at, split = spec.rpartition("@")
    path = Path(before if at else spec).expanduser()
    if spec and Path(spec).expanduser().is_dir():
        return Path(spec).expanduser(), None, None
    if (before if at else spec) and path.is_dir():
        return path, None, split or None
    if not path.is_absolute() and not spec.startswith("."):
        return None, None, None
    # The configurations of a folder stand in its README.
    of_config = (path.parent / "README.md").is_file()
    return (path.parent, path.name, split or None) if of_config else (path, None, None)


def _saved(name: str, folder: Path, split: str | None, digests: FileHashes) -> DatasetSplit:
    """Open a folder that ``save_to_disk`` wrote."""
    from datasets import Dataset

    if (folder / "dataset_dict.json").is_file():
        splits = json.loads((folder / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]
        folder /= _split(name, [str(known) for known in splits], split)
    rows = Dataset.load_from_disk(str(folder))
    if split is not None and rows.split is not None and str(rows.split) != split:
        raise UsageError(f"the dataset {name} is the split {str(rows.split)!r} alone", "leave out the split")
    files = [Path(file["filename"]) for file in rows.cache_files]
    return _mapped(name, rows, (str(folder),), lambda: _contents(folder, files, digests))


def _of_files(name: str, folder: Path, config: str | None, split: str | None, digests: FileHashes) -> DatasetSplit:
    """Open a folder of a dataset's files: Parquet, Arrow, WebDataset, or images."""
    from datasets import load_dataset_builder

    # A relative folder may be called as one of the library's own readers is.
    folder = folder.resolve()
    builder = load_dataset_builder(str(folder), config)
    chosen = _split(name, list(builder.config.data_files or {}), split)
    files = [Path(file) for file in builder.config.data_files[chosen]]
    _check_shards(name, files)
    return _streamed(
        name,
        lambda **columns: load_dataset_builder(str(folder), config, **columns),
        builder,
        chosen,
        (str(folder),),
        lambda: _contents(folder, files, digests),
    )


def _on_hub(name: str, spec: str, download: bool) -> DatasetSplit:
    """Open a dataset of the hub: from the library's cache, else as a stream."""
    import datasets
    import huggingface_hub.constants
    from datasets import load_dataset_builder

    match = _HUB_NAME.fullmatch(spec)
    if match is None:
        raise UsageError(
            f"{name!r} is no name of a dataset", "give hf:OWNER/NAME, with /CONFIG and @SPLIT if needed"
        )
    dataset, config, split = match["id"], match["config"], match["split"]
    prepared = _prepared(dataset, config)
    if prepared is not None:
        chosen = _split(name, list(prepared.info.splits or {}), split)
        rows = prepared.as_dataset(split=chosen)
        roots = (str(datasets.config.HF_DATASETS_CACHE), huggingface_hub.constants.HF_HUB_CACHE)
        identity = ["hub", dataset, prepared.config.name, prepared.hash, chosen]
        return _mapped(name, rows, roots, lambda: identity)
    if not download:
        raise MissingPartError(
            f"the dataset {name} is not on this machine",
            "let it be streamed with --download, or give a folder that its save_to_disk wrote",
        )
    builder = load_dataset_builder(dataset, config)
    chosen = _split(name, list(builder.config.data_files or {}), split)
    # The second builder opens the same commit, whatever was pushed since.
    return _streamed(
        name,
        lambda **columns: load_dataset_builder(dataset, config, revision=builder.hash, **columns),
        builder,
        chosen,
        (f"hf://datasets/{dataset}@{builder.hash}",),
        lambda: ["hub", dataset, builder.config.name, builder.hash, chosen],
        remote=True,
    )


def _prepared(dataset: str, config: str | None) -> DatasetBuilder | None:
    from datasets.packaged_modules.cache.cache import Cache

    try:
        return Cache(
            dataset_name=dataset.rpartition("/")[2],
            repo_id=dataset,
            config_name=config,
            version="auto",
            hash="auto",
        )
    except ValueError as error:
        if "multiple" in str(error):
            raise
        return None


def _mapped(name: str, rows: Dataset, roots: tuple[str, ...], identity: Callable[[], Any]) -> DatasetSplit:
    from datasets import Image

    def column(wanted: str) -> Dataset:
        alone = rows.with_format(None).select_columns([wanted])
        if isinstance(alone.features[wanted], Image):
            alone = alone.cast_column(wanted, Image(decode=False))
        return alone

    return DatasetSplit(name, rows.features, len(rows), roots, column, identity)


def _streamed(
    name: str,
    build: Callable[..., DatasetBuilder],
    builder: DatasetBuilder,
    split: str,
    roots: tuple[str, ...],
    identity: Callable[[], Any],
    *,
    remote: bool = False,
) -> DatasetSplit:
    stream = builder.as_streaming_dataset(split=split)
    known = (builder.info.splits or {}).get(split)

    def column(wanted: str) -> IterableDataset:
        # Only Parquet can read one column and leave the bytes of the others.
        alone = build(columns=[wanted]).as_streaming_dataset(split=split) if parquet else stream
        return alone.decode(False).select_columns([wanted])

    parquet = hasattr(builder.config, "columns") and hasattr(builder.config, "fragment_scan_options")
    return DatasetSplit(
        name, stream.features or {}, known.num_examples if known else None, roots, column, identity, remote
    )


def _split(name: str, splits: Sequence[str], wanted: str | None) -> str:
    known = [str(split) for split in splits]
    if wanted in known:
        return wanted
    listed = ", ".join(clean_text(split, 40) for split in known)
    if wanted is not None:
        raise UsageError(f"the dataset {name} has no split {wanted!r:.60}", f"choose from {listed:.300}")
    usual = [split for split in _SPLITS if split in known] or known
    if len(usual) != 1 and usual[0] not in _SPLITS:
        raise UsageError(f"the dataset {name} has several splits", f"choose with @: {listed:.300}")
    return usual[0]


def _contents(folder: Path, files: Sequence[Path], digests: FileHashes) -> list[Any]:
    names = [file.relative_to(folder).as_posix() for file in files]
    return ["files", list(zip(names, digests.of(files), strict=True))]


def _check_shards(name: str, files: Sequence[Path]) -> None:
    met: dict[tuple[str, ...], int] = {}
    for file in files:
        if match := _SHARD.fullmatch(str(file)):
            key = (match["name"], match["ending"] or "", match["count"])
            met[key] = met.get(key, 0) + 1
    for (shard, _, count), here in met.items():
        if here != int(count):
            raise MissingPartError(
                f"the dataset {name} is not whole: {here} of {int(count)} files of {Path(shard).name}",
                "download the missing files",
            )
