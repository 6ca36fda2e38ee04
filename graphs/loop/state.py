"""The state of one unit's graph: ids, strings and numbers only, so that every checkpoint stays small."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from typing_extensions import TypedDict

from line_neurons.agent.errors import DrainedError
from line_neurons.agent.scoreboard import Entry, Scoreboard

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph
    from langgraph.runtime import RunControl

    from line_neurons.agent.ports import Control, Generator, LanguageModel, Progress, Target
    from line_neurons.agent.settings import Settings
    from line_neurons.graphs.loop.guidance import Guide
    from line_neurons.tools.cache.activation_cache import Cache
    from line_neurons.tools.facets.control_vectors import ControlVectors
    from line_neurons.tools.store.activity import WorkerStatus
    from line_neurons.tools.store.runs import RunStore

    LineGraph = CompiledStateGraph["LineState", "Deps", "LineState", "LineState"]
    """The compiled loop of one unit."""

StepKind = Literal["initial", "iteration", "summary", "end"]
NodeOutcome = Literal["", "proposed", "refused", "stalled", "drawn"]
AppliedCommand = list[int | str]
"""[id, step, attempt, node, outcome] of a steering command."""
ConceptScore = list[str | float]
"""A [concept, score] pair; tuples would come back from a checkpoint as lists."""

WaitingConcept = list[str | int]
"""[concept, step that named it] of a proposal that was not generated yet."""


class LineState(TypedDict, total=False):
    """What travels between the nodes of one unit's loop.

    Images and whole-layer vectors are in the cache, the full history in the run store.

    Attributes:
        run: id of the run.
        unit: index of the unit.
        kind: kind of the current step; ``end`` where the unit is done.
        step: index of the current step, 0 for the first board; it counts on over restarts.
        restart: number of restarts so far.
        begin: the step that filled the board of the current search.
        gained: the step that found the best concept of the current search.
        found: the best concept of each earlier search.
        facet: names of the strongest sources of the facet that the search is for; missing in other searches.
        facets: a source of each further facet that was requested, in order.
        searched: the strongest source of each facet that a search was for.
        attempt: number of earlier attempts in this step.
        board: the scoreboard, best first.
        tried: every concept that was scored or cannot be generated, in order; none is proposed again.
        proposed: those of them that came after a first board, in order.
        refused: why replies of this step were refused, in words for the model.
        concept: the current proposal.
        reasoning: the model's reasoning for it.
        reply: the model's unparsed reply.
        llm_seed: sampling seed of the request.
        temperature: sampling temperature of the request.
        seconds: duration of the request.
        model: fingerprint of the language model.
        outcome: outcome of the node before; the edges read it.
        images: ids of the concept's images in the cache.
        activations: the unit's activation on each image.
        score: psi of those activations.
        best: the best concept so far.
        prompt: hash of the prompt; empty where none was sent.
        hints: the drawable things that the prompt named.
        guidance: the response model's prediction of the proposal, see ``guidance``; empty where there is none.
        expected: expected improvement of a further step, with ``until``; -1 where it is not known.
        waiting: with several proposals a request, the concepts that were named and not generated yet.
        left: how many of them are generated before the next request.
        proposals: the record of them for the history; empty where there is none.
        aside: why other concepts of the current reply were refused; each is an attempt after the current one.
        siblings: number of such attempts in this step before the current one.
        own_request: the proposal came with a request of its own.
        held: what is said of the last concept with the next request.
        origin: ``proposed``, ``summary``, or ``typed`` by the user.
        pinned: concepts that stay on the board.
        banned: concepts that are neither proposed nor the label.
        typed: the user's concepts to be proposed next, in order.
        further: iterations requested beyond the end.
        wishes: steering commands applied so far: id, step, attempt, node, outcome.
    """

    run: str
    unit: int
    kind: StepKind
    step: int
    restart: int
    begin: int
    gained: int
    found: list[str]
    facet: list[str]
    facets: list[str]
    searched: list[str]
    attempt: int
    board: list[ConceptScore]
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
    outcome: NodeOutcome
    images: list[str]
    activations: list[float]
    score: float
    best: ConceptScore
    prompt: str
    hints: list[str]
    guidance: dict[str, Any]
    expected: float
    waiting: list[WaitingConcept]
    left: int
    proposals: dict[str, Any]
    aside: list[str]
    siblings: int
    held: list[str]
    own_request: bool
    origin: str
    pinned: list[str]
    banned: list[str]
    typed: list[str]
    further: int
    wishes: list[AppliedCommand]


def after_refusal(state: LineState, reason: str) -> LineState:
    """Return what a refused or withdrawn proposal changes; ``reason`` is in words for the model."""
    aside = state.get("aside", [])
    changes: LineState = {
        "attempt": state["attempt"] + 1 + len(aside),
        "refused": [*state["refused"], reason, *aside],
    }
    if aside:
        changes |= {"aside": [], "siblings": state.get("siblings", 0) + len(aside)}
    return changes


def stop_if_drained(drain: RunControl | None) -> None:
    """Raise DrainedError if a stop was requested."""
    if drain is not None and drain.drain_requested:
        raise DrainedError


@dataclass(frozen=True)
class LLMOverride:
    """The language model and the sampling temperature of one request, in place of those of the settings."""

    model: LanguageModel
    temperature: float


@dataclass
class Deps:
    """What the nodes work with; handed to the graph at each invocation and never checkpointed.

    Args:
        vocabulary: words that the first board is drawn from; empty where a language model names them.
        control: returns the control activations of the layer, measured or read at the first call; None without a
            control set.
        control_vectors: returns the control set in the space of the layer; None without a control set.
        captions: returns the captions of control images by row, for ``init`` images.
        also_layers: other layers to measure in the same forward passes.
        drain: requests a stop at the next point where nothing is lost.
        llm_overrides: by the seed of a request.
        workers: says what the workers that generate and measure have done; none where this process does.
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
    control_vectors: Callable[[], ControlVectors | None]
    guide: Guide
    captions: Callable[[Sequence[int]], list[str]]
    also_layers: Sequence[str] = ()
    on_image: Progress | None = None
    drain: RunControl | None = None
    llm_overrides: Mapping[int, LLMOverride] = field(default_factory=dict)
    workers: Callable[[], Sequence[WorkerStatus]] = tuple

    def check_drain(self) -> None:
        """Raise DrainedError if a stop was requested."""
        stop_if_drained(self.drain)


def board_of(state: LineState, capacity: int) -> Scoreboard:
    """Return the scoreboard of a state."""
    entries = tuple(Entry(str(concept), float(score)) for concept, score in state["board"])
    return Scoreboard(entries, capacity)


def board_rows(board: Scoreboard) -> list[ConceptScore]:
    """Return a scoreboard as plain lists for a state."""
    return [[entry.concept, entry.score] for entry in board.entries]
