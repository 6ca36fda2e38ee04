import csv
import io
import math
import sqlite3
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from line_neurons.agent.errors import BackendError, DrainedError, UsageError
from line_neurons.eval.cosy.images import FolderImages, GeneratedImages, open_images
from line_neurons.eval.cosy.protocol import (
    EXACT_PAIRS,
    check_multiple_of_three,
    emulate_short_batch,
    judge,
    requests,
    select_labels,
    strict_requests,
)
from line_neurons.eval.cosy.runner import (
    EvaluatedLayer,
    common_units,
    cosy_csv,
    cosy_file_name,
    evaluate_labels,
    facet_numbers,
    open_layer,
)
from line_neurons.eval.labels.formats import read_labels
from line_neurons.eval.labels.labels import Label, Labels
from line_neurons.tools import component_opening
from line_neurons.tools.store.records import Run, Unit
from line_neurons.tools.store.results.evaluations import CosyScore, Evaluation, Evaluations
from support.fakes import (
    LAYER,
    ScriptedControl,
    ScriptedGenerator,
    ScriptedModel,
    ScriptedTarget,
    scripted_components,
)

LABEL = Label(0, "dog")
FEW = st.sampled_from([-1.0, 0.0, 0.5, 1e-3, 3.0])
MANY = st.floats(-1e4, 1e4, width=32)


def activations(sizes):
    return st.one_of(FEW, MANY).flatmap(
        lambda first: st.one_of(
            arrays(np.float32, sizes, elements=FEW),
            arrays(np.float32, sizes, elements=MANY),
            arrays(np.float32, sizes, elements=st.just(first)),
        )
    )


def directly(control, concept):
    """The numbers as scikit-learn and scipy give them of float32 or float64, in the words of CoSy's evaluation."""
    from scipy.stats import mannwhitneyu
    from sklearn.metrics import roc_auc_score

    truth = np.concatenate([np.zeros(len(control)), np.ones(len(concept))])
    auc = roc_auc_score(truth, np.concatenate([control, concept]))
    u1, p = mannwhitneyu(control, concept)
    spread = control.astype(np.float64).std(ddof=1)
    difference = concept.astype(np.float64).mean() - control.astype(np.float64).mean()
    return auc, u1, p, 0.0 if len(set(control.tolist())) == 1 else difference / spread


@settings(max_examples=150)
@given(control=activations(st.integers(2, 40)), concept=activations(st.integers(1, 12)))
def test_the_numbers_are_those_of_scikit_learn_and_scipy(control, concept):
    found = judge(LABEL, control, concept)
    auc, u1, p, mad = directly(control.astype(np.float64), concept.astype(np.float64))
    assert found.auc == pytest.approx(auc, abs=1e-6)
    assert found.u1 == u1
    assert found.p == pytest.approx(p, abs=1e-6, nan_ok=True)
    assert found.mad == pytest.approx(mad, rel=1e-6, abs=1e-6)
    assert found.n == len(concept)


def test_a_large_control_set_has_the_numbers_too_and_does_not_wait_for_an_exact_p():
    from scipy.stats import mannwhitneyu

    rng = np.random.default_rng(0)
    control, concept = rng.normal(size=50_000).astype(np.float32), rng.normal(1, 1, 50).astype(np.float32)
    found = judge(LABEL, control, concept)
    exact = directly(control.astype(np.float64), concept.astype(np.float64))
    assert (found.auc, found.u1, found.p, found.mad) == pytest.approx(exact, rel=1e-6)
    strict = judge(LABEL, control, concept, "strict")
    assert (strict.auc, strict.u1, strict.p, strict.mad) == pytest.approx(directly(control, concept), rel=1e-6)
    few = judge(LABEL, control, concept[:5])
    assert control.size * 5 > EXACT_PAIRS
    assert few.p == mannwhitneyu(control.astype(np.float64), concept[:5], method="asymptotic").pvalue


