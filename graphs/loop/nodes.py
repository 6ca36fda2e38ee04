"""The nodes of the loop, one function each, and the edges between them.

A node may run again after a crash: it reads the state and the caches alone, and what it writes to the run store
replaces what the interrupted attempt wrote.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Literal

from langgraph.runtime import Runtime

from line_neurons.agent.concepts import concept_key, find_duplicate
from line_neurons.agent.errors import (
    BackendError,
    BlankImageError,
    LostImageError,
    NotDrawableError,
    UsageError,
)
from line_neurons.agent.prompts import prompt_hash
from line_neurons.agent.scoreboard import Entry, Scoreboard, update_rng
from line_neurons.agent.scoreboard import update as update_board
from line_neurons.agent.seeds import derive_rng, derive_seed
from line_neurons.graphs.loop import initial_board as initial
from line_neurons.graphs.loop import scoring
from line_neurons.graphs.loop.prompting import ask
from line_neurons.graphs.loop.question import question
from line_neurons.graphs.loop.routing import after_step, best_after, better, next_kind
from line_neurons.graphs.loop.state import Deps, Kind, LineState, board_of, board_rows
from line_neurons.graphs.loop.steering import stop_for_wishes
from line_neurons.graphs.loop.step_log import pairs, put
from line_neurons.graphs.runs.components import recorded_deps
from line_neurons.graphs.runs.results import unvarying
from line_neurons.tools.store.records import Step, Trial

_AFTER_ASKING: dict[str, Literal["ask", "synthesize", "update"]] = {
    "proposed": "synthesize",
    "refused": "ask",
    "stalled": "update",
}
_AFTER_DRAWING: dict[str, Literal["activate", "update"]] = {"drawn": "activate", "stalled": "update"}
_UNASKED: LineState = {"prompt": "", "hints": []}


def init(state: LineState, runtime: Runtime[Deps]) -> LineState:
    """Fill a board and score its concepts on images, as every later concept is scored.

    Where the candidates come from is a setting; in the paper they are the best classes of a control set and some
    random others (section 3.2). A restart fills a new board with what was not tried; where nothing is left for
    one, the unit is done. So it is where its activation never varies: no board is filled for a unit of which the
    control set tells that, and no search begins where the first board does.

    Raises:
        UsageError: there are no candidates for the first board, or none of them can be generated.
        BackendError: more candidates in a row than an answer may be asked for again came out as one plain colour.
        DrainedError: it was asked to stop.
    """
    deps, unit = _begin("init", state, runtime), state["unit"]
    settings, step, restart = deps.settings, state.get("step", 0), state.get("restart", 0)
    tried = state.get("tried", [])
    if _nothing_to_search(deps, state, ()):
        return {
            "step": step, "restart": restart, "begin": step, "gained": step, "found": [], "attempt": 0,
            "board": [], "tried": tried, "refused": [], "outcome": "", "kind": "end",
        }  # fmt: skip
    entries: dict[str, Entry] = {}
    seen: list[Step] = []

    def take(candidates: Iterator[initial.Candidate], wanted: int) -> None:
        plain = 0
        while wanted > 0 and (candidate := next(candidates, None)) is not None:
            deps.check_drain()
            concept = candidate.concept
            if not candidate.refused and concept_key(concept) in entries:
                continue
            place = Step(
                state["run"], unit, step, len(seen), "initial", "scored", concept or None,
                origin=candidate.origin, **candidate.asked,
            )  # fmt: skip
            if candidate.refused:
                seen.append(replace(place, outcome="invalid", detail={"reason": candidate.refused}))
                continue
            try:
                measured = scoring.measure(deps, unit, concept)
            except BlankImageError as error:
                plain += 1
                if plain > settings.retries:
                    raise _gives_plain_images(plain, error) from error
                seen.append(replace(place, outcome="not_drawable", detail={"reason": error.reason}))
                continue
            except NotDrawableError as error:
                seen.append(replace(place, outcome="not_drawable", detail={"nearest": error.nearest[:3]}))
                continue
            entries[concept_key(concept)] = Entry(concept, measured.score)
            seen.append(replace(place, score=measured.score, images=tuple(measured.images)))
            plain = 0
            wanted -= 1

    try:
        best, others = initial.candidates(deps, unit, restart, tried, state.get("found", []))
        take(best, settings.top)
        take(others, settings.capacity - len(entries))
        if not entries:
            raise UsageError(
                "no concept for the first board can be generated by the generator",
                "begin with another vocabulary (--init), or use another generator",
            )
    except UsageError:
        if restart:
            return {"kind": "end"}
        raise
    board = Scoreboard(tuple(entries.values()), settings.capacity)
    deps.runs.put_steps([replace(one, board=pairs(board)) for one in seen])
    following: LineState = {
        "step": step + 1,
        "restart": restart,
        "begin": step,
        "gained": step,
        "found": state.get("found", []),
        "attempt": 0,
        "board": board_rows(board),
        "tried": [*tried, *(one.concept for one in seen if one.concept and one.outcome != "invalid")],
        "refused": [],
        "outcome": "",
        "best": better(state.get("best"), board.best.concept, board.best.score),
    }
    if restart:
        following["pinned"] = []
    if _nothing_to_search(deps, state, deps.runs.trials(state["run"], unit)):
        return following | {"kind": "end"}
    return following | next_kind(state | following, "initial", settings)


def _nothing_to_search(deps: Deps, state: LineState, history: Iterable[Trial]) -> bool:
    """Whether a unit has one activation on all that is known of it, so that no concept could be its label.

    A restart, or a concept that a user typed in, is tried all the same.

    Args:
        deps: the graph's parts.
        state: the unit's state.
        history: what of its history counts: nothing before the first board is filled, whatever a killed process
            wrote down.
    """
    if deps.settings.label_dead or state.get("restart") or state.get("typed"):
        return False
    return unvarying(deps, state["unit"], history) is not None


def propose(state: LineState, runtime: Runtime[Deps]) -> LineState:
    """Ask the language model once for a new concept; a refused answer is asked for again, hotter.

    What a person typed in is proposed instead, in order.
    """
    deps = _begin("propose", state, runtime)
    return _typed(state) if state.get("typed") else _ask(state, deps)


def summarize(state: LineState, runtime: Runtime[Deps]) -> LineState:
    """Ask once for a more general concept over the board's top three (paper, section 3.2, step S)."""
    return _ask(state, _begin("summarize", state, runtime))


