"""Label units of the last layer, whose true class is known, and compare proposers.

``python -m line_neurons.eval.reports.class_units`` labels units of the embedded target's last layer whose class
the image bank has, with every name of the class kept off the initial scoreboard. All runs stay in the store; the
same command again finishes what is missing and prints the tables from the histories.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from line_neurons.agent.presets import SEARCH_SHARE, SERVERS
from line_neurons.agent.settings import load_settings
from line_neurons.eval.labels.wordnet import Verdict, WordNet
from line_neurons.eval.reports.label_quality import RELATIONS, TrueClass, Truth, is_named, is_right, true_classes
from line_neurons.eval.reports.proposals import ProposerStats, proposer_stats
from line_neurons.eval.reports.statistics import sign_test, wilson_interval
from line_neurons.graphs.loop.scoring import measure
from line_neurons.graphs.runs.components import Components
from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.graphs.runs.reopening import reopen
from line_neurons.tools.image_bank.bank import Bank
from line_neurons.tools.store.records import Run, Unit

MODEL = "torchvision:mobilenet_v2"
LAYER = "classifier.1"


@dataclass(frozen=True)
class Missed:
    """Why units were not labelled right.

    Args:
        unproposed: the class's captions were never scored for the unit, though their images score higher than the
            label.
        beaten: another concept's images score higher than those of the class's captions.
    """

    unproposed: tuple[str, ...]
    beaten: tuple[str, ...]


def drawable_classes(bank: Bank, words: WordNet, names: Sequence[str]) -> list[TrueClass]:
    """Return the classes of which the bank has a search image under one of the class's names."""
    units = [Unit("", unit, unit, name=name) for unit, name in enumerate(names)]
    return [true for true in true_classes(words, units, bank) if true.captions]


def sample(units: Sequence[TrueClass], count: int, seed: int = 42) -> list[TrueClass]:
    """Draw ``count`` of the units at random without replacement, in the order of their index."""
    return sorted(Random(seed).sample(list(units), min(count, len(units))), key=lambda one: one.unit)


def run_of(components: Components, units: Sequence[TrueClass], command: str) -> Run:
    """Return the finished run of a command: a new one, or an earlier one, resumed."""
    known = [run for run in components.runs.runs() if run.command == command]
    if known:
        run = known[0]
        if run.status == "finished":
            return run
        return work(reopen(run, components.settings.store, components.settings.assets), run)
    run = start(components, LAYER, [str(true.unit) for true in units], command=command)
    return work(components, run)


Row = tuple[TrueClass, Unit, Verdict]


def judge_all(words: WordNet, classes: Sequence[TrueClass], units: Sequence[Unit]) -> list[Row]:
    """Return each unit with its label's relation to its class."""
    by_unit = {unit.unit: unit for unit in units}
    truth = Truth(words, classes)
    return [(true, by_unit[true.unit], truth.judge(by_unit[true.unit].label or "", true)) for true in classes]


def missed_classes(components: Components, judged: Sequence[Row]) -> Missed:
    """Score each missed class's own captions like any concept, and compare them with the label."""
    deps = components.deps(LAYER)
    unproposed: list[str] = []
    beaten: list[str] = []
    for true, unit, verdict in judged:
        if is_right(verdict):
            continue
        own = max(measure(deps, true.unit, caption).score for caption in true.captions)
        (unproposed if own > (unit.score or 0.0) else beaten).append(true.name)
    return Missed(tuple(unproposed), tuple(beaten))


