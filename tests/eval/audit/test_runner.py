"""Audits of planted classifiers: edits find the one that leans on its backdrop, and the other one is core."""

from contextlib import closing, contextmanager

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import nn
from torchvision.transforms import v2

from line_neurons.agent.errors import DrainedError, NotDrawableError
from line_neurons.agent.ports import Control
from line_neurons.eval.audit.answers import Counts
from line_neurons.eval.audit.figures import map_figures
from line_neurons.eval.audit.importance import class_features, find_head
from line_neurons.eval.audit.lean import Edits, shown_together
from line_neurons.eval.audit.report import audit_report
from line_neurons.eval.audit.runner import AuditTask, audit_features
from line_neurons.eval.cosy.runner import EvaluatedLayer
from line_neurons.eval.edits.runner import EditTask
from line_neurons.eval.labels.labels import Labels
from line_neurons.eval.reports.label_quality import TrueClass, Truth
from line_neurons.tools.editors.composed import ComposedEditor
from line_neurons.tools.image_bank.control import BankControl
from line_neurons.tools.image_bank.folder import folder_bank
from line_neurons.tools.image_bank.generator import BankSettings, ImageBankGenerator
from line_neurons.tools.store.records import Unit
from line_neurons.tools.store.removal.references import references
from line_neurons.tools.store.results.audits import Audit, AuditResults
from line_neurons.tools.store.results.edits import EditResults
from line_neurons.tools.store.results.evaluations import Evaluations
from line_neurons.tools.targets.base import ModelBundle
from line_neurons.tools.targets.hooked_target import HookedTarget
from support.edit_parts import WordEncoder
from support.fakes import ScriptedModel, scripted_components
from support.small_wordnet import small_wordnet

THINGS = {"cow": (230, 20, 20), "pebble": (128, 128, 128), "plum": (60, 20, 120)}
_NOUNS = {1: (["animal"], []), 2: (["cow"], [1]), 3: (["plant"], []), 4: (["grass"], [3])}
SIZE = 64
COUNT = 9
COW = 0


def bank_of(folder):
    """Three cut-outs of one colour each, and a green meadow, which is where cows are."""
    folder.mkdir()
    rows = ["file,caption,also,broader,kind,scene,split"]
    for name, colour in THINGS.items():
        image = Image.new("RGBA", (80, 80))
        ImageDraw.Draw(image).ellipse((4, 4, 75, 75), fill=(*colour, 255))
        image.save(folder / f"{name}.png")
        rows.append(f"{name}.png,{name},,,cutout,{'meadow' if name == 'cow' else ''},search")
    noise = np.random.default_rng(0).integers(0, 40, (120, 120, 3), np.uint8) + np.array([0, 160, 0], np.uint8)
    Image.fromarray(noise).save(folder / "meadow.png")
    rows.append("meadow.png,grass,,,background,meadow,shared")
    (folder / "captions.csv").write_text("\n".join(rows))
    return folder_bank(folder)


class Planted(nn.Module):
    """Features redness and greenness; the class cow is a weighted sum of both, the class pebble a constant."""

    def __init__(self, grass):
        super().__init__()
        self.colours = nn.Conv2d(3, 2, 1)
        self.colours.weight.data = torch.tensor([[1.0, -0.5, -0.5], [-0.5, 1.0, -0.5]])[..., None, None]
        self.colours.bias.data = torch.full((2,), -0.05)
        self.act = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flat = nn.Flatten()
        self.head = nn.Linear(2, 2)
        self.head.weight.data = torch.tensor([[8.0, grass], [0.0, 0.0]])
        self.head.bias.data = torch.tensor([0.0, 0.2])

    def forward(self, images):
        return self.head(self.flat(self.pool(self.act(self.colours(images)))))


def prepare(image):
    return v2.functional.resize(v2.functional.pil_to_tensor(image).float() / 255, [32, 32], antialias=True)