@pytest.mark.parametrize(("control", "concept"), [([1.0], [1.0]), ([1.0, 2.0], []), ([1.0, math.nan], [1.0])])
def test_too_few_or_unfit_activations_are_one_line(control, concept):
    with pytest.raises(BackendError, match="unit 0 cannot be evaluated"):
        judge(LABEL, np.array(control, np.float32), np.array(concept, np.float32))


def test_images_have_cosys_prompt_and_seeds_apart_from_the_searchs():
    from line_neurons.agent.prompts import image_requests

    mine = requests("sea lion", 50, seed=0)
    assert {one.prompt for one in mine} == {"realistic photo of a close up of sea lion"}
    assert len({one.seed for one in mine}) == 50
    assert not {one.seed for one in mine} & {one.seed for one in image_requests("sea lion", 50, 0)}
    assert requests("sea lion", 5, seed=0) == mine[:5]
    assert requests("sea lion", 5, seed=1) != mine[:5]


class Reference:
    """CoSy's code in short: what it computes from images, explanations and batches, step by step."""

    def get_activations(self, values, batch_size, n_neurons):
        model_features = np.zeros([len(values), n_neurons], np.float32)
        batches = [values[start : start + batch_size] for start in range(0, len(values), batch_size)]
        for i, x in enumerate(batches):
            model_features[i * len(x) : (i + 1) * len(x), :] = x
        return model_features

    def falcon(self, rows, neuron_ids):
        concepts = {group: phrase for group, phrase in rows if group in neuron_ids}
        return list(zip(neuron_ids, concepts.values(), strict=False))

    def seeds(self, concepts, n_images):
        """Which number each image is among those that its process draws from its generator; None: it fails."""
        drawn = {}
        counters = [0, 0, 0]
        for start in range(0, len(concepts), 3):
            current_batch = concepts[start : start + 3]
            for rank in range(3):
                for _ in range(n_images):
                    try:
                        prompt_name = current_batch[rank]
                    except IndexError:
                        return None
                    drawn.setdefault(prompt_name, []).append(counters[rank])
                    counters[rank] += 1
        return drawn

    def evaluate(self, control, concepts, pairs):
        rows = []
        control = self.get_activations(control, 256, control.shape[1])
        for neuron, concept in pairs:
            features = self.get_activations(concepts[concept], 10, control.shape[1])
            rows.append([neuron, concept, *directly(control[:, neuron], features[:, neuron])])
        return rows


@given(n=st.integers(1, 80), batch=st.integers(1, 40))
def test_strict_places_activations_as_the_reference_does(n, batch):
    values = np.arange(1, 2 * n + 1, dtype=np.float32).reshape(n, 2)
    assert np.array_equal(emulate_short_batch(values, batch), Reference().get_activations(values, batch, 2))


@pytest.mark.parametrize("number", range(1, 8))
def test_strict_draws_and_fails_as_the_reference_does(number):
    concepts = [f"c{place}" for place in range(number)]
    expected = Reference().seeds(concepts, 4)
    if expected is None:
        with pytest.raises(UsageError, match="generates three at a time and fails"):
            check_multiple_of_three(number)
    else:
        check_multiple_of_three(number)
        drawn = {name: [one.seed for one in strict_requests(name, i, 4, 0)] for i, name in enumerate(concepts)}
        assert drawn == expected


def test_strict_pairs_falcons_phrases_in_the_wrong_order_and_fixed_does_not():
    file = [(6, "tubas"), (25, "bananas"), (48, "squash"), (54, "bottle")]
    labels = Labels("falcon", "", "", tuple(Label(*row) for row in file), "f.csv")
    units = [54, 7, 6, 48]
    strict = [(one.unit, one.concept) for one in select_labels(labels, units, "strict")]
    assert strict == Reference().falcon(file, units) == [(54, "tubas"), (7, "squash"), (6, "bottle")]
    assert [(one.unit, one.concept) for one in select_labels(labels, units, "fixed")] == [
        (54, "bottle"), (6, "tubas"), (48, "squash"),
    ]  # fmt: skip


