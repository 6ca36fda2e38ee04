"""Are labels right where the truth is known: units of a final layer, which stand for a class each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, get_args

from line_neurons.agent.errors import MissingPartError, UsageError
from line_neurons.agent.proposal import concept_key
from line_neurons.eval.choices import Choice
from line_neurons.eval.labels import Labels
from line_neurons.eval.statistics import Paired, compare, holm, shared_units, sign_test, summarise, wilson
from line_neurons.eval.tables import SUMMARY, TESTED, Report, Table, summary_cells, tested_rows
from line_neurons.eval.wordnet import CLOSE, Judged, Relation, WordNet
from line_neurons.tools.run_store import Unit
from line_neurons.tools.vocabulary import imagenet_classes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from line_neurons.tools.image_bank.bank import Bank
    from line_neurons.tools.image_bank.text_encoder import TextEncoder

RELATIONS: tuple[Relation, ...] = get_args(Relation)
_CELLS = ("label", "relation", "similarity")
RIGHT: tuple[Relation, ...] = ("exact", "synonym", "hypernym")


@dataclass(frozen=True)
class TrueClass:
    """What a unit stands for.

    Args:
        unit: the unit.
        name: the class's name.
        synset: its synset in WordNet; None if WordNet has none.
        captions: what an image bank calls it; each counts as a name of it.
    """

    unit: int
    name: str
    synset: int | None
    captions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Marked:
    """A method's label of a unit, marked.

    Args:
        label: the label.
        judged: how it relates to the class.
        similarity: cosine of the sentence embeddings of label and class, the largest over the class's names.
    """

    label: str
    judged: Judged
    similarity: float


def is_right(verdict: Judged) -> bool:
    """Whether a label counts: the class, a synonym, or a more general word."""
    return verdict.relation in RIGHT


def judge(words: WordNet, label: str, true: TrueClass) -> Judged:
    """How a label relates to a class; a caption of the class counts as a name of it."""
    key = concept_key(label)
    if true.synset is not None:
        verdict = words.judge(label, true.name, true.synset)
    else:
        verdict = Judged("exact" if key == concept_key(true.name) else "other")
    if verdict.relation != "exact" and key in {concept_key(caption) for caption in true.captions}:
        return Judged("synonym")
    return verdict


def names_of(words: WordNet, true: TrueClass) -> tuple[str, ...]:
    """Every name of a class: its own, WordNet's and an image bank's."""
    lemmas = words.lemmas[true.synset] if true.synset is not None else ()
    return tuple(dict.fromkeys((true.name, *lemmas, *true.captions)))


def true_classes(words: WordNet, units: Sequence[Unit], bank: Bank | None = None) -> list[TrueClass]:
    """The classes that units stand for; ImageNet's with the sense that its order settles.

    Args:
        words: WordNet.
        units: units of a run.
        bank: an image bank that the labels may be captions of.

    Raises:
        UsageError: the units have no class names.
    """
    named = [(unit.unit, unit.name) for unit in units if unit.name]
    if not named:
        raise UsageError(
            "the units of these runs stand for no classes", "name runs over a classifier's last layer"
        )
    known = _imagenet()
    order = words.class_synsets(known) if all(known[unit : unit + 1] == [name] for unit, name in named) else None
    known_captions = captions_by_name(bank) if bank else {}
    found = []
    for unit, name in named:
        synset = order[unit] if order else next(iter(words.senses(name)), None)
        captions = captions_of(known_captions, words, name, synset)
        found.append(TrueClass(unit, name, synset, captions))
    return found


def _imagenet() -> list[str]:
    try:
        return imagenet_classes()
    except MissingPartError:
        return []


def captions_by_name(bank: Bank) -> dict[str, set[str]]:
    """The captions of the search's pictures by the key of everything that these may be called."""
    found: dict[str, set[str]] = {}
    for entry in bank.select("search"):
        if entry.is_subject:
            for name in (entry.caption, *entry.also):
                found.setdefault(concept_key(name), set()).add(entry.caption)
    return found