class Parts:
    """An audit of the class cow of a planted classifier, with the labels cow and grass."""

    def __init__(self, folder, grass=8.0, labels=("cow", "grass")):
        folder.mkdir(exist_ok=True)
        bank = bank_of(folder / "bank")
        self.generator = ImageBankGenerator(bank, WordEncoder(), settings=BankSettings(size=SIZE))
        bundle = ModelBundle("own:planted", str(grass), "0", prepare, lambda: Planted(grass), ("cow", "pebble"))
        components = scripted_components(
            folder / "store",
            ScriptedModel([]),
            generator=self.generator,
            target=HookedTarget(bundle, device="cpu"),
        )
        self.components = components.with_(control_set=BankControl(bank, list(THINGS), m=6, size=SIZE))
        self.editor = ComposedEditor(self.generator)
        self.labels = labels
        self.words = small_wordnet(folder, _NOUNS)

    @contextmanager
    def task(self):
        components, head = self.components, find_head(self.components.target)
        control = components.control(head.features)
        features = control.dense()
        logits = Control(control.classes, control.labels, head.logits(features).astype(np.float32))
        nobody = Labels("line", "own:planted", head.layer, (), "")
        edit_task = EditTask(
            EvaluatedLayer(components, head.layer, (nobody,)), self.editor, "composed", None, "class", "remove",
            COUNT, 0, logits, None,
        )  # fmt: skip
        with closing(Evaluations(components.store)) as opened:
            audit = Audit(
                "a-run", "own:planted", head.layer, head.features, "composed", "known", "remove,insert", COUNT, 0
            )
            found = class_features(head, control, features, head.predictions(features), COW, "cow", 5)
            yield (
                AuditTask(
                    audit, components, head, features, [found],
                    {unit: Unit("a-run", unit, unit, label=label) for unit, label in enumerate(self.labels)},
                    Truth(self.words, [TrueClass(COW, "cow", 2)]),
                    Edits(edit_task, {COW: ["cow"]}, EditResults(opened), "a-run"), ("remove", "insert"),
                ),
                AuditResults(opened),
            )  # fmt: skip

    def rows(self, on_progress=None):
        with self.task() as (task, results):
            return audit_features(task, results, on_progress)


@pytest.fixture(scope="module")
def leaning(tmp_path_factory):
    """An audited classifier that leans on its backdrop, and the features that were found."""
    parts = Parts(tmp_path_factory.mktemp("leaning"))
    return parts, parts.rows()


def table(rows, name="audit", **options):
    audit = Audit("a-run", "own:planted", "head", "pool", "composed", "known", "remove,insert", COUNT, 0)
    found = next(one for one in audit_report(audit, rows, **options).tables if one.name == name)
    return [dict(zip(found.headings, row, strict=True)) for row in found.rows]


def by_label(rows):
    return {row["label"]: row for row in table(rows)}


def test_a_classifier_that_leans_on_its_backdrop_is_found_spurious(leaning):
    found = by_label(leaning[1])
    cow, grass = found["cow"], found["grass"]
    assert (cow["relation"], cow["verdict"]) == ("exact", "core")
    assert (grass["relation"], grass["verdict"]) == ("other", "spurious")
    for row in (cow, grass):
        assert (row["lean images"], row["lean verified"]) == (COUNT, COUNT)
        # The smaller of two p-values is doubled.
        assert row["lean p"] <= row["lean Holm p"] < 0.05
        assert row["lean"] > 0
        assert row["lean probability"] > 0
        # Put into images of other classes it makes them more of the class.
        assert row["insert"] > 0
    # Mirroring the meadow, the control edit, costs nothing to speak of.
    assert abs(grass["lean control drop"]) < grass["lean"] / 20
    assert (cow["region"], grass["region"]) == ("composed", "composed")
    # The thing comes with its shadow, which lies on the grass.
    assert cow["inside"] > 0.8 > grass["inside"]


def test_a_classifier_that_does_not_is_core(tmp_path):
    rows = Parts(tmp_path, grass=0.0).rows()
    assert [(row["label"], row["verdict"]) for row in table(rows)] == [("cow", "core")]
    (summary,) = table(rows, "audit-classes")
    assert (summary["features"], summary["core"], summary["spurious"], summary["core share"]) == (1, 1, 0, 1.0)


def test_an_effect_of_no_account_is_no_verdict(tmp_path):
    grass = by_label(Parts(tmp_path, grass=0.1).rows())["grass"]
    assert grass["lean Holm p"] < 0.05
    assert grass["lean z"] < 0.1
    assert grass["verdict"] == "unclear"


