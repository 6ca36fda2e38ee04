"""Whether labels are right for units of a last layer, whose class is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, get_args

from line_neurons.agent.concepts import concept_key
from line_neurons.agent.errors import NotDrawableError, UsageError
from line_neurons.eval.cosy.formulas import alternatives
from line_neurons.eval.labels.imagenet import are_imagenets, imagenet_table
from line_neurons.eval.labels.labels import Labels
from line_neurons.eval.labels.vocabulary import LabelVocabulary
from line_neurons.eval.labels.wordnet import CLOSE, WIDEST, Coverage, Relation, Verdict, WordNet
from line_neurons.eval.reports.statistics import (
    PairedTest,
    compare,
    holm_correction,
    shared_units,
    sign_test,
    summarise,
    wilson_interval,
)
from line_neurons.eval.reports.table import (
    INTERVAL_NOTE,
    SUMMARY_COLUMNS,
    TEST_COLUMNS,
    Report,
    Row,
    Table,
    summary_cells,
    tested_rows,
)
from line_neurons.tools.store.records import Unit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from line_neurons.tools.image_bank.bank import Bank
    from line_neurons.tools.image_bank.text_encoder import TextEncoder

RELATIONS: tuple[Relation, ...] = get_args(Relation)
_CELLS = ("label", "relation", "similarity")
_NAMED_GUESSES = 20
NAMED: tuple[Relation, ...] = ("exact", "synonym")
RIGHT: tuple[Relation, ...] = (*NAMED, "modified", "hypernym")


@dataclass(frozen=True)
class TrueClass:
    """The class of a unit.

    Args:
        synset: its synset in WordNet; None if WordNet has none.
        also: further names, reviewed.
        captions: an image bank's captions of the class. They may be wider or narrower than the class, so they do
            not count as its names; where the class is excluded from a unit, so is each of them.
        guessed: the name has several senses, and the most frequent one was chosen.
    """

    unit: int
    name: str
    synset: int | None
    also: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    guessed: bool = False


@dataclass(frozen=True)
class MarkedLabel:
    """A method's label of a unit with its verdict.

    Args:
        judged: its relation to the class.
        similarity: cosine of the sentence embeddings of label and class, the largest over the class's names.
    """

    label: str
    judged: Verdict
    similarity: float


def is_named(verdict: Verdict) -> bool:
    """Return whether a label is a name of the class: its own or a synonym."""
    return verdict.relation in NAMED


def is_right(verdict: Verdict) -> bool:
    """Return whether a label is right: a name of the class, one with a modifier, or a close, narrow hypernym."""
    return verdict.relation in RIGHT


_COUNTED: dict[str, Callable[[Verdict], bool]] = {"named": is_named, "right": is_right}


@dataclass(frozen=True)
class Truth:
    """The classes of a layer's units, and WordNet to compare labels with them."""

    words: WordNet
    classes: Sequence[TrueClass]

    @cached_property
    def _own(self) -> Coverage | None:
        """Coverage of these classes; None for units of ImageNet-1K, of which WordNet has all classes."""
        table = dict(enumerate(imagenet_table()))
        if all(true.unit in table and table[true.unit].synset == true.synset for true in self.classes):
            return None
        return self.words.coverage(true.synset for true in self.classes if true.synset is not None)

    def judge(self, label: str, true: TrueClass) -> Verdict:
        """Return the relation of a label to a class; see ``WordNet.judge``.

        Of several names with commas between, the first counts. A formula is as right as the worst of its
        alternatives (OR), each of them as right as the best of its conjuncts (AND); negated concepts (NOT) do not
        count.
        """
        if concept_key(label) == concept_key(true.name):
            return Verdict("exact")
        first = label.partition(",")[0].strip()
        try:
            found = alternatives(first)
        except NotDrawableError:
            return Verdict("other")
        if found == [first]:
            return self._judge(first, true)
        return max(
            (min((self._judge(part, true) for part in phrase.split(" and ")), key=_place) for phrase in found),
            key=_place,
        )

    def _judge(self, label: str, true: TrueClass) -> Verdict:
        if true.synset is None:
            return Verdict("exact" if concept_key(label) == concept_key(true.name) else "other")
        return self.words.judge(label, true.name, true.synset, also=true.also, among=self._own)


def _place(verdict: Verdict) -> int:
    return RELATIONS.index(verdict.relation)


def names_of(words: WordNet, true: TrueClass) -> tuple[str, ...]:
    """Return every name of a class: its own, WordNet's and the reviewed ones."""
    lemmas = words.lemmas.get(true.synset, ()) if true.synset is not None else ()
    return tuple(dict.fromkeys((true.name, *lemmas, *true.also)))


def names_and_captions(words: WordNet, true: TrueClass) -> tuple[str, ...]:
    """Return every name of a class, and an image bank's captions of it."""
    return tuple(dict.fromkeys((*names_of(words, true), *true.captions)))


