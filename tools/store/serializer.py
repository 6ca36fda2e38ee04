"""Serialise checkpoints as plain data."""

from __future__ import annotations

from typing import Any

from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import Interrupt

from line_neurons.agent.text import clean_text


class PlainSerializer(JsonPlusSerializer):
    """Reads numbers, texts, lists and mappings, and refuses whatever names a type to be made.

    LangGraph's own reading makes the types of a list of theirs, and from JSON any class of langchain-core.
    """

    def __init__(self) -> None:
        super().__init__(allowed_msgpack_modules=None, __unpack_ext_hook__=_refuse)

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """See ``JsonPlusSerializer.dumps_typed``; interrupts of a graph are written as plain data too."""
        if isinstance(obj, tuple) and obj and all(isinstance(item, Interrupt) for item in obj):
            obj = [{"value": item.value, "id": item.id} for item in obj]
        return super().dumps_typed(obj)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """See ``JsonPlusSerializer.loads_typed``.

        Raises:
            ValueError: the data is of a kind that this program does not write, or damaged.
        """
        if data[0] not in {"null", "msgpack"}:
            raise ValueError(f"there is data of the kind {clean_text(str(data[0]), 40)!r}")
        return super().loads_typed(data)


def _refuse(code: int, data: bytes) -> Any:
    raise ValueError(f"there is a type to be made (extension {code})")