def test_the_logit_falls_by_exactly_what_the_feature_loses(leaning):
    parts, rows = leaning
    grass = by_label(rows)["grass"]
    components, head = parts.components, find_head(parts.components.target)
    with parts.task() as (task, _):
        subjects = task.edits.subjects(task.classes[0], "grass", task.features[:, 1])
        assert all("grass" in subject.request.concept for subject in subjects)
    with closing(Evaluations(components.store)) as opened:
        (result,) = EditResults(opened).results(source="a-run (audit, feature 1)", how="remove")
    images = {arm: [one.image for one in result.arms if one.arm == arm] for arm in ("elsewhere", "concept")}
    values = {
        arm: components.cache.activations(found, components.target, head.features) for arm, found in images.items()
    }
    lost = (values["elsewhere"] - values["concept"]).mean(0) @ head.weights[COW]
    assert grass["lean"] == pytest.approx(float(lost), rel=1e-4)
    # What is not on the store's list of references would be deleted by `line gc`.
    assert set(images["concept"]) <= references(components.store).images


def test_the_same_audit_is_read_from_the_store_and_another_label_is_audited_again(leaning, monkeypatch):
    parts, first = leaning
    composed = []
    compose = parts.generator.compose
    monkeypatch.setattr(
        parts.generator, "compose", lambda *given, **named: composed.append(given) or compose(*given, **named)
    )
    assert by_label(parts.rows()) == by_label(first)
    assert composed == []
    monkeypatch.setattr(parts, "labels", ("cow", "plum"))
    assert by_label(parts.rows())["plum"]["verdict"] == "unclear"
    assert composed


def test_an_interrupted_audit_ends_as_an_uninterrupted_one(leaning, tmp_path):
    whole = table(leaning[1])
    parts = Parts(tmp_path)

    def stop(what, done, total):
        if done == 1:
            raise DrainedError

    with pytest.raises(DrainedError):
        parts.rows(stop)
    assert table(parts.rows()) == whole


def test_features_without_a_label_and_labels_without_images_are_told(tmp_path):
    rows = Parts(tmp_path, labels=("", "unicorn")).rows()
    found = {row["feature"]: row for row in table(rows)}
    assert (found[0]["label"], found[0]["relation"], found[0]["verdict"]) == (None, None, "unclear")
    assert "no label" in found[0]["lean reason"]
    assert "unicorn" in found[1]["lean reason"]
    assert np.isnan(found[1]["lean"])
    notes = audit_report(Audit("a", "m", "h", "p", "composed", "known", "", 1, 0), rows).notes
    assert any("Without a label: feature 0" in note for note in notes)


def test_peoples_answers_stand_beside_the_verdicts(leaning):
    rows = leaning[1]
    answers = {(COW, 0): Counts(5, 0, 0), (COW, 1): Counts(1, 4, 0)}
    report = audit_report(Audit("a", "m", "h", "p", "composed", "known", "", 1, 0), rows, answers)
    found = [dict(zip(report.tables[0].headings, row, strict=True)) for row in report.tables[0].rows]
    assert sorted((row["label"], row["people"], row["elsewhere"], row["answers"]) for row in found) == [
        ("cow", "core", 0, 5), ("grass", "spurious", 4, 5),
    ]  # fmt: skip
    assert any("agrees on 2, kappa 1" in note for note in report.notes)


def test_figures_show_the_features_on_images_of_the_class(leaning):
    parts, rows = leaning
    with parts.task() as (task, _):
        figures = map_figures(task, rows)
        figure = figures["audit-0"]()
    titles = [panel.get_title(loc="left") for panel in figure.axes]
    assert sorted(filter(None, titles)) == ["0: cow (exact)", "1: grass (other)"]
    assert sum(bool(panel.images) for panel in figure.axes) >= 4


@pytest.mark.parametrize(
    ("label", "concept"), [("grass", "cow in the grass"), ("plum", "cow and plum"), ("cow", "cow")]
)
def test_images_show_the_class_and_the_label(leaning, label, concept):
    parts, _ = leaning
    with parts.task() as (task, _):
        assert task.edits.shows_class(task.classes[0], label) == (label == "cow")
    assert shown_together(parts.generator, parts.editor, ["ox", "cow"], label) == concept


def test_a_class_without_a_cut_out_is_told_as_that(leaning):
    parts, _ = leaning
    with pytest.raises(
        NotDrawableError, match=r"'grass' cannot be composed from the bank: it has no cut-out of it"
    ):
        shown_together(parts.generator, parts.editor, ["grass", "meadow"], "cow")