def test_strict_fails_at_a_unit_without_a_label_and_fixed_leaves_it_out():
    labels = Labels("invert", "", "", (Label(3, "dog"),), "f.csv")
    with pytest.raises(UsageError, match="no label for unit 8"):
        select_labels(labels, [3, 8], "strict")
    assert select_labels(labels, [3, 8], "fixed") == [Label(3, "dog")]
    with pytest.raises(UsageError, match="no label for the units"):
        select_labels(labels, [8], "fixed")


@pytest.fixture
def subject(tmp_path):
    target = ScriptedTarget(scores={"cat": 2.0, "sea lion": 3.0, "dog": 0.5})
    components = scripted_components(tmp_path / "store", ScriptedModel([]), target=target)
    components.generator.unknown = frozenset({"music"})
    labels = Labels(
        "line", "scripted:model", LAYER,
        (Label(2, "sea lion"), Label(0, "cat"), Label(1, "music"), Label(1, "sea lion")), "r-1",
    )  # fmt: skip
    return EvaluatedLayer(components, LAYER, (labels,))


CONTROL = "scripted", ScriptedControl(("apple", "bean", "corn", "dog"))


def judged(subject, labels=None, *, mode="fixed", count=4, on_progress=None, **keywords):
    labels = labels or subject.labels[0]
    images = GeneratedImages("scripted", subject.components.generator, subject.components, LAYER, count, 0, mode)
    results = Evaluations(subject.components.store)
    result = evaluate_labels(
        subject, labels, labels.labels, images, CONTROL, results, mode=mode, on_progress=on_progress, **keywords
    )
    results.close()
    return result


def test_labels_are_judged_and_what_cannot_be_drawn_is_told_and_not_dropped(subject):
    labels = Labels("line", "scripted:model", LAYER, subject.labels[0].labels[:3], "r-1")
    result = judged(subject, labels)
    assert [(one.unit, one.concept, one.n, bool(one.missing)) for one in result.scores] == [
        (2, "sea lion", 4, False), (0, "cat", 4, False), (1, "music", 0, True),
    ]  # fmt: skip
    assert result.scores[0].auc == 1
    assert math.isnan(result.scores[2].auc)
    assert "nothing in the bank is close enough to 'music'" in result.scores[2].missing
    written = list(csv.reader(io.StringIO(cosy_csv(result.scores).decode(), newline="")))
    assert written[0] == ["neuron", "concept", "AUC", "U1", "p", "MAD"]
    assert written[1][:4] == ["2", "sea lion", "1.0", "0.0"]
    assert written[3] == ["1", "music", "", "", "", ""]


def test_the_file_of_results_has_the_bytes_that_cosys_code_writes():
    rows = [CosyScore(456, "prayer rug, prayer mat", 0.75, 3.0, 1e-12, -0.5, 50)]
    assert cosy_csv(rows) == (
        b"neuron,concept,AUC,U1,p,MAD\r\n" + b'456,"prayer rug, prayer mat",0.75,3.0,1e-12,-0.5\r\n'
    )
    clip = Labels("clip-dissect", "", "", (), "")
    assert (
        cosy_file_name(clip, "torchvision:resnet18", "avgpool") == "evaluation_CLIP-Dissect_resnet18-avgpool.csv"
    )
    assert cosy_file_name(Labels("a/../b_c", "", "", (), ""), "m", "x.fc") == "evaluation_a-..-b-c_m-fc.csv"


