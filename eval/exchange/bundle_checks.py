"""Check a bundle against itself and against the store that it is imported into."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import TypeAdapter, ValidationError

from line_neurons.agent.activations import SparseActivations
from line_neurons.agent.ports import ImageRequest
from line_neurons.agent.settings import Settings
from line_neurons.eval.exchange import bundle_checkpoints as threads
from line_neurons.eval.exchange import bundle_format as form
from line_neurons.eval.exchange.bundle_format import CommandRow, ControlRow, Event, Image
from line_neurons.eval.exchange.bundle_reader import Archive, refusal
from line_neurons.tools.array_files import UNREADABLE
from line_neurons.tools.cache.image_files import PNG_BEGIN, is_image_id
from line_neurons.tools.cache.reader import control_arrays, control_key, layer_width
from line_neurons.tools.json_text import loads
from line_neurons.tools.label_marks import ENDED
from line_neurons.tools.store.columns import OUTCOMES
from line_neurons.tools.store.records import Run, Step, Unit, is_plain_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAX_UNIT = 10_000_000
_STATES = {"pending", "interrupted", *ENDED}
_KINDS = {"initial", "iteration", "summary", "revisit"}
# Scores are means, areas and quotients of float32 numbers.
_LARGEST_SCORE = 1e100
_TIMES = {"created", "finished", "taken", "seconds"}
# The last second of the year 9999.
_LAST_TIME = 253_402_300_799
# Settings that the checks and the display of a run use; resuming validates all.
_LOOKED_AT = ("iterations", "max_iterations", "patience", "restarts", "facets", "retries", "summary", "images",
              "top", "random", "llm", "generator", "langchain")  # fmt: skip
# Above the limits of all settings.
_MAX_STEP = _MAX_ATTEMPT = 2_000_000


@dataclass
class _Counts:
    """Counts of a unit's history: entries, steering commands, and the numbers of its steps."""

    rows: int = 0
    wishes: int = 0
    steps: set[int] = field(default_factory=set)


def check_bundle(bundle: Archive, run: Run, store: Path) -> None:
    """Check that a bundle has one run only, is consistent, fits the store and is safe to import.

    Raises:
        UsageError: a check failed.
        StoreError: the store cannot be read.
    """

    def need(fits: bool, what: str) -> None:
        if not fits:
            raise refusal(bundle.path, what)

    need(is_plain_name(run.id) and run.id == bundle.manifest.run, "its run has an invalid name")
    need(run.status in _STATES, f"its run is {run.status!r:.40}")
    _check_numbers(bundle, run, "its run")
    settings = _most_steps(bundle, run)
    units, images = _check_units(bundle, run)
    places = set()
    for step in bundle.rows(form.STEPS, Step):
        place = (step.unit, step.step, step.attempt)
        need(step.run == run.id and step.unit in units and min(place) >= 0, "a step is of no unit of its run")
        need(place not in places, f"a step of unit {step.unit} is in it twice")
        need(step.attempt <= _MAX_ATTEMPT, f"a step of unit {step.unit} has attempt {step.attempt}")
        need(
            step.kind in _KINDS and step.outcome in OUTCOMES,
            f"a step of unit {step.unit} is {step.kind!r:.40}, {step.outcome!r:.40}",
        )
        _check_numbers(bundle, step, f"step {step.step} of unit {step.unit}")
        places.add(place)
        units[step.unit].rows += 1
        units[step.unit].steps.add(step.step)
        images.update(step.images)
    need(all(map(is_image_id, images)), "an image of its history has no image's id")
    for event in bundle.rows(form.EVENTS, Event):
        need(event.unit is None or event.unit in units, "an event is of no unit of its run")
        _check_numbers(bundle, event, "an event")
    numbers = set()
    for command in bundle.rows(form.WISHES, CommandRow):
        need(command.unit in units and command.id not in numbers, "a steering command is of no unit of its run")
        _check_numbers(bundle, command, f"a steering command for unit {command.unit}")
        numbers.add(command.id)
        units[command.unit].wishes += 1
        units[command.unit].steps.add(command.step or 0)
    steps: dict[int, int] = {}
    images |= threads.images_of(bundle, run.id, units.keys(), steps)
    for unit, counts in units.items():
        # Steps are numbered from 0; steering commands add some.
        most = max(settings + 2 * counts.wishes, counts.rows)
        last = max(*counts.steps, steps.get(unit, 0) - 1, 0)
        need(last <= most, f"unit {unit} has a step {last}, and its run's settings allow {most}")
    _check_images(bundle, images)
    _check_widths(bundle, run, max(units, default=-1), images, store)


