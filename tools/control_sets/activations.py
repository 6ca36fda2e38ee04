"""Activations of layers on a control set, computed once and stored."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from line_neurons.agent.activations import joined_activations
from line_neurons.agent.errors import StoreError, UnfitOutputError, UsageError
from line_neurons.agent.ports import Control, ControlChunk, ControlSet, Progress, Target
from line_neurons.tools.cache.reader import control_key
from line_neurons.tools.cache.validation import activate
from line_neurons.tools.control_sets.class_names import drop_unused_classes
from line_neurons.tools.targets.base import layer_fingerprint

if TYPE_CHECKING:
    from line_neurons.tools.cache.activation_cache import Cache


def control_activations(
    bank: Cache,
    target: Target,
    layers: Sequence[str],
    control: ControlSet,
    progress: Progress | None = None,
) -> dict[str, Control]:
    """Return activations on the control set, cached or computed in one pass.

    Each chunk is stored as it is done, so that interrupted work resumes; chunks that are stored for all layers are
    not read again. While a chunk of images is measured the next one is read. A class without a readable image is
    skipped.

    Args:
        progress: called at the start and after each chunk as ``(images done, images in all)``, with 0 for all if
            it is unknown.

    Raises:
        UsageError: there is no such layer, or no image can be read.
        BackendError: see ``validation.activate``, or the images could not be downloaded.
        StoreError: the cache cannot be read or written.
    """
    keys = {layer: control_key(layer_fingerprint(target, layer), layer, control.fingerprint) for layer in layers}
    # A layer of 0 units does not know how many it has.
    units = {layer.path: layer.units for layer in target.layers() if layer.units}
    found = {
        layer: kept for layer, key in keys.items() if (kept := bank.control(key, units.get(layer))) is not None
    }
    for layer in found:
        # A process that was killed amid joining leaves chunks that nothing needs any more.
        if left := bank.control_keys(_chunk_key(keys[layer])):
            bank.drop_controls(left)
    missing = {layer: key for layer, key in keys.items() if layer not in found}
    if missing:
        done = _complete(bank, target, missing, control, units, progress)
        for layer, key in missing.items():
            found[layer] = _join(bank, key, done, control.classes(), units.get(layer))
    return {layer: found[layer] for layer in layers}


def _complete(
    bank: Cache,
    target: Target,
    keys: dict[str, str],
    control: ControlSet,
    units: dict[str, int],
    progress: Progress | None,
) -> int:
    """Store every chunk of every layer; return the number of chunks."""
    # Several workers measure as many chunks at a time.
    parallel = max(1, getattr(target, "parallel", 1))
    number = done = 0
    size = control.size or 0
    if progress:
        progress(0, size)
    chunks: Iterator[ControlChunk] | None = None
    waiting: deque[tuple[Future[None] | None, int]] = deque()

    def wait(most: int) -> None:
        """Wait, in order, until no more than ``most`` chunks are being measured."""
        nonlocal done
        while len(waiting) > most:
            measured, images = waiting.popleft()
            if measured is not None:
                measured.result()
            done += images
            if progress:
                progress(done, size)

    with ThreadPoolExecutor(parallel, thread_name_prefix="line control set") as threads:
        while control.total is None or number < control.total:
            stored = {
                layer: bank.control(_chunk_key(key, number), units.get(layer)) for layer, key in keys.items()
            }
            known = max((len(kept.labels) for kept in stored.values() if kept is not None), default=0)
            needed = [layer for layer, kept in stored.items() if kept is None]
            del stored
            if needed:
                chunks = chunks or control.chunks(number)
                chunk = next(chunks, None)
                if chunk is None:
                    break
                wait(parallel - 1)
                numbered = {layer: _chunk_key(keys[layer], number) for layer in needed}
                measuring = threads.submit(_keep, bank, target, numbered, units, chunk)
                waiting.append((measuring, len(chunk.images)))
                # The next chunk is read while this name still stands.
                del chunk
            else:
                chunks = None
                waiting.append((None, known))
                wait(parallel - 1)
            number += 1
        wait(0)
    if progress and done != control.size:
        # Some could not be read, or the length was not known.
        progress(max(done, size), max(done, size))
    return number


def _keep(bank: Cache, target: Target, keys: dict[str, str], units: dict[str, int], chunk: ControlChunk) -> None:
    import numpy as np

    labels = np.array(chunk.labels, np.int64)
    named = [f"image {place} of a part of the control set" for place in range(len(chunk.images))]
    rows = activate(target, chunk.images, named, list(keys)) if chunk.images else {}
    for layer, measured in rows.items():
        if (width := measured.shape[1]) != units.get(layer, width):
            raise UnfitOutputError(
                f"the target gave activations of {width} units at {layer}, which has {units[layer]}"
            )
    nothing = np.empty((0, 0), np.float32)
    for layer, key in keys.items():
        bank.put_control(key, Control((), labels, rows.get(layer, nothing), chunk.skipped))


def _join(bank: Cache, key: str, chunks: int, classes: tuple[str, ...], width: int | None) -> Control:
    """Join the chunks of a layer to one matrix, which replaces them in the cache."""
    import numpy as np

    chunk_keys = [_chunk_key(key, number) for number in range(chunks)]
    parts: list[Control] = []
    for chunk_key in chunk_keys:
        part = bank.control(chunk_key, width)
        if part is None:
            # Another process that worked on the same may have joined the chunks before.
            joined = bank.control(key, width)
            if joined is None:
                raise StoreError("some activations of the control set are missing", "run it again")
            bank.drop_controls(chunk_keys)
            return joined
        parts.append(part)
    skipped = [name for part in parts for name in part.skipped]
    measured = [part for part in parts if len(part.labels)]
    if not measured:
        first = f"; the first is {skipped[0]}" if skipped else ""
        raise UsageError(f"no image of the control set can be read{first}", "give a control set of images")
    labels = np.concatenate([part.labels for part in measured])
    used, labels = drop_unused_classes(classes, labels)
    joined = Control(used, labels, joined_activations([part.activations for part in measured]), tuple(skipped))
    bank.put_control(key, joined)
    bank.drop_controls(chunk_keys)
    return joined


def _chunk_key(key: str, number: int | str = "") -> str:
    return f"{key}\nchunk {number}"