def test_what_was_judged_is_kept_apart_by_method_and_seed_and_replaced_by_the_same_again(subject):
    three = Labels("line", "scripted:model", LAYER, subject.labels[0].labels[:3], "r-1")
    judged(subject, three)
    again = judged(subject, three)
    judged(subject, Labels("other", "", LAYER, (Label(0, "dog"),), "f.csv"))
    judged(subject, three, seed=5)
    results = Evaluations(subject.components.store)
    assert [one.evaluation.seed for one in results.results(method="line")] == [5, 0]
    (kept,) = results.results(method="line", seed=0)
    assert repr(kept.scores) == repr(again.scores)
    assert kept.evaluation == again.evaluation
    assert len(results.results()) == 3


def test_methods_share_images_and_forward_passes(subject):
    judged(subject)
    drawn, passes = len(subject.components.generator.drawn), subject.components.target.passes
    judged(subject, Labels("other", "", LAYER, (Label(0, "sea lion"), Label(2, "cat")), "f.csv"))
    assert (len(subject.components.generator.drawn), subject.components.target.passes) == (drawn, passes)


def test_an_interrupted_evaluation_goes_on_where_it_stopped_and_ends_as_the_uninterrupted_one(subject, tmp_path):
    def stop(what, done, total):
        if what.startswith("CoSy") and done == 1:
            raise DrainedError

    with pytest.raises(DrainedError):
        judged(subject, on_progress=stop)
    assert len(Evaluations(subject.components.store).results()[0].scores) == 2
    drawn = list(subject.components.generator.drawn)
    assert len(drawn) == 4
    ended = judged(subject)
    assert len({(one.concept, one.seed) for one in subject.components.generator.drawn}) == 8
    assert len(subject.components.generator.drawn) == 8
    generator = ScriptedGenerator(unknown=frozenset({"music"}))
    components = scripted_components(
        tmp_path / "other", ScriptedModel([]), target=subject.components.target, generator=generator
    )
    assert repr(judged(EvaluatedLayer(components, LAYER, subject.labels)).scores) == repr(ended.scores)


def test_strict_ends_as_the_reference_does(subject):
    chosen = (Label(2, "sea lion"), Label(0, "cat"), Label(1, "dog"))
    labels = Labels("invert", "", LAYER, chosen, "f.csv")
    components = subject.components
    result = judged(subject, labels, mode="strict", count=13)
    seeds = Reference().seeds(["sea lion", "cat", "dog"], 13)
    assert {
        name: [one.seed for one in components.generator.drawn if one.concept == name] for name in seeds
    } == seeds
    values = {"cat": 2.0, "sea lion": 3.0, "dog": 0.5}
    concepts = {name: np.array([[values[name] + unit for unit in range(3)]] * 13, np.float32) for name in values}
    images = [image for chunk in CONTROL[1].chunks() for image in chunk.images]
    control = components.target.activate(images, [LAYER])[LAYER]
    expected = Reference().evaluate(control, concepts, [(one.unit, one.concept) for one in chosen])
    for found, row in zip(result.scores, expected, strict=True):
        assert [found.unit, found.concept] == row[:2]
        assert [found.auc, found.u1, found.p, found.mad] == pytest.approx(row[2:], abs=1e-6)
    with pytest.raises(UsageError, match="2 concepts are to be generated"):
        judged(subject, Labels("invert", "", LAYER, chosen[:2], "f.csv"), mode="strict")


def test_the_common_reading_has_the_units_that_every_method_has_numbers_for(subject):
    some = judged(subject, Labels("line", "", LAYER, subject.labels[0].labels[:3], "r-1"))
    other = judged(subject, Labels("other", "", LAYER, (Label(0, "dog"), Label(1, "dog")), "f.csv"))
    assert common_units([some, other]) == {0}


