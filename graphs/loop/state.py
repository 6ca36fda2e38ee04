"""The state of one unit's graph: ids, strings and numbers only, so that every checkpoint stays small."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from typing_extensions import TypedDict

from line_neurons.agent.errors import DrainedError
from line_neurons.agent.scoreboard import Entry, Scoreboard

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph
    from langgraph.runtime import RunControl

    from line_neurons.agent.ports import Control, Generator, LanguageModel, Progress, Target
    from line_neurons.agent.settings import Settings
    from line_neurons.tools.cache.activation_cache import Cache
    from line_neurons.tools.store.runs import RunStore

    LineGraph = CompiledStateGraph["LineState", "Deps", "LineState", "LineState"]
    """The compiled loop of one unit."""

Kind = Literal["initial", "iteration", "summary", "end"]
Outcome = Literal["", "proposed", "refused", "stalled", "drawn"]
Taken = list[int | str]
Row = list[str | float]
"""A [concept, score] pair; tuples would come back from a checkpoint as lists."""


class LineState(TypedDict, total=False):
    """What travels between the nodes of one unit's loop.

    Images and whole-layer vectors stay in the concept bank, the full history in the run store.

    Attributes:
        run: id of the run.
        unit: index of the unit.
        kind: whether the step in hand fills a board, is an iteration or the summary, or the unit is done.
        step: the step in hand, 0 where the first board is filled; it counts on over restarts.
        restart: how often the search began anew.
        begin: the step that filled the board of the search in hand.
        gained: the step that found the best concept of the search in hand.
        found: what each earlier search ended with.
        attempt: how often the model was asked in this step before.
        board: the scoreboard, best first.
        tried: every concept that was scored or that nothing can image, in order; forbidden from then on.
        proposed: those of them that came after a first board, in order.
        refused: why the answers to this step were refused, in the words that the model is told.
        concept: the proposal in hand.
        reasoning: the model's reasoning for it.
        reply: the model's reply as it came.
        llm_seed: the seed with which the model was asked.
        temperature: the temperature with which it was asked.
        seconds: how long the model took.
        model: the fingerprint of the model.
        outcome: what came of the node before; the edges read it.
        images: ids of the concept's images in the concept bank.
        activations: the unit's activation on each image.
        score: psi of those activations.
        best: the best concept seen.
        prompt: the hash of the question that was asked; empty where none was.
        hints: the drawable things that the question named.
        origin: where the proposal in hand comes from: ``proposed``, ``summary``, or ``typed`` by a person.
        pinned: concepts of the board that people want to stay there.
        banned: concepts that people want neither proposed nor as the label.
        typed: concepts of people that come next, in order.
        further: iterations that people asked for beyond the end.
        wishes: what people asked and the search has taken: id, step, attempt, node, and what came of it.
    """

    run: str
    unit: int
    kind: Kind
    step: int
    restart: int
    begin: int
    gained: int
    found: list[str]
    attempt: int
    board: list[Row]
    tried: list[str]
    proposed: list[str]
    refused: list[str]
    concept: str
    reasoning: str
    reply: str
    llm_seed: int
    temperature: float
    seconds: float
    model: str
    outcome: Outcome
    images: list[str]
    activations: list[float]
    score: float
    best: Row
    prompt: str
    hints: list[str]
    origin: str
    pinned: list[str]
    banned: list[str]
    typed: list[str]
    further: int
    wishes: list[Taken]


def stop_if_drained(drain: RunControl | None) -> None:
    """Stop here if that was asked for.

    Raises:
        DrainedError: it was.
    """
    if drain is not None and drain.drain_requested:
        raise DrainedError


@dataclass(frozen=True)
class LLMOverride:
    """Who is asked a question, and how hot."""

    model: LanguageModel
    temperature: float


@dataclass
class Deps:
    """What the nodes work with; handed to the graph at each invocation and never checkpointed.

    Args:
        settings: the run's settings.
        model: the target's spec.
        layer: dotted path of the layer.
        vocabulary: words that the first board is drawn from; empty where a language model names them.
        language_model: proposes.
        generator: draws.
        target: the model under study.
        cache: images and activations.
        runs: history and results.
        control: the control activations of the layer, computed or read when first called; None without a set.
        also: other layers that are worked on, to be measured in the same forward passes.
        drawing: told of the images' progress.
        drain: asks the unit to stop where nothing is lost; None if nobody can.
        otherwise: questions, by seed, that are asked otherwise than the settings say.
    """

    settings: Settings
    model: str
    layer: str
    vocabulary: Sequence[str]
    language_model: LanguageModel
    generator: Generator
    target: Target
    cache: Cache
    runs: RunStore
    control: Callable[[], Control | None]
    also: Sequence[str] = ()
    drawing: Progress | None = None
    drain: RunControl | None = None
    llm_overrides: Mapping[int, LLMOverride] = field(default_factory=dict)

    def check_drain(self) -> None:
        """Stop here if that was asked for.

        Raises:
            DrainedError: it was.
        """
        stop_if_drained(self.drain)


def board_of(state: LineState, capacity: int) -> Scoreboard:
    """The scoreboard in a state."""
    entries = tuple(Entry(str(concept), float(score)) for concept, score in state["board"])
    return Scoreboard(entries, capacity)


def board_rows(board: Scoreboard) -> list[Row]:
    """A scoreboard as plain lists for a state."""
    return [[entry.concept, entry.score] for entry in board.entries]
