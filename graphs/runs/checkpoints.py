"""The checkpoints of units: kept in SQLite, read back as plain data, looked through before a unit goes on."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.types import StateSnapshot
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from line_neurons.agent.errors import DamagedError, StoreError, reason_of
from line_neurons.agent.settings import revised
from line_neurons.agent.text import clean_text
from line_neurons.graphs.loop.graph import LineGraph
from line_neurons.graphs.loop.state import LineState, board_of
from line_neurons.tools.cache.image_files import is_image_id
from line_neurons.tools.doctor.disk_space import PRUNE
from line_neurons.tools.store import sqlite as databases
from line_neurons.tools.store.migrations import refuse_newer
from line_neurons.tools.store.records import Run
from line_neurons.tools.store.serializer import PlainSerializer
from line_neurons.tools.store.sqlite import translate_errors

# A checkpoint of an earlier version knows nothing of restarts.
_AFTER_A_STEP = {"kind", "step", "attempt", "board", "tried", "refused", "outcome", "best"}


class Checkpoints(SqliteSaver):
    """The database ``checkpoints.db`` of a store.

    Args:
        path: the file; made if it is not there.

    Raises:
        StoreError: it cannot be used; so from each method.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with translate_errors(path):
            connection = databases.connect(path, lambda db: refuse_newer(db, path), check_same_thread=False)
            super().__init__(connection, serde=PlainSerializer())
            try:
                # A killed process loses nothing; after a power cut the last steps are done again.
                connection.execute("PRAGMA synchronous=NORMAL")
                self.setup()
            except BaseException:
                connection.close()
                raise

    @contextmanager
    def cursor(self, transaction: bool = True) -> Iterator[sqlite3.Cursor]:
        """See ``SqliteSaver.cursor``, through which all that reads and writes goes."""
        with translate_errors(self._path), super().cursor(transaction) as cursor:
            yield cursor


@contextmanager
def opened(store: Path) -> Iterator[Checkpoints]:
    """The checkpoints of a store, for the body.

    Raises:
        StoreError: they cannot be used.
    """
    saver = Checkpoints(store / "checkpoints.db")
    with closing(saver.conn):
        yield saver


def thread_of(run: str, unit: int) -> RunnableConfig:
    """LangGraph's name of a unit's checkpoints."""
    return {"configurable": {"thread_id": f"{run}/{unit}"}}


def last_state(graph: LineGraph, run: Run, unit: int) -> StateSnapshot:
    """A unit's last checkpoint, of which is known that the unit can go on from it.

    Raises:
        DamagedError: it is damaged, or holds what no unit's search can have left.
        StoreError: the database cannot be used.
    """
    try:
        snapshot = graph.get_state(thread_of(run.id, unit))
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


def forget_run(db: sqlite3.Connection, run: str) -> None:
    """Remove the checkpoints of all units of a run, within the transaction of who calls.

    Args:
        db: ``checkpoints.db``.
        run: id of the run.
    """
    for table in ("checkpoints", "writes"):
        # The names of its threads are those between: "0" comes after "/".
        db.execute(f"DELETE FROM {table} WHERE thread_id > ? AND thread_id < ?", [f"{run}/", f"{run}0"])  # noqa: S608


def prune(graph: LineGraph, run: str, unit: int) -> None:
    """Remove all checkpoints of a unit but the last, which is all that it goes on from.

    What came before is in the unit's history: ``past`` puts a state together from it.

    Raises:
        TakenOverError: another process has taken over the run.
        StoreError: the database cannot be used.
    """
    assert isinstance(graph.checkpointer, SqliteSaver)
    with graph.checkpointer.cursor() as cursor:
        for statement in PRUNE:
            cursor.execute(statement, [f"{run}/{unit}"])


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
