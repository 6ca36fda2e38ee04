"""Checkpoints of a bundle: plain data of the run's units, rewritten to the run's name in this store."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from line_neurons.eval.exchange import bundle_format as form
from line_neurons.eval.exchange.bundle_format import Checkpoint, Write
from line_neurons.eval.exchange.bundle_reader import Archive, refusal
from line_neurons.tools.cache.image_files import is_image_id
from line_neurons.tools.store.serializer import PlainSerializer

_ID = re.compile(r"[0-9a-f-]{36}")

PUT_CHECKPOINT = (
    "INSERT INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint,"
    " metadata) VALUES (?, '', ?, ?, ?, ?, ?)"
)
PUT_WRITE = (
    "INSERT INTO writes (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, value)"
    " VALUES (?, '', ?, ?, ?, ?, ?, ?, ?)"
)


@dataclass(frozen=True)
class IdMapping:
    """The ids of a run and its steering commands in this store.

    Args:
        wishes: numbers of steering commands here, by their exported numbers.
    """

    before: str
    now: str
    wishes: Mapping[int, int] = field(default_factory=dict)

    @property
    def changes(self) -> bool:
        """Whether any id differs."""
        return self.before != self.now or any(number != here for number, here in self.wishes.items())


def images_of(bundle: Archive, run: str, units: Collection[int], steps: dict[int, int]) -> set[str]:
    """Check all checkpoints of a bundle.

    Args:
        steps: receives the last step in the checkpoints of each unit.

    Returns:
        the ids of their images.

    Raises:
        UsageError: one is no plain data, of another run or unit, or in the bundle twice.
    """
    found: set[str] = set()
    for where, unit, value in _values(bundle, units):
        values = value if where == form.CHECKPOINTS else {}
        if (values.get("run", run), values.get("unit", unit)) != (run, unit):
            raise refusal(bundle.path, f"a checkpoint of unit {unit} is of another unit or run")
        step = values.get("step", 0)
        if not isinstance(step, int):
            raise refusal(bundle.path, f"a checkpoint of unit {unit} is at step {step!r:.40}")
        steps[unit] = max(step, steps.get(unit, 0))
        images = values.get("images", ()) if where == form.CHECKPOINTS else value if where == "images" else ()
        found.update(image for image in images if isinstance(image, str) and is_image_id(image))
    return found


def _values(bundle: Archive, units: Collection[int]) -> Iterator[tuple[str, int, Any]]:
    known: set[tuple[int, str]] = set()
    for checkpoint in bundle.rows(form.CHECKPOINTS, Checkpoint):
        _check(bundle, checkpoint, units, checkpoint.id, checkpoint.parent)
        if (place := (checkpoint.unit, checkpoint.id)) in known:
            raise refusal(bundle.path, f"a checkpoint of unit {checkpoint.unit} is in it twice")
        known.add(place)
        yield form.CHECKPOINTS, checkpoint.unit, _loaded(bundle, checkpoint)["channel_values"]
    written: set[tuple[int, str, str, int]] = set()
    for write in bundle.rows(form.WRITES, Write):
        _check(bundle, write, units, write.id, write.task)
        if (row := (write.unit, write.id, write.task, write.idx)) in written:
            raise refusal(bundle.path, f"a write after a checkpoint of unit {write.unit} is in it twice")
        written.add(row)
        yield write.channel, write.unit, _loaded(bundle, write)


def _check(bundle: Archive, row: Checkpoint | Write, units: Collection[int], *names: str | None) -> None:
    if row.unit not in units or not all(name is None or _ID.fullmatch(name) for name in names):
        raise refusal(bundle.path, f"a checkpoint is of unit {row.unit}, which the run has not, or has no id")


def _loaded(bundle: Archive, row: Checkpoint | Write) -> Any:
    try:
        value = PlainSerializer().loads_typed((row.type, base64.b64decode(row.data, validate=True)))
        if isinstance(row, Checkpoint):
            shaped = isinstance(value, dict) and value.get("id") == row.id
            if not (shaped and isinstance(value["channel_values"], dict)):
                raise ValueError("it is no checkpoint")
            if not isinstance(json.loads(row.metadata), dict):
                raise ValueError("its metadata are none")
    except Exception as error:
        # msgpack may raise anything.
        raise refusal(bundle.path, f"a checkpoint of unit {row.unit} is no plain data: {error}") from None
    return value


def checkpoint_rows(bundle: Archive, ids: IdMapping) -> Iterator[tuple[Any, ...]]:
    """Yield the values of ``PUT_CHECKPOINT`` for each checkpoint."""
    for row in bundle.rows(form.CHECKPOINTS, Checkpoint):
        kind, data = row.type, base64.b64decode(row.data)
        if ids.changes:
            checkpoint = PlainSerializer().loads_typed((kind, data))
            values = {name: _here(name, value, ids) for name, value in checkpoint["channel_values"].items()}
            kind, data = PlainSerializer().dumps_typed({**checkpoint, "channel_values": values})
        yield f"{ids.now}/{row.unit}", row.id, row.parent, kind, data, row.metadata.encode()


def write_rows(bundle: Archive, ids: IdMapping) -> Iterator[tuple[Any, ...]]:
    """Yield the values of ``PUT_WRITE`` for each write."""
    for row in bundle.rows(form.WRITES, Write):
        kind, data = row.type, base64.b64decode(row.data)
        if ids.changes:
            value = PlainSerializer().loads_typed((kind, data))
            here = _here(row.channel, value, ids)
            kind, data = (kind, data) if here == value else PlainSerializer().dumps_typed(here)
        yield f"{ids.now}/{row.unit}", row.id, row.task, row.path, row.idx, row.channel, kind, data


def _here(channel: str, value: Any, ids: IdMapping) -> Any:
    """Return a channel's value with the ids of this store."""
    if channel == "__start__" and isinstance(value, dict):
        return {name: _here(name, item, ids) for name, item in value.items()}
    if channel == "run":
        return ids.now
    if channel == "wishes" and isinstance(value, list):
        return [[ids.wishes.get(item[0], item[0]), *item[1:]] if item else item for item in value]
    return value