def captions_of(known: Mapping[str, set[str]], words: WordNet, name: str, synset: int | None) -> tuple[str, ...]:
    """What an image bank calls a class, sorted.

    Args:
        known: see ``captions_by_name``.
        words: WordNet.
        name: the class's name.
        synset: its synset, if it has one.
    """
    lemmas = words.lemmas[synset] if synset is not None else ()
    keys = {concept_key(lemma) for lemma in (*lemmas, name)}
    return tuple(sorted({caption for key in keys for caption in known.get(key, ())}))


def mark(words: WordNet, encoder: TextEncoder, labels: Labels, classes: Sequence[TrueClass]) -> dict[int, Marked]:
    """A method's labels of some units, marked, by unit."""
    own = {label.unit: label.concept for label in labels.labels}
    true = [one for one in classes if one.unit in own]
    names = [names_of(words, one) for one in true]
    texts = list(dict.fromkeys(text for one in true for text in (own[one.unit], *names_of(words, one))))
    vectors = dict(zip(texts, encoder.encode(texts), strict=True))
    return {
        one.unit: Marked(
            own[one.unit],
            judge(words, own[one.unit], one),
            max(float(vectors[own[one.unit]] @ vectors[name]) for name in own_names),
        )
        for one, own_names in zip(true, names, strict=True)
    }


@dataclass(frozen=True)
class Method:
    """A method's labels, and what they could be chosen from; ``detail`` tells it from another of its name."""

    labels: Labels
    detail: str
    choice: Choice = field(default_factory=Choice)


def quality(
    methods: Sequence[Method], classes: Sequence[TrueClass], words: WordNet, encoder: TextEncoder
) -> Report:
    """Every method's labels against the classes, and against the first method.

    Args:
        methods: what they say.
        classes: what the units stand for.
        words: WordNet.
        encoder: of texts.

    Raises:
        UsageError: the methods have no unit in common.
    """
    marked = [mark(words, encoder, one.labels, classes) for one in methods]
    units = shared_units([list(one) for one in marked], "methods, of the units that stand for classes,")
    every_name = {one.unit: names_of(words, one) for one in classes}
    names = _names(methods)
    rows, right = [], []
    for name, method, own in zip(names, methods, marked, strict=True):
        states = {unit: method.choice.has(unit, every_name[unit]) for unit in units}
        right.append({unit for unit in units if is_right(own[unit].judged)})
        groups = sorted(set(states.values()))
        for group in ["all", *groups] if len(groups) > 1 else groups:
            of_group = [own[unit] for unit in units if group in {"all", states[unit]}]
            rows.append((name, group, *_shares(of_group)))
    against = [_against(right[0], other) for other in right[1:]]
    corrected = holm([row[-1] for row in against])
    tables = [
        Table(
            "quality",
            "Labels of units that stand for a class",
            ("method", "class in the vocabulary", "n", "right", "share", "low", "high", *RELATIONS,
             "close hypernym", *(f"similarity {name}" for name in SUMMARY)),
            tuple(rows),
            f"Right: exact, synonym or hypernym by WordNet, with Wilson's 95 % interval; close: within {CLOSE} "
            "levels. Similarity: cosine of sentence embeddings of label and class, the largest over the names of "
            "the class. The vocabulary: of a run what its first boards were drawn from, of a baseline the words "
            "that it chose from; kept out: a name of the class was kept from the unit. "
            "Units that people steered are left out.",
        ),
        Table(
            "quality-tests",
            f"Against {names[0]}",
            ("method", "n", "right only here", "wrong only here", "p", "Holm p"),
            tuple(
                (name, len(units), *row, p) for name, row, p in zip(names[1:], against, corrected, strict=True)
            ),
            "McNemar's exact test of the units that one method has right and the other wrong.",
        ),
        Table(
            "quality-similarity-tests",
            f"Similarity to the class: differences to {names[0]}",
            ("method", *TESTED),
            tuple(tested_rows(_similarities(names, marked, units))),
            "Pair by pair: Shapiro-Wilk test of the differences at .05, then paired t-test (effect: d_z) or "
            "Wilcoxon's signed-rank test (effect: rank-biserial correlation); Holm's correction over the table.",
        ),
        Table(
            "quality-units",
            "Each unit",
            ("unit", "class", *(f"{name} {cell}" for name in names for cell in _CELLS)),
            tuple(
                (one.unit, one.name, *(cell for own in marked for cell in _cells(own[one.unit])))
                for one in classes
                if one.unit in set(units)
            ),
        ),
    ]  # fmt: skip
    if len(methods) == 1:
        del tables[1:3]
    return Report("quality", "Are the labels right?", tuple(tables), {"quality": _drawing(names, marked, units)})


