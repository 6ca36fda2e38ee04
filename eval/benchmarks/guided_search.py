"""What chooses the next concept best: ``python -m line_neurons.eval.benchmarks.guided_search``.

Every caption of the image bank is measured once. Then each search knows a seeded third of them, as a control set,
and chooses the rest one by one: at random, by nearness, or by expected improvement. No language model takes part.

With ``--loop`` the search itself runs instead, from its own third of the captions, with these and the language
models that are named: ``--loop embedded embedded:5:2 embedded:5:2:improvement`` is one concept a request, two of
five, and two of five with hints by expected improvement. A store that has a search already is read, so that more
of them may be added later.
"""

from __future__ import annotations

import re
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from line_neurons.agent.concepts import concept_key
from line_neurons.agent.ports import Control
from line_neurons.agent.presets import SEARCH_SHARE
from line_neurons.agent.scoreboard import Entry, Scoreboard
from line_neurons.agent.seeds import derive_rng
from line_neurons.agent.settings import load_settings
from line_neurons.graphs.loop import scoring
from line_neurons.graphs.loop.guidance import Guide
from line_neurons.graphs.runs.components import Components
from line_neurons.graphs.runs.lifecycle import recorded_settings, start, work
from line_neurons.tools.store.queries import cost
from line_neurons.tools.store.records import Run
from line_neurons.tools.store.runs import default_store

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import NDArray

CHOOSERS = ("random", "near", "guided")
BUDGETS = (5, 10, 20)
_LAYERS = {"class units": "classifier.1", "hidden units": "features.18"}
_BOARD = 10


@dataclass(frozen=True)
class Measured:
    """A layer's mean activations on the images of every caption: float32 [captions, units]."""

    captions: tuple[str, ...]
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class Search:
    """The search of one unit.

    Args:
        best: the best score after 0, 1, 2 ... chosen concepts.
        maximum: the best score of any caption.
        enough: concepts chosen until the expected improvement was below the share of the best score.
    """

    best: tuple[float, ...]
    maximum: float
    enough: int


def measure(components: Components, layer: str) -> Measured:
    """Measure a layer on the images of every caption, from the cache where they are there."""
    import numpy as np

    deps, captions = components.deps(layer), components.candidates
    rows = []
    for caption in captions:
        images = scoring.generate(deps, caption)
        found = deps.cache.activations(images, deps.target, layer, also=deps.also_layers, generator=deps.generator)
        rows.append(np.asarray(found).mean(0))
    return Measured(captions, np.stack(rows))


def search(measured: Measured, guide: Guide, known: Sequence[str], unit: int, by: str, until: float) -> Search:
    """Search a unit from a known third of the captions, to the largest of ``BUDGETS``."""
    scores = {name: float(row[unit]) for name, row in zip(measured.captions, measured.scores, strict=True)}
    first = sorted((Entry(name, scores[name]) for name in known), key=lambda entry: -entry.score)[:_BOARD]
    scored, tried, rng = list(first), list(known), derive_rng("choose", unit, len(known))
    best, enough = [first[0].score], max(BUDGETS)
    for step in range(max(BUDGETS)):
        top = sorted(scored, key=lambda entry: -entry.score)
        board = Scoreboard(tuple(top[:_BOARD]), _BOARD)
        if by == "random":
            chosen = rng.choice([name for name in measured.captions if name not in tried])
        else:
            ranking = guide.rank(unit, scored, board, tried, 1, "guided" if by == "guided" else "near")
            chosen = ranking.concepts[0]
            if ranking.improvements and ranking.improvements[0] < until * abs(board.best.score):
                enough = min(enough, step)
        scored.append(Entry(chosen, scores[chosen]))
        tried.append(chosen)
        best.append(max(best[-1], scores[chosen]))
    return Search(tuple(best), max(scores.values()), enough)


def closed(searches: Sequence[Search], at: int) -> float:
    """Return the closed share of the gap from the best known to the best of all, after ``at`` concepts."""
    gained = sum(found.best[at] - found.best[0] for found in searches)
    return gained / sum(found.maximum - found.best[0] for found in searches)