def true_classes(words: WordNet, units: Sequence[Unit], bank: Bank | None = None) -> list[TrueClass]:
    """Return the classes of units.

    ImageNet-1K's have their official synsets, others the most frequent sense of their name.

    Args:
        bank: an image bank whose captions may be labels.

    Raises:
        UsageError: the units have no class names.
    """
    named = [(unit.unit, unit.name) for unit in units if unit.name]
    if not named:
        raise UsageError("the units of these runs have no class names", "name runs over a classifier's last layer")
    official = are_imagenets(named, words.lemmas)
    known_captions = captions_by_name(bank) if bank else {}
    found = []
    for unit, name in named:
        senses = [imagenet_table()[unit].synset] if official else words.senses(name)
        also = imagenet_table()[unit].also if official else ()
        synset = next(iter(senses), None)
        captions = captions_of(known_captions, words, name, synset)
        found.append(TrueClass(unit, name, synset, also, captions, guessed=len(senses) > 1))
    return found


def sense_notes(classes: Sequence[TrueClass]) -> tuple[str, ...]:
    """Return a sentence that names the classes whose sense is a guess, if there are any."""
    names = [true.name for true in classes if true.guessed]
    if not names:
        return ()
    more = f" and {len(names) - _NAMED_GUESSES} others" if len(names) > _NAMED_GUESSES else ""
    return (
        "These classes are not ImageNet-1K's, and their names have several senses in WordNet, of which the most "
        f"usual was taken: {', '.join(names[:_NAMED_GUESSES])}{more}.",
    )


def captions_by_name(bank: Bank) -> dict[str, set[str]]:
    """Return the captions of the search images by the key of each of their names."""
    found: dict[str, set[str]] = {}
    for entry in bank.select("search"):
        if entry.is_subject:
            for name in (entry.caption, *entry.also):
                found.setdefault(concept_key(name), set()).add(entry.caption)
    return found


def captions_of(known: Mapping[str, set[str]], words: WordNet, name: str, synset: int | None) -> tuple[str, ...]:
    """Return an image bank's captions of a class, sorted.

    Args:
        known: see ``captions_by_name``.
    """
    lemmas = words.lemmas[synset] if synset is not None else ()
    keys = {concept_key(lemma) for lemma in (*lemmas, name)}
    return tuple(sorted({caption for key in keys for caption in known.get(key, ())}))


def mark(truth: Truth, encoder: TextEncoder, labels: Labels) -> dict[int, MarkedLabel]:
    """Mark a method's labels of some units, by unit."""
    own = {label.unit: label.concept for label in labels.labels}
    true = [one for one in truth.classes if one.unit in own]
    names = [names_of(truth.words, cls) for cls in true]
    texts = list(
        dict.fromkeys(text for cls, known in zip(true, names, strict=True) for text in (own[cls.unit], *known))
    )
    vectors = dict(zip(texts, encoder.encode(texts), strict=True))
    return {
        cls.unit: MarkedLabel(
            own[cls.unit],
            truth.judge(own[cls.unit], cls),
            max(float(vectors[own[cls.unit]] @ vectors[name]) for name in own_names),
        )
        for cls, own_names in zip(true, names, strict=True)
    }


@dataclass(frozen=True)
class LabelSource:
    """A method's labels and their vocabulary; ``detail`` tells it from another of the same method."""

    labels: Labels
    detail: str
    choice: LabelVocabulary = field(default_factory=LabelVocabulary)


def quality(
    methods: Sequence[LabelSource], classes: Sequence[TrueClass], words: WordNet, encoder: TextEncoder
) -> Report:
    """Compare every method's labels with the classes, and with the first method.

    Raises:
        UsageError: the methods have no unit in common.
    """
    truth = Truth(words, classes)
    marked = [mark(truth, encoder, one.labels) for one in methods]
    units = shared_units([list(label) for label in marked], "methods, for units with known classes,")
    known = {true.unit: names_and_captions(words, true) for true in classes}
    names = _names(methods)
    rows = [
        row
        for name, method, own in zip(names, methods, marked, strict=True)
        for row in _rows(name, {unit: method.choice.has(unit, known[unit]) for unit in units}, own)
    ]
    tables = [
        Table(
            "quality",
            "Labels of units with a known class",
            ("method", "class in the vocabulary", "n", "named", "named share", "named low", "named high",
             "right", "share", "low", "high", *RELATIONS, *(f"similarity {name}" for name in SUMMARY_COLUMNS)),
            tuple(rows),
            "Named: exact or synonym by WordNet; right: also the class's name with a modifier, and hypernyms up "
            f"to {CLOSE} levels that cover at most {WIDEST:.0%} of the classes; both with Wilson's 95 % interval. "
            "General: words further up or for more classes, which are not right. Similarity: cosine of sentence "
            f"embeddings of label and class, the largest over the names of the class. {INTERVAL_NOTE} "
            "Vocabulary: of a run that of its initial scoreboards, of a baseline the "
            "words that it chose from; kept out: a name of the class was excluded for the unit. "
            "Steered units are left out.",
        ),
        Table(
            "quality-tests",
            f"Against {names[0]}",
            ("measure", "method", "n", "right only here", "wrong only here", "p", "Holm p"),
            tuple(_mcnemar(names, marked, units)),
            "McNemar's exact test of the units that one method has right and the other wrong: named counts only "
            "names of the class, right all right labels; Holm's correction over the table.",
        ),
        Table(
            "quality-similarity-tests",
            f"Similarity to the class: differences to {names[0]}",
            ("method", *TEST_COLUMNS),
            tuple(tested_rows(_similarities(names, marked, units))),
            "Pair by pair: Shapiro-Wilk test of the differences at .05, then paired t-test (effect: d_z) or "
            "Wilcoxon's signed-rank test (effect: rank-biserial correlation); Holm's correction over the table.",
        ),
        Table(
            "quality-units",
            "Each unit",
            ("unit", "class", *(f"{name} {cell}" for name in names for cell in _CELLS)),
            tuple(
                (true.unit, true.name, *(cell for own in marked for cell in _cells(own[true.unit])))
                for true in classes
                if true.unit in set(units)
            ),
        ),
    ]  # fmt: skip
    if len(methods) == 1:
        del tables[1:3]
    return Report(
        "quality",
        "Are the labels right?",
        tuple(tables),
        {"quality": _drawing(names, marked, units)},
        sense_notes([true for true in classes if true.unit in units]),
    )