def _ask(state: LineState, deps: Deps) -> LineState:
    deps.check_drain()
    settings = deps.settings
    seed = derive_seed("ask", settings.seed, state["unit"], state["step"], state["attempt"])
    hints = _drawable(state, deps, board_of(state, settings.capacity))
    prompt = question(state, settings, hints)
    answer = ask(deps, prompt, seed, state["attempt"])
    asked: LineState = {
        "llm_seed": answer.seed,
        "temperature": answer.temperature,
        "model": answer.model,
        "concept": answer.concept,
        "reasoning": answer.reasoning,
        "reply": answer.reply,
        "seconds": answer.seconds,
        "prompt": prompt_hash(prompt),
        "hints": hints,
        "origin": "summary" if state["kind"] == "summary" else "proposed",
    }
    if answer.unusable:
        return asked | _refuse(state | asked, deps, "invalid", answer.unusable)
    if (forbidden := find_duplicate(answer.concept, state.get("banned", []))) is not None:
        return asked | _refuse(state | asked, deps, "duplicate", f'"{forbidden}" is forbidden.')
    if settings.duplicates == "refuse":
        known = find_duplicate(answer.concept, state["tried"])
        if known is not None:
            return asked | _refuse(state | asked, deps, "duplicate", f'"{known}" was tried already.')
    return asked | {"outcome": "proposed"}


def _typed(state: LineState) -> LineState:
    """A person's concept as the proposal; no model was asked for it."""
    concept, *others = state["typed"]
    return {
        "typed": others,
        "concept": concept,
        "reasoning": "",
        "reply": "",
        "seconds": 0.0,
        "prompt": "",
        "hints": [],
        "origin": "typed",
        "outcome": "proposed",
    }


def _drawable(state: LineState, deps: Deps, board: Scoreboard) -> list[str]:
    """Things the generator can draw near the best concepts, none of them tried, in an order of their own.

    A small model tends to take the first of a list, so the order changes with each question.
    """
    wanted = deps.settings.hints
    if not wanted:
        return []
    tried = {concept_key(concept) for concept in state["tried"]}
    near = deps.generator.suggest([entry.concept for entry in board.top(3)], wanted + len(tried))
    fresh = [concept for concept in near if concept_key(concept) not in tried][:wanted]
    derive_rng("hints", deps.settings.seed, state["unit"], state["step"], state["attempt"]).shuffle(fresh)
    return fresh


def _refuse(state: LineState, deps: Deps, outcome: str, reason: str) -> LineState:
    """Write down a refused answer; after ``retries`` of them the step is recorded as stalled."""
    concept = state.get("concept") or None
    put(state, deps, outcome, concept=concept, detail={"reason": reason})
    known: LineState = {}
    if outcome == "not_drawable" and concept:
        known = {"tried": [*state["tried"], concept], "proposed": [*state.get("proposed", []), concept]}
    attempt = state["attempt"] + 1
    if attempt > deps.settings.retries:
        put(state | {"attempt": attempt, "reasoning": "", "reply": "", "seconds": 0.0} | _UNASKED, deps, "stalled")
        return known | {"attempt": attempt, "outcome": "stalled"}
    return known | {"attempt": attempt, "refused": [*state["refused"], reason], "outcome": "refused"}