def test_a_folder_as_cosy_lays_it_out_gives_the_images(subject, tmp_path):
    from PIL import Image

    root = tmp_path / "gen_images"
    for number in range(3):
        file = root / "sea_lion" / f"sea_lion_{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number * 90, 0, 0)).save(file)
    (tmp_path / "secret").mkdir()

    class Red(ScriptedTarget):
        def _value(self, image):
            return float(np.asarray(Image.open(io.BytesIO(image)))[0, 0, 0])

    subject = replace(subject, components=subject.components.with_(target=Red(fingerprint="red")))
    images = FolderImages(root, subject.components, LAYER)
    rows = [0.0, 90.0, 180.0]
    assert images.activations("sea lion", 0)[:, 0].tolist() == rows
    assert FolderImages(root, subject.components, LAYER, 2).activations("sea lion", 0)[:, 0].tolist() == rows[:2]
    for unfit in ("dog", "../secret", "sea lion/../../secret", "..", ".", "", "a\0b", "x" * 5000):
        with pytest.raises(Exception, match="there is no folder"):
            images.activations(unfit, 0)
    passes = subject.components.target.passes
    images.activations("sea lion", 0)
    assert subject.components.target.passes == passes


def test_evaluations_survive_being_opened_by_two_at_once(tmp_path):
    first, second = Evaluations(tmp_path), Evaluations(tmp_path)
    evaluation = Evaluation("line", "r", "m", "l", "i", "c", "fixed", 0, 50)
    first.put(evaluation, [CosyScore(1, "dog", 0.5, 1.0, 1.0, 0.0, 3)])
    second.put(evaluation, [CosyScore(2, "cat\udcff", math.inf, 1.0, math.nan, 0.0, 3)])
    (result,) = first.results(method="line", count=50)
    assert [one.unit for one in result.scores] == [1, 2]
    assert result.scores[1].auc == math.inf
    assert first.results(method="x") == []


@pytest.fixture
def run(subject):
    runs = subject.components.runs
    runs.add_run(
        Run("r-1", "scripted:model", LAYER, 0, "finished", 1.0, {}, {}, {}),
        [Unit("r-1", 0, 0, status="finished", label="cat", score=2.0)],
    )
    return "r-1"


def test_labels_of_other_layers_and_two_of_a_name_are_refused(line, run, subject, tmp_path):
    file = tmp_path / "resnet18-fc.csv"
    file.write_text("neuron,concept,metric\n0,dog,1\n")
    nameless = tmp_path / "labels.csv"
    nameless.write_text(file.read_text())
    store = subject.components.store
    for command, said in {
        ("eval", "cosy", file, file): "two methods are called 'invert'",
        ("eval", "cosy", "nothing.csv"): "cannot be read",
        ("eval", "cosy", nameless): "does not name its model",
        ("eval", "cosy", nameless, "--model", "own.py:network"): "does not name its layer",
        ("eval", "cosy", "r-9", "--store", store): "'r-9' is not a run of this store",
        ("eval", "cosy", "r-1", "--store", tmp_path / "none"): "there are no runs",
        ("eval", "cosy", file, "--mode", "lax"): "'lax' is not a mode",
        ("eval", "cosy", file, "--format", "xml"): "'xml' is not a format",
        ("eval", "export", file, "-o", "x.csv", "--form", "odd"): "'odd' is not a form",
    }.items():
        status, out, err = line(*command)
        assert (status, out) == (2, "")
        assert said in err
        assert err.startswith("error: ")


def test_export_writes_a_runs_labels_for_cosy(line, run, subject, tmp_path):
    folder = tmp_path / "explanations"
    folder.mkdir()
    status, _, err = line(
        "eval", "export", "r-1", "--store", subject.components.store, "-o", folder, "--form", "invert"
    )
    assert status == 0, err
    assert (folder / "model-head.csv").read_text() == "neuron,concept,concept_id,metric\n0,cat,,2.0\n"


TARGET = """
import torch

def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 4))
"""