def _rows(name: str, states: Mapping[int, str], marked: Mapping[int, MarkedLabel]) -> list[Row]:
    """Return a row for all units, and for each state of the class in the vocabulary where there are several."""
    groups = sorted(set(states.values()))
    return [
        (name, group, *_shares([marked[unit] for unit in states if group in {"all", states[unit]}]))
        for group in (["all", *groups] if len(groups) > 1 else groups)
    ]


def _names(methods: Sequence[LabelSource]) -> list[str]:
    kinds = [method.labels.method for method in methods]
    return [
        kind if kinds.count(kind) == 1 else f"{kind} ({method.detail})"
        for kind, method in zip(kinds, methods, strict=True)
    ]


def _shares(marked: Sequence[MarkedLabel]) -> tuple[float, ...]:
    total = len(marked)
    counts = Counter(label.judged.relation for label in marked)
    shares = []
    for counted in _COUNTED.values():
        hits = sum(counted(label.judged) for label in marked)
        shares += [hits, hits / total, *wilson_interval(hits, total)]
    similarity = summarise([label.similarity for label in marked])
    return (total, *shares, *(counts[relation] for relation in RELATIONS), *summary_cells(similarity))


def _mcnemar(names: Sequence[str], marked: Sequence[Mapping[int, MarkedLabel]], units: Sequence[int]) -> list[Row]:
    found: list[tuple[str, str, int, int]] = []
    for measure, counted in _COUNTED.items():
        first, *others = ({unit for unit in units if counted(own[unit].judged)} for own in marked)
        found += [
            (measure, name, len(other - first), len(first - other))
            for name, other in zip(names[1:], others, strict=True)
        ]
    ps = [sign_test(gained, lost) for *_, gained, lost in found]
    return [
        (measure, name, len(units), gained, lost, p, corrected)
        for (measure, name, gained, lost), p, corrected in zip(found, ps, holm_correction(ps), strict=True)
    ]


def _similarities(
    names: Sequence[str], marked: Sequence[Mapping[int, MarkedLabel]], units: Sequence[int]
) -> list[tuple[tuple[str], PairedTest]]:
    first, *others = ([own[unit].similarity for unit in units] for own in marked)
    return [((name,), compare(own, first)) for name, own in zip(names[1:], others, strict=True)]


def _cells(marked: MarkedLabel) -> tuple[str, str, float]:
    return marked.label, marked.judged.relation, marked.similarity


def _drawing(
    names: Sequence[str], marked: Sequence[Mapping[int, MarkedLabel]], units: Sequence[int]
) -> Callable[[], Figure]:
    def draw() -> Figure:
        from line_neurons.eval.reports.figures import intervals, panels, shortened

        shades = ("#08306b", "#08519c", "#4292c6", "#9ecae1", "#fdae6b", "#fdd0a2", "#fee6ce", "#ececec")
        figure, ((left, right),) = panels(1, 2, 1.3 + 0.28 * len(names))
        for place, own in enumerate(marked):
            counts = Counter(own[unit].judged.relation for unit in units)
            start = 0.0
            for relation, shade in zip(RELATIONS, shades, strict=True):
                share = counts[relation] / len(units)
                legend = relation if place == 0 else None
                left.barh(place, share, 0.62, start, color=shade, label=legend, edgecolor="white", linewidth=0.5)
                start += share
            hits = sum(counts[relation] for relation in RIGHT)
            low, high = wilson_interval(hits, len(units))
            left.errorbar(
                hits / len(units), place, xerr=[[hits / len(units) - low], [high - hits / len(units)]],
                color="#000000", capsize=2.5, linewidth=1.1,
            )  # fmt: skip
        left.set_yticks(range(len(names)), [shortened(name, 28) for name in names])
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