def _check_units(bundle: Archive, run: Run) -> tuple[dict[int, _Counts], set[str]]:
    """Check the units; return each with the steps that it names, and the ids of all labels' images."""
    units: dict[int, _Counts] = {}
    images: set[str] = set()
    for unit in bundle.rows(form.UNITS, Unit):
        known = unit.unit in units
        if unit.run != run.id or not 0 <= unit.unit <= _MAX_UNIT or known or not 0 <= unit.position <= _MAX_UNIT:
            raise refusal(bundle.path, "a unit is none of its run")
        if unit.status not in _STATES:
            raise refusal(bundle.path, f"unit {unit.unit} is {unit.status!r:.40}")
        named = [unit.label_step or 0, unit.steps or 0]
        if min(*named, unit.found_by or 0) < 0:
            raise refusal(bundle.path, f"unit {unit.unit} counts below 0")
        _check_numbers(bundle, unit, f"unit {unit.unit}")
        units[unit.unit] = _Counts(steps=set(named))
        images.update(unit.images)
    return units, images


def _most_steps(bundle: Archive, run: Run) -> int:
    """Return the number of steps that the run's settings allow."""
    known: dict[str, Any] = {}
    for name in _LOOKED_AT:
        known[name] = run.settings.get(name, Settings.model_fields[name].default)
        try:
            _setting(name).validate_python(known[name], strict=True)
        except ValidationError:
            raise refusal(bundle.path, f"its run's setting {name} is {known[name]!r:.40}") from None
    forked = run.forked_step or 0
    if not 0 <= forked <= _MAX_STEP:
        raise refusal(bundle.path, f"its run was forked at step {forked}")
    iterations = max(known["iterations"], known["max_iterations"] or 0)
    most: int = (2 + iterations) * (1 + known["restarts"] + known["facets"])
    return forked + most


def _setting(name: str) -> TypeAdapter[Any]:
    known = Settings.model_fields[name]
    kind: Any = Annotated[known.annotation, known]
    return TypeAdapter(kind)


def _check_numbers(bundle: Archive, row: Any, what: str) -> None:
    """Check that times are dates of a calendar, and that scores are in range."""
    for name, value in vars(row).items():
        most = _LAST_TIME if name in _TIMES else _LARGEST_SCORE
        for number in _floats(value):
            if abs(number) > most:
                raise refusal(bundle.path, f"{what} has {name} {number:g}")


def _floats(value: Any) -> Iterator[float]:
    if isinstance(value, float):
        yield value
    elif isinstance(value, tuple | list | Mapping):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _floats(item)


def _check_images(bundle: Archive, images: set[str]) -> None:
    sizes = {}
    for name, file in bundle.manifest.files.items():
        if (match := form.NAMED.fullmatch(name)) and match[1]:
            if match[1] not in images or match[1] != file.sha256:
                raise refusal(bundle.path, f"{name} is no image of its run")
            if not bundle.read(name).startswith(PNG_BEGIN):
                raise refusal(bundle.path, f"{name} is no PNG file")
            sizes[match[1]] = file.bytes
    keys = set()
    for row in bundle.rows(form.IMAGES, Image):
        key = (row.generator, row.prompt, row.seed)
        if row.image not in images or not _is_account(row) or row.size not in {-1, sizes.get(row.image, row.size)}:
            raise refusal(bundle.path, "its records of generated images do not fit its run")
        if key in keys:
            raise refusal(bundle.path, f"it records an image of {row.prompt!r:.80} with seed {row.seed} twice")
        keys.add(key)


def _is_account(row: Image) -> bool:
    """Return whether the record of a generated image is valid."""
    try:
        request, account = loads(row.request), loads(row.account)
        made = ImageRequest(**request)
        fits = (made.prompt, made.seed) == (row.prompt, row.seed) and _is_table(account)
        texts = all(isinstance(value, str) for name, value in asdict(made).items() if name != "seed")
        replaced, subjects = account.get("replaces", {}), account.get("subjects", [])
        shaped = _is_table(replaced, *replaced.values()) and isinstance(subjects, list) and _is_table(*subjects)
        return fits and texts and shaped and row.size >= -1
    except (ValueError, TypeError, AttributeError):
        return False