def test_a_peers_file_on_any_layer_of_a_model_of_ones_own(line, tmp_path):
    from PIL import Image

    (tmp_path / "own.py").write_text(TARGET)
    rng = np.random.default_rng(0)
    for folder, count in {"gen_images/red_thing": 12, "control/noise": 20}.items():
        (tmp_path / folder).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 256, (16, 16, 3), np.uint8)
            pixels[..., 0] = 255 if "red" in folder else pixels[..., 0]
            Image.fromarray(pixels).save(tmp_path / folder / f"{number}.png")
    (tmp_path / "labels.csv").write_text("layer,unit,description\n2,1,Red thing\n2,3,blue thing\n")
    command = (
        "eval", "cosy", "labels.csv", "--model", "own.py:network", "--layer", "2", "--images-from", "gen_images",
        "--control", "control", "--device", "cpu",
    )  # fmt: skip
    status, out, err = line(*command, "-o", "results.csv", "--format", "csv")
    assert status == 0, err
    assert out.replace("\r\n", "\n") == (tmp_path / "results.csv").read_text()
    rows = list(csv.reader(io.StringIO(out)))
    assert rows[1][:2] == ["1", "red thing"]
    assert float(rows[1][2]) in {0.0, 1.0}
    assert rows[2] == ["3", "blue thing", "", "", "", ""]
    assert [one.concept for one in read_labels(tmp_path / "results.csv").labels] == ["red thing", "blue thing"]
    status, out, err = line(*command, "--mode", "strict", "--units", "1")
    assert status == 0, err
    assert "red thing" in out
    assert "each method on its own units" in out
    status, out, err = line(*command[:3], *command[3:6], "1.5", *command[7:])
    assert status == 2


def test_strict_prepares_images_as_cosys_code_does(tmp_path):
    import torch
    from PIL import Image
    from torchvision import transforms

    from line_neurons.tools.targets.registry import open_target
    from line_neurons.tools.targets.transforms import COSY_TRANSFORM, MEAN, STD, cosy_transform

    (tmp_path / "own.py").write_text(TARGET)
    own = open_target(f"{tmp_path}/own.py:network", device="cpu")
    target = own.with_transform(cosy_transform, COSY_TRANSFORM)
    pixels = np.random.default_rng(0).integers(0, 256, (250, 300, 3), np.uint8)
    reference = transforms.Compose(
        [
            transforms.ToPILImage(), transforms.Resize(224), transforms.CenterCrop((224, 224)),
            transforms.ToTensor(), transforms.Normalize(mean=MEAN, std=STD),
        ]
    )  # fmt: skip
    assert torch.equal(cosy_transform(Image.fromarray(pixels)), reference(pixels))
    assert COSY_TRANSFORM in target.fingerprint
    assert own.fingerprint != target.fingerprint
    assert not np.array_equal(*(one.activate([pixels], ["2"])["2"] for one in (own, target)))


def test_a_bank_draws_the_first_of_several_names_and_what_fulfils_a_formula(subject):
    images = GeneratedImages(
        "bank:heldout", subject.components.generator, subject.components, LAYER, 4, 0, "fixed"
    )
    images.activations("prayer rug, prayer mat", 0)
    images.activations("(dog OR cat) AND NOT sea lion", 1)
    assert [one.concept for one in subject.components.generator.drawn] == ["prayer rug"] * 4 + ["dog", "cat"] * 2
    sentence = GeneratedImages("sdxl", subject.components.generator, subject.components, LAYER, 1, 0, "fixed")
    sentence.activations("dog AND NOT cat, of course", 0)
    asked = subject.components.generator.drawn[-1].prompt
    assert asked == "realistic photo of a close up of dog AND NOT cat, of course"


