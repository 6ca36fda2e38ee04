"""Open a control set from its spec."""

from __future__ import annotations

from pathlib import Path

from line_neurons.agent.errors import UsageError
from line_neurons.agent.near_names import CLOSE, near_names, near_paths
from line_neurons.agent.ports import ControlSet
from line_neurons.tools.cache.file_hashes import FileHashes
from line_neurons.tools.control_sets.precomputed import PrecomputedControl
from line_neurons.tools.images.reader import Range


def open_control_set(
    spec: str,
    *,
    images: int | None = None,
    download: bool = False,
    digests: Path | None = None,
    class_names: Path | None = None,
    value_range: Range | None = None,
) -> ControlSet | PrecomputedControl:
    """Open a control set.

    Args:
        spec: a folder of class folders or of images, an ``.npz`` file of activations, a folder that
            ``save_to_disk`` of Hugging Face datasets wrote (``FOLDER@SPLIT`` if it has several splits), or
            ``hf:DATASET[/CONFIG][@SPLIT]``, where DATASET is ``name`` or ``owner/name`` on the hub, or a folder of
            a dataset's files.
        images: how many images of each class count, and how many of a set without classes; None: 50 of each class,
            50,000 without classes, all of an ``.npz`` file.
        download: let the dataset be streamed from the hub if it is not on this machine.
        digests: an SQLite file that caches the content hashes of the set's files, and the traits of its images.
        class_names: a file that names the classes of a folder of class folders; see ``read_class_names``.
        value_range: see ``read_image``.

    Raises:
        UsageError: there is no such set, it has no images, or its layout is wrong.
        MissingPartError: a package is missing, or the dataset is missing and must not be downloaded.
        BackendError: the hub cannot be reached.
    """
    remembered = FileHashes(digests)
    path = Path(spec).expanduser()
    is_dataset = (
        spec.startswith("hf:") or _was_saved(path) or _was_saved(Path(spec.rpartition("@")[0]).expanduser())
    )
    if class_names and (is_dataset or not path.is_dir()):
        raise UsageError(
            f"class names are for a folder of class folders, and {spec!r:.200} is none", "leave --class-names away"
        )
    if is_dataset:
        from line_neurons.tools.control_sets.hugging_face import DatasetControlSet
        from line_neurons.tools.control_sets.hugging_face_source import open_source

        source = open_source(spec.removeprefix("hf:"), download, remembered)
        return DatasetControlSet(source, images, remembered, value_range)
    if path.is_dir():
        from line_neurons.tools.control_sets.folder import FolderControlSet

        return FolderControlSet(path, images, remembered, class_names, value_range=value_range)
    if path.is_file():
        from line_neurons.tools.control_sets.precomputed import PrecomputedControl

        return PrecomputedControl(path, images, remembered)
    raise _absent(spec)


def check_control_set(spec: str) -> None:
    """Check that a control set's file or folder is there; ``hf:`` datasets are found when they are opened.

    Raises:
        UsageError: it is not.
    """
    path = Path(spec).expanduser()
    if not (spec.startswith("hf:") or path.exists() or _was_saved(Path(spec.rpartition("@")[0]).expanduser())):
        raise _absent(spec)


def _absent(spec: str) -> UsageError:
    folder = Path(spec).expanduser().parent
    beside = [str(path) for path in folder.iterdir()] if folder.is_dir() else []
    near = near_names(spec, ["bank", "none"], least=CLOSE) or near_paths(spec, beside)
    forms = "a folder of images, an .npz file of activations, bank, none, or hf:DATASET of the Hugging Face hub"
    return UsageError(f"there is no control set {spec!r:.200}", f"{near + '; ' if near else ''}give {forms}")


def remarks_of(source: object) -> tuple[str, ...]:
    """Return what a source of images skipped or read in a special way."""
    return tuple(getattr(source, "remarks", ()))


def _was_saved(folder: Path) -> bool:
    return (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file()