def _is_table(*values: object) -> bool:
    return all(isinstance(value, dict) for value in values)


def _check_widths(bundle: Archive, run: Run, last: int, images: set[str], store: Path) -> None:
    """Check that all activations have the same number of units, which is also that of the store."""
    widths = Counter({"control set": control} if (control := _check_controls(bundle, run)) else {})
    if vectors := _check_vectors(bundle, images):
        widths["images"] = vectors
    if len(set(widths.values())) > 1:
        raise refusal(
            bundle.path,
            f"its activations are of {widths['images']} units on images, and of {widths['control set']} on"
            " its control set",
        )
    width = max(widths.values(), default=0)
    if widths and last >= width:
        raise refusal(bundle.path, f"it has a unit {last}, and activations of {width} units")
    here = layer_width(store, str(run.fingerprints.get("target")), run.layer)
    if widths and here and here != width:
        raise refusal(bundle.path, f"its activations are of {width} units, those here of {here}")
    if here and last >= here:
        raise refusal(bundle.path, f"it has a unit {last}, and the activations here are of {here} units")


def _check_vectors(bundle: Archive, images: set[str]) -> int:
    """Check the activations on images; return their number of units, 0 if there are none."""
    import numpy as np

    seen: set[str] = set()
    width = 0
    for vector, numbers in bundle.vectors():
        width = width or vector.units
        fits = vector.units == width and vector.image in images
        if not fits or not np.isfinite(np.frombuffer(numbers, "<f4")).all():
            raise refusal(
                bundle.path, "it has activations of no image of its run, of another width, or not finite"
            )
        if vector.image in seen:
            raise refusal(bundle.path, f"it has activations of image {vector.image[:12]} twice")
        seen.add(vector.image)
    return width


def _check_controls(bundle: Archive, run: Run) -> int:
    """Check the activations on the control set; return their number of units, 0 if there are none."""
    rows = list(bundle.rows(form.CONTROLS, ControlRow))
    files = [name for name in bundle.manifest.files if (match := form.NAMED.fullmatch(name)) and match[2]]
    own = control_key(str(run.fingerprints.get("target")), run.layer, str(run.fingerprints.get("control")))
    if [row.key for row in rows] not in ([], [own]) or files != [control_file(row) for row in rows]:
        raise refusal(bundle.path, "its control activations are not those of its run")
    width = 0
    for row in rows:
        try:
            width = _control_width(row, b"".join(bundle.blocks(control_file(row))))
        except (*UNREADABLE, TypeError, KeyError) as error:
            raise refusal(bundle.path, f"its control activations are damaged: {error}") from None
    return width


def control_file(row: ControlRow) -> str:
    """Return the name of the file of control activations."""
    return form.control_name(hashlib.sha256(row.key.encode()).hexdigest())


def _control_width(row: ControlRow, content: bytes) -> int:
    """Return the number of units of control activations.

    Raises:
        ValueError: they are not valid.
    """
    import numpy as np

    classes, skipped = loads(row.classes), loads(row.skipped)
    if not (_is_texts(classes) and _is_texts(skipped)):
        raise ValueError("its classes are no names")
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        # As the cache writes them; compressed arrays could have any size.
        if any(info.compress_type != zipfile.ZIP_STORED for info in packed.infolist()):
            raise ValueError("its arrays are packed")
    labels, activations = control_arrays(io.BytesIO(content))
    shape = activations.shape
    if labels.ndim != 1 or len(shape) != 2 or not all(shape) or len(labels) != shape[0]:
        raise ValueError(f"labels of shape {list(labels.shape)}, activations of {list(shape)}")
    numbers = activations.values if isinstance(activations, SparseActivations) else activations
    if labels.dtype.kind not in "iu" or numbers.dtype != np.float32 or not np.isfinite(numbers).all():
        raise ValueError("its numbers are not finite activations")
    _check_labels(labels, len(classes))
    return int(activations.shape[1])


def _check_labels(labels: NDArray[Any], classes: int) -> None:
    outside = labels[(labels < -1) | (labels >= classes)]
    if outside.size:
        raise ValueError(f"it has the label {outside[0]}, and {classes} classes")


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