def synthesize(state: LineState, runtime: Runtime[Deps]) -> LineState:
    """Draw the concept's images; one that the generator cannot image is refused, and asked for anew.

    Raises:
        BackendError: each concept of this step came out as one plain colour: the generator is at fault, and steps
            that are stalled would hide that.
    """
    deps, concept = _begin("synthesize", state, runtime), state["concept"]
    try:
        images = scoring.draw(deps, concept, scoring.times_scored(concept, state["tried"]))
    except BlankImageError as error:
        before = [BlankImageError.SAID in reason for reason in state["refused"]]
        if len(before) >= deps.settings.retries and all(before):
            raise _gives_plain_images(len(before) + 1, error) from error
        return _refuse(state, deps, "not_drawable", error.reason)
    except NotDrawableError as error:
        near = ", ".join(caption for caption, _ in error.nearest[:3])
        reason = f'"{concept}" cannot be generated' + (f"; near it: {near}." if near else ".")
        return _refuse(state, deps, "not_drawable", reason)
    return {"images": images, "outcome": "drawn"}


def _gives_plain_images(count: int, last: BlankImageError) -> BackendError:
    concepts = f"{count} concepts in a row, the last one {last.concept!r}," if count > 1 else repr(last.concept)
    return BackendError(
        f"{concepts} {BlankImageError.SAID}: the generator gives no images",
        "half precision that overflows does that; start a run with diffusion.dtype bfloat16 or float32, or with"
        " another generator",
    )


def activate(state: LineState, runtime: Runtime[Deps]) -> LineState:
    """Measure the unit on the images; where the store knows nothing of them any more, they are drawn anew."""
    deps, images = _begin("activate", state, runtime), state["images"]
    try:
        activations = scoring.activate(deps, state["unit"], images)
    except LostImageError:
        images = scoring.draw(deps, state["concept"], scoring.times_scored(state["concept"], state["tried"]))
        activations = scoring.activate(deps, state["unit"], images)
    return {"images": images, "activations": activations}


def score(state: LineState, runtime: Runtime[Deps]) -> LineState:
    """Turn the activations into the concept's score."""
    return {"score": scoring.score(_begin("score", state, runtime), state["unit"], state["activations"])}


def update(state: LineState, runtime: Runtime[Deps]) -> LineState:
    """Offer the concept to the board, write the step down and go on to the next."""
    deps = _begin("update", state, runtime)
    settings = deps.settings
    board, kind, step = board_of(state, settings.capacity), state["kind"], state["step"]
    changed: LineState = {}
    if state["outcome"] == "drawn":
        rng = update_rng(settings.seed, state["unit"], step)
        after = update_board(
            board,
            state["concept"],
            state["score"],
            rng,
            state.get("pinned", []),
            overwrite=settings.duplicates == "overwrite",
        )
        changed = {
            "board": board_rows(after.board),
            "tried": [*state["tried"], state["concept"]],
            "proposed": [*state.get("proposed", []), state["concept"]],
            "best": best_after(state.get("best"), state["concept"], state["score"], after.board.best, settings),
        }
        if not board.entries or state["score"] > board.best.score:
            changed["gained"] = step
        put(
            state | changed,
            deps,
            "scored",
            concept=state["concept"],
            score=state["score"],
            images=tuple(state["images"]),
            removed=after.removed.concept if after.removed else None,
        )
    return changed | after_step(state | changed, kind, settings)


def after_asking(state: LineState) -> Literal["ask", "synthesize", "update"]:
    """Where to go from a question: draw, ask again, or record the stall."""
    return _AFTER_ASKING[state["outcome"]]


def after_drawing(state: LineState) -> Literal["activate", "propose", "summarize", "update"]:
    """Where to go from the images: measure, ask for another concept, or record the stall."""
    if state["outcome"] == "refused":
        return "summarize" if state["kind"] == "summary" else "propose"
    return _AFTER_DRAWING[state["outcome"]]


def next_step(state: LineState) -> Kind:
    """Where to go when a step is done: the next iteration, the summary, a new board, or the end."""
    return state["kind"]


def _begin(node: str, state: LineState, runtime: Runtime[Deps]) -> Deps:
    """What a node works with, once nothing is asked of its unit that has to be granted first."""
    # A server such as LangGraph Studio runs the graph without a context; the state names a recorded run then, and
    # its people steer with the server's own means.
    context: object = runtime.context
    if not isinstance(context, Deps):
        return recorded_deps(state["run"])
    stop_for_wishes(context.runs, node, state)
    return context
