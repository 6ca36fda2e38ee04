from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from line_neurons.agent.errors import UsageError
from line_neurons.agent.settings import Settings
from line_neurons.graphs.runs.components import Components
from line_neurons.graphs.runs.lifecycle import start
from line_neurons.tools.image_bank.folder import folder_bank
from line_neurons.tools.image_bank.generator import ImageBankGenerator
from line_neurons.tools.run_problems import run_problems
from support.fakes import LAYER, ScriptedModel, ScriptedTarget, scripted_components
from support.guided import components


class Words:
    """Embeds a text as one of a few directions, so that only equal words are similar."""

    fingerprint = "words"

    def __init__(self):
        self.numbers = {}

    def encode(self, texts):
        return np.stack([np.eye(64, dtype=np.float32)[self.number(text)] for text in texts])

    def number(self, text):
        return self.numbers.setdefault(text, len(self.numbers))


class Unmeasured(ScriptedTarget):
    def activate(self, images, layers, progress=None):
        assert not images, "the control set is measured before the classes are looked up"
        return super().activate(images, layers, progress)


@pytest.fixture
def bank(tmp_path):
    for name in ("cat", "bus"):
        (tmp_path / "bank" / name).mkdir(parents=True)
        for number in range(3):
            noise = np.random.default_rng(number).integers(0, 255, (48, 48, 3), dtype=np.uint8)
            Image.fromarray(noise).save(tmp_path / "bank" / name / f"{number}.png")
    return ImageBankGenerator(folder_bank(tmp_path / "bank"), Words())


def components_for(store, generator, classes, **settings):
    model = ScriptedModel(lambda prompt, seed, temperature: "cat")
    settings = {"control": "hf:someone/set", **settings}
    made = scripted_components(store, model, generator=generator, classes=classes, target=Unmeasured(), **settings)
    named = made.settings.model_copy(update={"generator": "bank"})
    return replace(made, settings=named).with_(**made.opened())


def test_a_run_of_whose_classes_none_is_in_the_image_bank_does_not_start(tmp_path, bank):
    components = components_for(tmp_path / "s", bank, ("round", "square", "stripes"))
    said = r"^none of your classes \(round, square, stripes\) is in the bundled image bank \(use --generator b"
    with pytest.raises(UsageError, match=said):
        start(components, LAYER, ["0"])
    assert components.runs.runs() == []
    with pytest.raises(UsageError, match="with --init vocabulary or --init model"):
        start(components, LAYER, ["0"])


def test_classes_that_are_not_in_the_image_bank_are_counted_and_recorded(tmp_path, bank, caplog):
    components = components_for(tmp_path / "s", bank, ("cat", "round", "square"))
    run = start(components, LAYER, ["0"])
    said = (
        "2 of 3 classes (round, square) are not in the bundled image bank and cannot be on an initial scoreboard"
    )
    assert said in caplog.text
    (remark,) = run_problems(components.store, components.runs, run).remarks()
    assert remark.startswith(f"labels in doubt: {said}")


def test_a_run_with_all_classes_in_the_bank_has_no_doubt(tmp_path, bank, caplog):
    components = components_for(tmp_path / "s", bank, ("cat", "bus"))
    run = start(components, LAYER, ["0"])
    assert not caplog.text and run_problems(components.store, components.runs, run).remarks() == []


def test_words_of_a_vocabulary_are_looked_up_too(tmp_path, bank):
    (tmp_path / "words.txt").write_text("wheel\nstripes\n")
    components = components_for(
        tmp_path / "s", bank, (), init="vocabulary", control="none", vocabulary=tmp_path / "words.txt"
    )
    with pytest.raises(UsageError, match=r"^none of your words of the vocabulary \(wheel, stripes\)"):
        start(components, LAYER, ["0"])


class Unopened(Components):
    """Components of which nothing can be opened."""

    @property
    def target(self):
        raise AssertionError("the weights are loaded before the command is checked")


@pytest.mark.parametrize(
    ("layer", "units", "said"),
    [
        ("features.99", "0", r"mobilenet_v2 has no layer 'features.99' with units; near: features.9"),
        ("features.18", "@/none", r"/none cannot be read"),
        ("features.18", "@{folder}/units.csv", r"names no unit of layer features.18 \(its layers: conv\)"),
    ],
)
def test_a_layer_and_a_file_of_units_are_refused_before_any_weights_are_loaded(tmp_path, layer, units, said):
    (tmp_path / "units.csv").write_text("layer,unit\nconv,3\n")
    components = Unopened("torchvision:mobilenet_v2", Settings(store=tmp_path / "s"))
    with pytest.raises(UsageError, match=said):
        start(components, layer, [units.format(folder=tmp_path)])
    assert not (tmp_path / "s").exists()


def test_a_layer_of_an_own_checkpoint_or_function_is_looked_up_in_the_model_itself(tmp_path):
    for model, weights in (("torchvision:mobilenet_v2", tmp_path / "own.pth"), ("mynet.py:make", None)):
        components = Unopened(model, Settings(store=tmp_path / "s", weights=weights))
        with pytest.raises(AssertionError):
            start(components, "features.99", ["0"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"llm": "guided", "candidates": "wordnet", "generator": "bank"}, "an image bank has images of few of"),
        ({"llm": "near", "text_encoder": "/nofolder", "generator": "bank"}, "no text encoder '/nofolder'"),
        ({"llm": "near", "candidates": "drawable", "generator": "sdxl"}, "sdxl makes images of anything"),
        (
            {"hints_by": "improvement", "candidates": "vocabulary", "vocabulary": "/nofile"},
            "no word list '/nofile'",
        ),
        ({"llm": "random", "class_names": "/nofile"}, "class names '/nofile' does not exist"),
    ],
)
def test_what_cannot_be_read_is_refused_before_anything_is_loaded(tmp_path, given, said):
    components = Components("torchvision:mobilenet_v2", Settings(store=tmp_path / "s", control="bank", **given))
    with pytest.raises(UsageError, match=said):
        start(components, "classifier.1", ["0"])
    assert not components.opened()
    assert not (tmp_path / "s").exists()


def test_settings_of_prompts_are_noted_where_no_prompt_is_sent(tmp_path, caplog):
    given = {"llm": "guided", "hints_by": "improvement", "proposals": 5, "iterations": 0}
    opened = components(tmp_path, **given)
    start(opened, LAYER, ["0"])
    assert [record.message for record in caplog.records] == [
        "hints_by improvement has no effect: llm guided sends no prompts",
        "proposals 5 has no effect: llm guided sends no prompts",
    ]
