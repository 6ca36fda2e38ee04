"""Verdict on a feature of a class: is it the thing itself, or something else that the class leans on?"""

from __future__ import annotations

from math import isfinite
from typing import Literal

from line_neurons.agent.concepts import concept_key
from line_neurons.eval.labels.wordnet import Relation
from line_neurons.eval.reports.label_quality import TrueClass, Truth, names_of
from line_neurons.eval.reports.statistics import ALPHA

FeatureRelation = Literal[Relation, "part", "same images", "compound", ""]
Verdict = Literal["core", "spurious", "unclear"]

VERDICTS: tuple[Verdict, ...] = ("core", "spurious", "unclear")
OF_THE_THING: frozenset[FeatureRelation] = frozenset(
    {"exact", "synonym", "modified", "hypernym", "general", "hyponym", "part", "same images"}
)
"""Relations of a label that names the class, a kind that it is or has, or a part of it, or that an image bank
shows by images of the class."""

LEAST = 0.1
"""Least effect on a logit that counts, in its standard deviations: less may be certain, but is of no account."""


def relation_of(truth: Truth, label: str, true: TrueClass) -> FeatureRelation:
    """Return the relation of a feature's label to a class by WordNet; empty without a label."""
    if not label:
        return ""
    found = truth.judge(label, true).relation
    # A sibling may be a part, too; parts have no place in the hierarchy of kinds.
    if found in {"sibling", "other"} and true.synset is not None and truth.words.is_part(label, true.synset):
        return "part"
    # An orange slice, a jeep's wheel: of the thing or not, WordNet cannot tell.
    words = f" {concept_key(label)} "
    named = any(f" {concept_key(name)} " in words for name in names_of(truth.words, true))
    return "compound" if found in {"sibling", "other"} and named else found


def verdict_of(relation: FeatureRelation, z: float, p: float) -> Verdict:
    """Return whether a feature is core or spurious, from its label's relation and from the edits.

    ``core``: the label is of the thing, and taking it out lowers the class, or could not be tested. ``spurious``:
    the label is of something else, and taking it out lowers the class. Else ``unclear``; a sibling is, too: it may
    be the thing itself seen coarsely; and so is a label with the class's name in it.

    Args:
        z: what the label's thing adds to the class's logit, against the control edit, in standard deviations of
            the logit over the control set; nan if not measured.
        p: of this effect, after Holm's correction; nan without a test.
    """
    tested = isfinite(p)
    leans = tested and p < ALPHA and z >= LEAST
    if relation in OF_THE_THING:
        return "core" if leans or not tested else "unclear"
    return "spurious" if leans and relation == "other" else "unclear"