def third(captions: Sequence[str], seed: int) -> list[str]:
    """Draw the known third of the captions."""
    return sorted(derive_rng("known", seed).sample(captions, len(captions) // 3))


def units_of(measured: Measured, names: Sequence[str] | None, count: int) -> list[int]:
    """Return units whose class is a caption, or a seeded sample of a layer without classes."""
    if names is None:
        return sorted(derive_rng("units", 0).sample(range(measured.scores.shape[1]), count))
    captions = {concept_key(name) for name in measured.captions}
    return [unit for unit, name in enumerate(names) if concept_key(name) in captions][:count]


def _guide(components: Components, measured: Measured, known: Sequence[str]) -> Guide:
    """Return a guide whose control set are the known captions, with an image each."""
    import numpy as np

    rows = [measured.captions.index(name) for name in known]
    control = Control(tuple(known), np.arange(len(known)), measured.scores[rows])
    return Guide(
        components.settings,
        lambda: components.candidates,
        lambda: components.text_encoder,
        lambda: control,
        components.store / "embeddings",
    )


def lines(components: Components, options: Namespace) -> Iterable[str]:
    """Measure, search, and yield the rows of a Markdown table."""
    budgets = " | ".join(f"N = {at}" for at in BUDGETS)
    yield f"| units | chooses | {budgets} | best found | enough at | closed there |"
    yield f"|---|---|{'---|' * (len(BUDGETS) + 3)}"
    components.layers.update(_LAYERS.values())
    for what, layer in _LAYERS.items():
        measured = measure(components, layer)
        names = components.target.unit_names(layer)
        units = units_of(measured, names if what == "class units" else None, options.units)
        for by in CHOOSERS:
            found = []
            for seed in range(options.seeds):
                known = third(measured.captions, seed)
                guide = _guide(components, measured, known)
                found += [search(measured, guide, known, unit, by, options.until) for unit in units]
            shares = " | ".join(f"{closed(found, at):.2f}" for at in BUDGETS)
            right = sum(one.best[-1] >= one.maximum for one in found) / len(found)
            steps = sum(one.enough for one in found) / len(found)
            gained = sum(one.best[one.enough] - one.best[0] for one in found)
            share = gained / sum(one.maximum - one.best[0] for one in found)
            ends = f"{steps:.1f} | {share:.2f}" if by == "guided" else " | "
            yield f"| {len(units)} {what} | {by} | {shares} | {right:.2f} | {ends} |"


@dataclass(frozen=True)
class Chooser:
    """What chooses the concepts of a search: a language model or none, its proposals, and its hints."""

    llm: str
    proposals: int = 1
    generate: int = 1
    hints_by: str = "near"

    @classmethod
    def of(cls, text: str) -> Chooser:
        """Read ``LLM``, ``LLM:PROPOSALS:GENERATE`` or ``LLM:PROPOSALS:GENERATE:HINTS_BY``."""
        found = re.fullmatch(r"(.+?):(\d+):(\d+)(?::(near|improvement))?", text)
        if found is None:
            return cls(text)
        return cls(found[1], int(found[2]), int(found[3]), found[4] or "near")

    def __str__(self) -> str:
        several = "" if self.proposals == 1 else f", {self.generate} of {self.proposals}"
        return f"{self.llm}{several}{', hints by improvement' if self.hints_by == 'improvement' else ''}"


def loop_lines(components: Components, choosers: Sequence[Chooser], options: Namespace) -> Iterable[str]:
    """Run searches of the same units with each chooser, and yield the rows of a Markdown table."""
    budgets = [at for at in BUDGETS if at <= options.iterations]
    shown = " | ".join(f"N = {at}" for at in budgets)
    yield f"| units | chooses | {shown} | best found | requests | seconds of replies | run |"
    yield f"|---|---|{'---|' * (len(budgets) + 4)}"
    components.layers.update(_LAYERS.values())
    for what, layer in _LAYERS.items():
        if what.split()[0] not in options.layers:
            continue
        measured = measure(components, layer)
        names = components.target.unit_names(layer)
        units = units_of(measured, names if what == "class units" else None, options.units)
        for chooser in choosers:
            changes = {**asdict(chooser), "iterations": options.iterations}
            if names and options.exclude_class:
                changes["exclude_for"] = {unit: (names[unit],) for unit in units}
            settings = components.settings.model_copy(update=changes)
            shared = {name: part for name, part in components.opened().items() if name != "language_model"}
            opened = replace(components, settings=settings).with_(**shared)
            run = work(opened, _run(opened, layer, units))
            found = [_history(opened, run.id, unit, measured) for unit in units]
            shares = " | ".join(f"{closed(found, at):.2f}" for at in budgets)
            right = sum(one.best[-1] >= one.maximum for one in found) / len(found)
            took = cost(opened.runs, run.id, units)
            ends = f"{right:.2f} | {took.requests} | {took.reply_seconds:.0f} | {run.id}"
            yield f"| {len(units)} {what} | {chooser} | {shares} | {ends} |"


def _run(components: Components, layer: str, units: Sequence[int]) -> Run:
    """Return the store's run of a search, finished or not, or start one."""
    settings = recorded_settings(components.settings)
    for run in components.runs.runs():
        searched = [unit.unit for unit in components.runs.units(run.id)]
        if run.layer == layer and run.settings == settings and searched == list(units):
            return run
    return start(components, layer, [str(unit) for unit in units])


def _history(components: Components, run: str, unit: int, measured: Measured) -> Search:
    """Read off the history of a unit what its search found."""
    trials = [trial for trial in components.runs.trials(run, unit) if trial.score is not None]
    best = [max(float(trial.score or 0.0) for trial in trials if trial.kind == "initial")]
    for at in range(1, components.settings.iterations + 1):
        own = [float(trial.score or 0.0) for trial in trials if trial.kind == "iteration" and trial.step == at]
        best.append(max([best[-1], *own]))
    # Concepts beyond the captions may score higher than any of them.
    return Search(tuple(best), max(float(measured.scores[:, unit].max()), best[0]), 0)


def main() -> None:
    """Print the table."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=3, help="known thirds")
    parser.add_argument("--until", type=float, default=0.01, help="as the setting until")
    parser.add_argument("--loop", nargs="+", type=Chooser.of, default=[], help="run the search with these, too")
    parser.add_argument("--layers", nargs="+", choices=["class", "hidden"], default=["class", "hidden"])
    parser.add_argument("--exclude-class", action="store_true", help="keep a unit's class out of its first board")
    parser.add_argument("--iterations", type=int, default=10, help="of the search")
    parser.add_argument("--store", type=Path, default=None)
    options = parser.parse_args()
    settings = load_settings(
        store=options.store or default_store(),
        generator="bank",
        llm="guided",
        summary=not options.loop,
        vocabulary_share=SEARCH_SHARE,
    )
    components = Components("torchvision:mobilenet_v2", settings)
    choosers = list(dict.fromkeys([*map(Chooser, CHOOSERS), *options.loop]))
    found = loop_lines(components, choosers, options) if options.loop else lines(components, options)
    for line in found:
        print(line, flush=True)


if __name__ == "__main__":
    main()