def main(arguments: Sequence[str] | None = None) -> None:
    """Label the units and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m line_neurons.eval.reports.class_units", description=__doc__)
    parser.add_argument("--units", type=int, default=48, help="how many units (default 48)")
    parser.add_argument("--llm", action="append", help="a language model; repeatable (default embedded)")
    parser.add_argument("--ollama", help="Ollama servers, with commas between")
    parser.add_argument("--base-url", help="OpenAI-compatible servers, with commas between")
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--hints", type=int, default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", type=Path, default=Path("line-store/class-units"))
    parser.add_argument("--assets", type=Path, default=None)
    parser.add_argument("--json", type=Path, help="also write every unit's verdict to this file")
    options = parser.parse_args(arguments)
    report = {}
    right: dict[str, set[int]] = {}
    for llm in options.llm or ["embedded"]:
        plain = {"llm": llm, "iterations": options.iterations, "hints": options.hints, "seed": options.seed}
        images = {"generator": "bank", "control": "bank", "init": "control", "vocabulary_share": SEARCH_SHARE}
        places = {name: getattr(options, name) for name in (*SERVERS, "store", "assets")}
        flags = {**plain, **images, **places}
        components = Components(MODEL, load_settings(**flags))
        words = WordNet(components.assets / "wordnet")
        names = components.target.unit_names(LAYER) or ()
        every = drawable_classes(components.image_bank, words, names)
        classes = sample(every, options.units)
        excluded = {true.unit: (*true.captions, true.name) for true in classes}
        components = Components(MODEL, components.settings.model_copy(update={"exclude_for": excluded}))
        run = run_of(components, classes, f"class_units {options.units} {json.dumps(plain)}")
        units = components.runs.units(run.id)
        histories = [components.runs.steps(run.id, unit.unit) for unit in units]
        judged = judge_all(words, classes, units)
        _print(run, len(every), judged, proposer_stats(histories, units), missed_classes(components, judged))
        right[llm] = {true.unit for true, _, verdict in judged if is_right(verdict)}
        report[llm] = [
            {"unit": true.unit, "class": true.name, "label": unit.label, "relation": verdict.relation,
             "levels": verdict.levels, "origin": unit.origin, "step": unit.label_step, "score": unit.score,
             "margin": unit.margin}
            for true, unit, verdict in judged
        ]  # fmt: skip
    first, *others = right
    for other in others:
        gained, lost = len(right[other] - right[first]), len(right[first] - right[other])
        print(f"\n{other} against {first}: right where the other is wrong {gained}, ", end="")
        print(f"wrong where it is right {lost}, p = {sign_test(gained, lost):.2g}")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


def _print(run: Run, drawable: int, judged: Sequence[Row], proposer: ProposerStats, missed: Missed) -> None:
    counts = Counter(verdict.relation for _, _, verdict in judged)
    total = len(judged)
    print(f"\nrun {run.id}, language model {run.settings['llm']}, N = {run.settings['iterations']}, ", end="")
    print(f"hints {run.settings['hints']}, {total} of {drawable} classes that the bank has")
    for title, counted in (
        ("named (exact or synonym)", is_named),
        ("right (modified and hypernyms too)", is_right),
    ):
        hits = sum(counted(verdict) for _, _, verdict in judged)
        low, high = wilson_interval(hits, total)
        print(f"  {title}: {hits}/{total} = {hits / total:.2f} [{low:.2f}, {high:.2f}]")
    print(f"  {', '.join(f'{relation} {counts[relation]}' for relation in RELATIONS)}")
    print(
        f"  requests {proposer.requests}: valid {proposer.valid:.2f}, new {proposer.new:.2f}, "
        f"drawable {proposer.drawable:.2f}, stalled steps {proposer.stalled:.2f}, "
        f"{proposer.seconds:.1f} s each; best proposed over best initial {proposer.best:+.2f}, "
        f"label proposed {proposer.won:.2f}"
    )
    print(f"  missed, own images score higher but were never proposed: {', '.join(missed.unproposed) or 'none'}")
    print(f"  missed, another concept's images score higher: {', '.join(missed.beaten) or 'none'}")
    for true, unit, verdict in judged:
        if verdict.relation not in {"exact", "synonym"}:
            print(f"    {true.unit:4d} {true.name}: {unit.label} ({verdict.relation}, score {unit.score:.1f})")


if __name__ == "__main__":
    main()
