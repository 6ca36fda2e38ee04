"""Faults that a store can have, what is wrong with each, and what repairing it comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

_SHOWN = 3


class Fault(StrEnum):
    """A fault of a store."""

    LINK = "link"
    DATABASE_DAMAGED = "database damaged"
    UNIT_WITHOUT_ITS_RUN = "unit without its run"
    EVENT_WITHOUT_ITS_RUN = "event without its run"
    WISH_WITHOUT_ITS_UNIT = "wish without its unit"
    STEP_WITHOUT_ITS_UNIT = "step without its unit"
    RUN_INTERRUPTED = "run interrupted"
    UNIT_INTERRUPTED = "unit interrupted"
    LEASE_LEFT_BEHIND = "lease left behind"
    STEP_WITHOUT_ITS_IMAGE = "step without its image"
    IMAGE_WITHOUT_A_ROW = "image without a row"
    IMAGE_KEPT = "image kept"
    ROW_WITHOUT_A_IMAGE = "row without an image"
    IMAGE_DAMAGED = "image damaged"
    DRAW_DAMAGED = "draw damaged"
    VECTOR_WITHOUT_A_IMAGE = "vector without an image"
    VECTOR_UNUSABLE = "vector unusable"
    CONTROL_WITHOUT_A_FILE = "control without a file"
    CONTROL_OF_ANOTHER_LAYER = "control of another layer"
    CONTROL_WITHOUT_A_ROW = "control without a row"
    EMBEDDINGS_DAMAGED = "embeddings damaged"
    DIGEST_DAMAGED = "digest damaged"
    REPLY_UNREADABLE = "reply unreadable"
    CHECKPOINT_WITHOUT_ITS_UNIT = "checkpoint without its unit"
    CHECKPOINT_UNREADABLE = "checkpoint unreadable"
    HISTORY_BEHIND = "history behind"
    HISTORY_AHEAD = "history ahead"
    NOT_AT_ITS_END = "not at its end"
    LEFTOVER = "leftover"
    LOCK_WITHOUT_ITS_RUN = "lock without its run"


class FaultKind(NamedTuple):
    """What a fault means.

    Args:
        repair: what repairing it comes to; empty if nothing can or need be done.
    """

    message: str
    repair: str
    is_error: bool = True


FAULTS: Mapping[Fault, FaultKind] = {
    Fault.LINK: FaultKind("symbolic link in the place of a file or folder; ignored", ""),
    Fault.DATABASE_DAMAGED: FaultKind("damaged database", "see below"),
    Fault.UNIT_WITHOUT_ITS_RUN: FaultKind("unit of a run that does not exist", "removed"),
    Fault.EVENT_WITHOUT_ITS_RUN: FaultKind("event of a run that does not exist", "removed"),
    Fault.WISH_WITHOUT_ITS_UNIT: FaultKind("steering command for a unit that does not exist", "removed"),
    Fault.STEP_WITHOUT_ITS_UNIT: FaultKind("history of a unit that does not exist", "removed"),
    Fault.RUN_INTERRUPTED: FaultKind(
        "run of a process that is gone", "marked as interrupted; line resume", is_error=False
    ),
    Fault.UNIT_INTERRUPTED: FaultKind("unit of a process that is gone", "marked as interrupted", is_error=False),
    Fault.LEASE_LEFT_BEHIND: FaultKind("lease of a process that is gone", "removed", is_error=False),
    Fault.STEP_WITHOUT_ITS_IMAGE: FaultKind(
        "image named by a history is missing; its score stays", "", is_error=False
    ),
    Fault.IMAGE_WITHOUT_A_ROW: FaultKind("image file without any reference", "removed"),
    Fault.IMAGE_KEPT: FaultKind("image file referenced only by a history; it stays", "", is_error=False),
    Fault.ROW_WITHOUT_A_IMAGE: FaultKind("image with a missing file", "generated again when needed"),
    Fault.IMAGE_DAMAGED: FaultKind("corrupt image file", "removed; generated again when needed"),
    Fault.DRAW_DAMAGED: FaultKind(
        "row that names a different image than was generated", "removed; generated again when needed"
    ),
    Fault.VECTOR_WITHOUT_A_IMAGE: FaultKind("activations on an image that does not exist", "removed"),
    Fault.VECTOR_UNUSABLE: FaultKind(
        "activations of the wrong length, not finite or corrupt", "removed; computed again when needed"
    ),
    Fault.CONTROL_WITHOUT_A_FILE: FaultKind(
        "control set with a missing, corrupt or different file", "removed; computed again when needed"
    ),
    Fault.CONTROL_OF_ANOTHER_LAYER: FaultKind(
        "control set with activations of a different number of units than the layer has",
        "removed; computed again when needed",
    ),
    Fault.CONTROL_WITHOUT_A_ROW: FaultKind("control file without any reference", "removed"),
    Fault.EMBEDDINGS_DAMAGED: FaultKind(
        "corrupt embeddings of the image bank's names", "removed; computed again when needed"
    ),
    Fault.DIGEST_DAMAGED: FaultKind("corrupt hash of a file", "removed; the file is hashed again"),
    Fault.REPLY_UNREADABLE: FaultKind("reply that cannot be read", "removed; requested again when needed"),
    Fault.CHECKPOINT_WITHOUT_ITS_UNIT: FaultKind("checkpoint of a unit that does not exist", "removed"),
    Fault.CHECKPOINT_UNREADABLE: FaultKind("unit with an unreadable last checkpoint", "restarted by line resume"),
    Fault.HISTORY_BEHIND: FaultKind(
        "unit with steps of its checkpoint missing from its history", "restarted by line resume"
    ),
    Fault.HISTORY_AHEAD: FaultKind(
        "unit with a history beyond its checkpoint", "cut there; line resume repeats the rest"
    ),
    Fault.NOT_AT_ITS_END: FaultKind(
        "finished unit without a last checkpoint; its label and history are here", "", is_error=False
    ),
    Fault.LEFTOVER: FaultKind("partial file of a process that is gone", "removed"),
    Fault.LOCK_WITHOUT_ITS_RUN: FaultKind("lock file of a run that does not exist", "removed", is_error=False),
}


# Their first value is a hash or a key, which says nothing to a user.
_BY_FILE = {Fault.IMAGE_DAMAGED, Fault.CONTROL_WITHOUT_A_FILE, Fault.CONTROL_OF_ANOTHER_LAYER}


@dataclass(frozen=True)
class Problem:
    """Things of one kind that are wrong.

    Args:
        items: each of them: the key of a row, a file relative to the store.
    """

    kind: Fault
    items: tuple[tuple[Any, ...], ...]

    @property
    def message(self) -> str:
        """What is wrong, with the first few things."""
        columns = slice(1, 2) if self.kind in _BY_FILE else slice(2)
        named = ", ".join(" ".join(map(str, item[columns])) for item in self.items[:_SHOWN])
        more = ", ..." if len(self.items) > _SHOWN else ""
        return f"{FAULTS[self.kind].message}: {len(self.items)} ({named}{more})"
