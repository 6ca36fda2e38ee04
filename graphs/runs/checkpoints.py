"""The checkpoints of units: kept in SQLite, read back as plain data, looked through before a unit goes on."""

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
from line_neurons.tools.store.checkpoints import prune_unit, thread_config
from line_neurons.tools.store.records import Run

if TYPE_CHECKING:
    from line_neurons.graphs.loop.state import LineGraph

# A checkpoint of an earlier version knows nothing of restarts.
_AFTER_A_STEP = {"kind", "step", "attempt", "board", "tried", "refused", "outcome", "best"}


def resumable_state(graph: LineGraph, run: Run, unit: int) -> StateSnapshot:
    """A unit's last checkpoint, of which is known that the unit can go on from it.

    Raises:
        DamagedError: it is damaged, or holds what no unit's search can have left.
        StoreError: the database cannot be used.
    """
    try:
        snapshot = graph.get_state(thread_config(run.id, unit))
        _look_through(snapshot.values, run, unit)
    except StoreError:
        raise
    except Exception as error:
        raise DamagedError(
            f"the checkpoint of unit {unit} of run {run.id} cannot be gone on from: {_reason(error)}",
            f"line retry {run.id} begins the unit again, with the images and replies that are kept",
        ) from error
    return snapshot


def is_ahead(snapshot: StateSnapshot, steps: set[int]) -> bool:
    """Whether a checkpoint comes after steps that are not in the unit's history.

    So it is when the system lost what was written last, which it may after a power cut, or when the run store was
    replaced by an earlier one.
    """
    step: int = snapshot.values.get("step", 0)
    return len([one for one in steps if 0 <= one < step]) < step


def forget(graph: LineGraph, run: str, unit: int) -> None:
    """Let a unit begin again: its checkpoints are removed."""
    assert isinstance(graph.checkpointer, BaseCheckpointSaver)
    graph.checkpointer.delete_thread(f"{run}/{unit}")


def prune(graph: LineGraph, run: str, unit: int) -> None:
    """Remove all checkpoints of a unit but the last, which is all that it goes on from.

    What came before is in the unit's history: ``past`` puts a state together from it.

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


def _look_through(values: dict[str, Any], run: Run, unit: int) -> None:
    """Refuse a state that no node of this unit can have left.

    Raises:
        ValueError: what is wrong.
    """
    if not values:
        return
    _state().model_validate(values)
    if (values.get("run"), values.get("unit")) != (run.id, unit):
        raise ValueError("it is another unit's")
    # None is what a field is that the state lacks, and nothing else.
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
        first = error.errors(include_input=False, include_url=False)[0]
        return clean_text(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}", 200)
    return clean_text(reason_of(error), 200)