def test_runs_of_another_target_or_layer_are_refused_and_those_of_one_are_judged_together(line, tmp_path):
    from line_neurons.agent.settings import Settings
    from line_neurons.tools.store.runs import RunStore
    from line_neurons.tools.targets.registry import open_target

    (tmp_path / "own.py").write_text(TARGET)
    model, store = f"{tmp_path}/own.py:network", tmp_path / "store"
    now, runs = open_target(model, device="cpu").fingerprint, RunStore(store)
    for name, layer, target in (("a-1", "2", now), ("b-1", "2", now), ("c-1", "1", now), ("d-1", "2", "another")):
        settings = {"generator": "bank", "device": "cpu"}
        runs.add_run(
            Run(name, model, layer, 0, "finished", 1.0, settings, {"target": target}, {}),
            [Unit(name, 0, 0, status="finished", label="cat", score=2.0)],
        )

    def subject_of_runs(*names, trust=True):
        return open_layer(names, Settings(store=store), {}, trust=trust)

    with pytest.raises(UsageError, match="asks to run code"):
        subject_of_runs("a-1", trust=False)
    both = subject_of_runs("one=a-1", "other=b-1")
    assert [(one.method, one.source) for one in both.labels] == [("one", "a-1"), ("other", "b-1")]
    with pytest.raises(UsageError, match="run c-1 is of layer '1', and a-1 of '2'"):
        subject_of_runs("one=a-1", "other=c-1")
    with pytest.raises(UsageError, match="the target of run d-1 was 'another'"):
        subject_of_runs("one=a-1", "other=d-1")


@pytest.mark.e2e
def test_labels_of_mobilenet_are_judged_on_held_out_images(line, assets, tmp_path):
    file = tmp_path / "mobilenet_v2-1.csv"
    file.write_text("neuron,concept,metric\n483,castle,1\n292,castle,1\n889,violin,1\n")
    command = (
        "eval", "cosy", file, "--layer", "classifier.1", "--images-from", "bank:heldout",
        "--control", "bank:heldout", "--control-images", "1", "-n", "6", "--format", "csv",
    )  # fmt: skip
    status, out, err = line(*command)
    assert status == 0, err
    castle, other, violin = list(csv.reader(io.StringIO(out)))[1:]
    assert float(castle[2]) > 0.9 > float(other[2])
    assert float(castle[5]) > 1
    assert violin[2] == ""


def test_a_files_unit_that_the_layer_lacks_is_told(tmp_path, line):
    (tmp_path / "own.py").write_text(TARGET)
    (tmp_path / "labels.csv").write_text("neuron,concept,metric\n4,dog,1\n")
    from line_neurons.agent.settings import Settings

    with pytest.raises(UsageError, match="label for unit 4"):
        open_layer(
            [str(tmp_path / "labels.csv")],
            Settings(store=tmp_path / "store"),
            {},
            model=f"{tmp_path}/own.py:network",
            layer="2",
        )


@pytest.mark.parametrize(
    ("spec", "given", "expected"),
    [
        ("sdxl", (), (50, 5.0, 1024, None, None)),
        (None, (), (50, 5.0, 1024, None, None)),
        ("sdxl=owner/copy", (), (50, 5.0, 1024, None, None)),
        ("sdxl", ("steps", "dtype"), (4, 5.0, 1024, "float32", None)),
        # The reference has no such model.
        ("sdxl-turbo", (), (4, 1.0, 512, "float32", "DDIMScheduler")),
    ],
)
def test_sdxl_generates_as_in_the_reference_whatever_the_search_did(tmp_path, monkeypatch, spec, given, expected):
    asked = []

    def opened(_spec, settings, **_):
        asked.append(settings)
        return ScriptedGenerator()

    monkeypatch.setattr(component_opening, "open_text_to_image", opened)
    search = {"steps": 4, "guidance": 1.0, "size": 512, "dtype": "float32", "scheduler": "DDIMScheduler"}
    components = scripted_components(tmp_path, None, generator="sdxl", diffusion=search)
    found = open_images(spec, components, LAYER, count=None, seed=0, mode="fixed", given=given)
    (settings,) = asked
    assert (settings.steps, settings.guidance, settings.size, settings.dtype, settings.scheduler) == expected
    assert (f"{expected[0]} steps" in found.note) == (spec != "sdxl-turbo")


