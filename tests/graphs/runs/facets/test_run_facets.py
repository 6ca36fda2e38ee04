"""Facets of a unit that responds to two kinds of images, from the search to the labels of the run."""

import numpy as np
import pytest

from line_neurons.agent.errors import UsageError
from line_neurons.agent.ports import LayerInfo
from line_neurons.eval.labels.labels import labels_of_run
from line_neurons.graphs.runs.facets.run_facets import RunFacets, find_facets
from line_neurons.graphs.runs.facets.space import FacetSpace
from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.tools.facets.control_vectors import ControlVectors
from line_neurons.tools.store.results.facets import facets_of, put_facets
from support.fakes import LAYER, ScriptedModel, ScriptedTarget, said_by, scripted_components

KINDS = 24
CLASSES = [f"class {letter}" for letter in "abcdefghijklmnopqrstuvwx"]
OF_KIND = {"owl": 0, "fox": 12}


class TwoKinds(ScriptedTarget):
    """Unit 0 responds to the first and the thirteenth kind of images and those near them, unit 1 to the first."""

    def layers(self):
        return [LayerInfo(LAYER, "Linear", (3 + KINDS,), 3 + KINDS)]

    def activate(self, images, layers, progress=None):
        rows = np.zeros((len(images), 3 + KINDS), np.float32)
        for row, image in zip(rows, images, strict=True):
            concept, seed, _ = said_by(image)
            kind = OF_KIND.get(concept, CLASSES.index(concept) if concept in CLASSES else KINDS - 1)
            group, near = divmod(kind, 12)
            noise = (seed % 97) / 970
            response = max(0.0, 6 - near) + noise
            row[0] = response + (0.5 if concept in OF_KIND else 0)
            row[1] = response if group == 0 else noise
            row[3 + 12 * group : 3 + 12 * group + 6] = 1 + noise
            row[3 + kind] += 0.5
        return dict.fromkeys(layers, rows)


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    components = scripted_components(
        tmp_path_factory.mktemp("facets"), ScriptedModel(["owl", "fox", "one", "two"] * 3), target=TwoKinds(),
        classes=CLASSES, summary=False, iterations=4, top=2, random=0,
    )  # fmt: skip
    run = work(components, start(components, LAYER, ["0", "1", "2"]))
    deps = components.deps(LAYER, run.vocabulary or ())
    units = components.runs.units(run.id)
    # One image a class: no probe can be made, so the limit is set by hand.
    deps.control_vectors().__dict__["single_class_limit"] = 0.5
    return components, run, units, list(find_facets(deps, run, units))


def test_a_unit_of_two_kinds_has_two_facets_each_with_its_own_label(searched):
    _, _, _, (two, one, dead) = searched
    assert [facet.label for facet in two.facets] == ["owl", "fox"]
    assert all(name <= "class f" for name in two.facets[0].sources)
    assert all("class m" <= name <= "class r" for name in two.facets[1].sources)
    assert sum(facet.share for facet in two.facets) == pytest.approx(1)
    assert two.numbers["facets"] == 2 and two.numbers["polysemanticity"] > 0.5 and two.numbers["covered"] == 1
    assert (one.numbers["groups"], len(one.facets)) == (1, 1)
    assert dead.told == "it has no label: dead" and not dead.facets


def test_facets_are_stored_and_become_labels_of_the_run(searched):
    components, run, units, found = searched
    assert facets_of(components.runs, run.id) == {}
    assert labels_of_run(components.runs, run.id).further == ()
    put_facets(components.runs, found)
    put_facets(components.runs, found[:1])
    assert facets_of(components.runs, run.id) == {one.unit: one for one in found}
    labels = labels_of_run(components.runs, run.id)
    assert [(label.unit, label.facet, label.concept) for label in labels.every if label.unit == 0] == [
        (0, 0, "owl"), (0, 1, "fox"),
    ]  # fmt: skip
    assert components.runs.units(run.id) == units


class OfGroups:
    """Encodes names of either group alike."""

    def encode(self, texts):
        first = [text in {"owl", *CLASSES[:12]} for text in texts]
        return np.array([[1, 0] if own else [0, 1] for own in first], np.float32)


@pytest.mark.parametrize("by", ["names", "another model"])
def test_images_are_compared_in_other_spaces_too(searched, monkeypatch, by):
    components, run, units, _ = searched
    monkeypatch.setattr(ControlVectors, "single_class_limit", 0.5)
    deps = components.deps(LAYER, run.vocabulary or ())
    space = FacetSpace(deps, encoder=OfGroups()) if by == "names" else FacetSpace(deps, other=deps)
    two, one, _ = find_facets(deps, run, units, space=space)
    assert [facet.label for facet in two.facets] == ["owl", "fox"]
    assert two.numbers["polysemanticity"] > 0.5 and len(one.facets) == 1


def test_a_banned_concept_labels_no_facet(searched):
    components, run, units, _ = searched
    deps = components.deps(LAYER, run.vocabulary or ())
    deps.control_vectors().__dict__["single_class_limit"] = 0.5
    found = RunFacets(deps, run, units)
    found._banned = {0: {"fox"}}
    assert [facet.label for facet in found.of_unit(units[0]).facets] != ["owl", "fox"]


def test_without_a_control_set_a_few_images_are_too_few(tmp_path):
    (tmp_path / "words.txt").write_text("class a\nclass b\n")
    components = scripted_components(
        tmp_path, ScriptedModel(["owl"]), target=TwoKinds(), summary=False, iterations=0, top=1, random=1,
        images=2, init="vocabulary", vocabulary=tmp_path / "words.txt", control="none",
    )  # fmt: skip
    run = work(components, start(components, LAYER, ["0"]))
    deps = components.deps(LAYER, run.vocabulary or ())
    with pytest.raises(UsageError, match="has 4 images, and facets need 12"):
        list(find_facets(deps, run, components.runs.units(run.id)))
