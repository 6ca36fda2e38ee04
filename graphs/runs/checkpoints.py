"""Checkpoints of units, validated before a unit resumes from one."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, get_type_hints

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.types import StateSnapshot
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from line_neurons.agent.errors import DamagedError, StoreError, reason_of
from line_neurons.agent.settings import revised
from line_neurons.agent.text import clean_text
from line_neurons.graphs.loop.state import LineState, board_of
from line_neurons.tools.cache.image_files import is_image_id
from line_neurons.tools.json_text import invalid_field
from line_neurons.tools.store.checkpoints import prune_unit, thread_config
from line_neurons.tools.store.records import Run

if TYPE_CHECKING:
    from line_neurons.graphs.loop.state import LineGraph

# Checkpoints of earlier versions have no fields of restarts.
_AFTER_A_STEP = {"kind", "step", "attempt", "board", "tried", "refused", "outcome", "best"}


def resumable_state(graph: LineGraph, run: Run, unit: int) -> StateSnapshot:
    """Return a unit's last checkpoint, validated for resuming.

    Raises:
        DamagedError: it is corrupt, or cannot stem from this unit.
        StoreError: the database cannot be used.
    """
    try:
        snapshot = graph.get_state(thread_config(run.id, unit))
        _validate(snapshot.values, run, unit)
    except StoreError:
        raise
    except Exception as error:
        raise DamagedError(
            f"the checkpoint of unit {unit} of run {run.id} cannot be resumed from: {_reason(error)}",
            f"line retry {run.id} starts the unit again, with the cached images and replies",
        ) from error
    return snapshot


def is_ahead(snapshot: StateSnapshot, steps: set[int]) -> bool:
    """Return whether a checkpoint comes after steps that are missing in the unit's history.

    That happens when the system lost the last writes in a power cut, or the run store was replaced by an older
    one.
    """
    step: int = snapshot.values.get("step", 0)
    return sum(0 <= logged < step for logged in steps) < step


def forget(graph: LineGraph, run: str, unit: int) -> None:
    """Remove all checkpoints of a unit, which then starts again."""
    assert isinstance(graph.checkpointer, BaseCheckpointSaver)
    graph.checkpointer.delete_thread(f"{run}/{unit}")


def prune(graph: LineGraph, run: str, unit: int) -> None:
    """Remove all checkpoints of a unit but the last, from which it resumes.

    Earlier states can be reconstructed from the unit's history, see ``loop.reconstruct``.

    Raises:
        TakenOverError: another process has taken over the run.
        StoreError: the database cannot be used.
    """
    assert isinstance(graph.checkpointer, SqliteSaver)
    prune_unit(graph.checkpointer, run, unit)


@cache
def _state() -> type[BaseModel]:
    fields: dict[str, Any] = {name: (hint, None) for name, hint in get_type_hints(LineState).items()}
    config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
    return create_model("State", __config__=config, **fields)


def _validate(values: dict[str, Any], run: Run, unit: int) -> None:
    """Raise ValueError if a checkpoint cannot stem from this unit."""
    if not values:
        return
    _state().model_validate(values)
    if (values.get("run"), values.get("unit")) != (run.id, unit):
        raise ValueError("it is another unit's")
    # The model takes None for a missing field, so that None as a value is caught here.
    if nothing := sorted(name for name, value in values.items() if value is None):
        raise ValueError(f"{nothing[0]} is nothing")
    if "step" not in values:
        return
    if missing := sorted(_AFTER_A_STEP - values.keys()):
        raise ValueError(f"{missing[0]} is missing")
    state: Any = values
    if min(values["step"], values["attempt"]) < 0:
        raise ValueError("it counts below 0")
    for pair in (*values["board"], values["best"]):
        if [type(part) for part in pair] not in ([str, float], [str, int]):
            raise ValueError("a concept without its score")
    if not all(is_image_id(image) for image in values.get("images", [])):
        raise ValueError("images: one has no image's id")
    if not board_of(state, revised(run.settings, {}).capacity).entries:
        raise ValueError("the board is empty")


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return clean_text(invalid_field(error), 200)
    return clean_text(reason_of(error), 200)