def test_a_result_tells_how_its_images_were_generated():
    fingerprint = "diffusers:StableDiffusionXLPipeline weights=a steps=50 guidance=5.0 size=1024 dtype=float16"
    one = Evaluation("line", "r-1", "m", "l", "sdxl", "none", "fixed", 0, 50, images_id=fingerprint)
    assert one.image_source == "sdxl (steps 50, guidance 5.0, size 1024, dtype float16)"
    assert replace(one, images_id="folder:/steps=3").image_source == "sdxl"


def test_an_evaluation_of_an_earlier_version_stands_beside_those_of_today(tmp_path):
    target = "torchvision:resnet50 weights=0123456789abcdef (IMAGENET1K_V2) transforms=a pool=auto"
    before = Evaluation("line", "r-1", "torchvision:resnet50", "fc", "bank", "bank", "fixed", 0, 50, target=target)
    kept = Evaluations(tmp_path)
    kept.put(before, [CosyScore(0, "dog", 0.5, 1.0, 0.5, 0.0, 50)])
    (found,) = kept.results()
    assert found.evaluation == replace(before, model="torchvision:resnet50@IMAGENET1K_V2")


def test_three_labels_of_a_unit_have_the_numbers_of_three_files_of_one(subject):
    first, *further = (Label(2, concept, facet=n) for n, concept in enumerate(("sea lion", "cat", "dog")))
    several = Labels("line", "scripted:model", LAYER, (first,), "all", further=tuple(further))
    chosen = select_labels(several, None, "fixed", facets=True)
    images = GeneratedImages("scripted", subject.components.generator, subject.components, LAYER, 4, 0, "fixed")
    results = Evaluations(subject.components.store)
    together = evaluate_labels(subject, several, chosen, images, CONTROL, results)
    alone = [
        judged(subject, Labels("line", "", LAYER, (Label(2, label.concept),), f"{label.facet}"))
        for label in chosen
    ]
    assert [replace(score, facet=0) for score in together.scores] == [one.scores[0] for one in alone]
    assert [score.facet for score in together.scores] == [0, 1, 2]
    (kept,) = results.results(source="all")
    assert kept.scores == together.scores and kept.first_labels.scores == together.scores[:1]
    aucs = [score.auc for score in together.scores]
    assert facet_numbers(together.scores, "auc") == {2: (aucs[0], max(aucs), sum(aucs) / 3)}


def test_a_store_of_before_keeps_its_scores_as_those_of_first_labels(tmp_path):
    evaluation = Evaluation("line", "r", "m", "l", "i", "c", "fixed", 0, 50)
    Evaluations(tmp_path).put(evaluation, [CosyScore(1, "dog", 0.5, 1.0, 1.0, 0.0, 3)])
    with closing(sqlite3.connect(tmp_path / "evaluations.db")) as db:
        db.executescript(
            "ALTER TABLE judged RENAME TO now;"
            "CREATE TABLE judged (evaluation INTEGER REFERENCES evaluations(id), unit INTEGER,"
            " concept TEXT NOT NULL, auc FLOAT, u1 FLOAT, p FLOAT, mad FLOAT, n INTEGER NOT NULL,"
            " missing TEXT NOT NULL, PRIMARY KEY (evaluation, unit));"
            "INSERT INTO judged SELECT evaluation, unit, concept, auc, u1, p, mad, n, missing FROM now;"
            "DROP TABLE now; DELETE FROM _sqlite_migrations WHERE name LIKE 'm003%'; PRAGMA user_version = 2"
        )
    upgraded = Evaluations(tmp_path)
    upgraded.put(evaluation, [CosyScore(1, "cat", 0.7, 1.0, 1.0, 0.0, 3, facet=1)])
    (result,) = upgraded.results()
    assert [(one.concept, one.facet) for one in result.scores] == [("dog", 0), ("cat", 1)]