def _names(methods: Sequence[Method]) -> list[str]:
    kinds = [one.labels.method for one in methods]
    return [
        kind if kinds.count(kind) == 1 else f"{kind} ({one.detail})"
        for kind, one in zip(kinds, methods, strict=True)
    ]


def _shares(marked: Sequence[Marked]) -> tuple[float, ...]:
    total = len(marked)
    right = sum(is_right(one.judged) for one in marked)
    counts = Counter(one.judged.relation for one in marked)
    close = sum(one.judged.relation == "hypernym" and one.judged.levels <= CLOSE for one in marked)
    similarity = summarise([one.similarity for one in marked])
    return (
        total, right, right / total, *wilson(right, total), *(counts[one] for one in RELATIONS), close,
        *summary_cells(similarity),
    )  # fmt: skip


def _against(first: set[int], other: set[int]) -> tuple[int, int, float]:
    gained, lost = len(other - first), len(first - other)
    return gained, lost, sign_test(gained, lost)


def _similarities(
    names: Sequence[str], marked: Sequence[Mapping[int, Marked]], units: Sequence[int]
) -> list[tuple[tuple[str], Paired]]:
    first, *others = ([own[unit].similarity for unit in units] for own in marked)
    return [((name,), compare(own, first)) for name, own in zip(names[1:], others, strict=True)]


def _cells(marked: Marked) -> tuple[str, str, float]:
    return marked.label, marked.judged.relation, marked.similarity


def _drawing(
    names: Sequence[str], marked: Sequence[Mapping[int, Marked]], units: Sequence[int]
) -> Callable[[], Figure]:
    def draw() -> Figure:
        from line_neurons.eval.figures import intervals, name_of, panels

        shades = ("#08519c", "#4292c6", "#9ecae1", "#fdd0a2", "#fee6ce", "#ececec")
        figure, ((left, right),) = panels(1, 2, 1.3 + 0.28 * len(names))
        for place, own in enumerate(marked):
            counts = Counter(own[unit].judged.relation for unit in units)
            start = 0.0
            for relation, shade in zip(RELATIONS, shades, strict=True):
                share = counts[relation] / len(units)
                told = relation if place == 0 else None
                left.barh(place, share, 0.62, start, color=shade, label=told, edgecolor="white", linewidth=0.5)
                start += share
            hits = sum(counts[relation] for relation in RIGHT)
            low, high = wilson(hits, len(units))
            left.errorbar(
                hits / len(units), place, xerr=[[hits / len(units) - low], [high - hits / len(units)]],
                color="#000000", capsize=2.5, linewidth=1.1,
            )  # fmt: skip
        left.set_yticks(range(len(names)), [name_of(name, 28) for name in names])
        left.set_ylim(len(names) - 0.5, -0.5)
        left.grid(visible=False, axis="y")
        left.set_xlim(0, 1)
        left.set_title(f"Label and class (n = {len(units)}; right: 95 %)")
        left.legend(ncols=3, loc="upper center", bbox_to_anchor=(0.4, -0.16), handlelength=1.2)
        intervals(right, names, [summarise([own[unit].similarity for unit in units]) for own in marked])
        right.set_yticklabels([])
        right.set_title("Similarity to the class (95 % interval)")
        return figure

    return draw
