"""What in the documentation stands for what in its test: small real things, and instant ones for what is not here.

The command line, settings, graph, checkpoints, stores, image bank, control sets and the Ollama client are the real
ones. Not here are weights of hubs, a GPU, the asset packs, the terminal and the package registries.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet
import pytest
import torch
from PIL import Image, ImageDraw
from torchvision.models import ResNet50_Weights, mobilenet_v3_small

from line_neurons.agent import presets
from line_neurons.agent.errors import BackendError, MissingPartError, UsageError
from line_neurons.agent.ports import DrawnImage
from line_neurons.graphs.runs import components as assembly
from line_neurons.graphs.runs import lifecycle as runs
from line_neurons.tools import component_opening
from line_neurons.tools.doctor import installation as doctor
from line_neurons.tools.generators.presets import parse_source
from line_neurons.tools.image_bank import bank as image_bank
from line_neurons.tools.image_bank import cutouts, text_encoder
from line_neurons.tools.image_bank.folder import open_bank
from line_neurons.tools.target_specs import is_custom_function
from line_neurons.tools.targets.base import ModelBundle
from line_neurons.tools.targets.hooked_target import HookedTarget
from line_neurons.tools.targets.planted.models import PlantedNetwork
from line_neurons.tools.targets.planted.truth import NETWORK, planted_units
from line_neurons.tools.targets.registry import open_target, pinned_spec
from support.doc_commands import ROOT
from support.fake_ollama import ScriptedOllama, answer, proposal, serving, stream
from support.fake_openai import ScriptedOpenAI
from support.fake_openai import answer as openai_answer
from support.fake_openai import serving as openai_serving
from support.fakes import ScriptedGenerator, ScriptedModel
from support.small_wordnet import small_wordnet
from support.store_factory import painted

THINGS = (
    "acoustic guitar", "castle", "honeycomb", "killer whale", "lighthouse", "pipe organ", "steam locomotive",
    "sunflower", "tabby cat", "tiger", "violin", "zebra",
)  # fmt: skip
"""What the small image bank has images of, and the classes of the small control sets."""
COLOURS = ("red", "green", "blue", "yellow", "black", "white")
MODELS = ("llama3.1:8b", "qwen2.5:7b", "qwen2.5:latest")
"""What the Ollama server has, besides what it is asked to pull."""
HERE: set[str] = set()
"""Models whose weights a page has fetched; the asset packs have MobileNetV2."""
UNITS = 2
"""Of the units that a command names, so many are worked on."""
SIDE = 64
"""Pixels of an image for a model that takes any: maps need many forward passes, which take a tenth of the time."""
SIZES = {
    "LINE_TOP": "2", "LINE_RANDOM": "2", "LINE_IMAGES": "1", "LINE_ITERATIONS": "1", "LINE_CONTROL_IMAGES": "1",
    "LINE_RETRIES": "8",
}  # fmt: skip
"""How large a run is where the documentation's own flags do not say."""


def lay_out(folder: Path) -> None:
    """The files that pages take for granted, in a page's folder."""
    for name in ("imagenet/val", "captioned", "scans"):
        for place, thing in enumerate(THINGS):
            (folder / name / thing).mkdir(parents=True)
            for number in range(3):
                file = folder / name / thing / f"{number}.png"
                file.write_bytes(painted(thing, 7 * place + number))
                if name == "captioned":
                    _cut_out(file)
    for place, thing in enumerate(THINGS):
        shutil.copytree(folder / "imagenet" / "val" / thing, folder / "numbered" / str(place))
        (folder / "xrays" / thing).mkdir(parents=True)
        with Image.open(folder / "imagenet" / "val" / thing / "0.png") as image:
            grey = np.asarray(image.convert("L"), np.uint16) * 16
        Image.fromarray(grey).save(folder / "xrays" / thing / "0.png")
    (folder / "imagenet_class_index.json").write_text(json.dumps(dict(enumerate(THINGS))))
    for at, thing in nouns().items():
        file = folder / "photos" / f"n{at:08}_{thing}.png"
        if thing in THINGS:
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(painted(thing, at))
    (folder / "photos" / "control").symlink_to(folder / "imagenet" / "val")
    (folder / "imagenet-val").symlink_to(folder / "imagenet" / "val")
    (folder / "sdxl").mkdir()
    (folder / "archives").mkdir()
    (folder / "examples").symlink_to(ROOT / "examples")
    for name in ("cat", "bee"):
        Image.new("RGB", (32, 32), "orange").save(folder / f"{name}.jpg")
    (folder / "mine.pth").touch()
    (folder / "places365.pth").touch()
    for name in ("flowers", "other"):
        torch.save(mobilenet_v3_small(num_classes=3).state_dict(), folder.parent / f"{name}.pth")
        (folder / f"{name}.pth").symlink_to(folder.parent / f"{name}.pth")
    (folder / "words.txt").write_text("\n".join(THINGS))
    (folder / "units.csv").write_text("unit,layer\n3,avgpool\n7,avgpool\n")
    (folder / "invert.csv").write_text("neuron,concept,concept_id,metric\n281,violin,1,0.9\n282,tiger,2,0.9\n")
    formulas = "neuron,concept,concept_id,metric\n281,violin OR castle,1,0.9\n282,tiger AND NOT cat,2,0.9\n"
    (folder / "formulas.csv").write_text(formulas)
    peers = folder / "assets" / "explanations" / "INVERT"
    peers.mkdir(parents=True)
    rows = (f"{unit},{THINGS[unit % len(THINGS)]},1,0.9" for unit in range(512))
    (peers / "resnet18-avgpool.csv").write_text("\n".join(["neuron,concept,concept_id,metric", *rows]))
    pyarrow.parquet.write_table(
        pyarrow.table({"run": ["theirs"], "unit": [3], "label": ["castle"], "score": [0.5]}),
        folder / "theirs.parquet",
    )
    (folder / "chat_model.py").write_text(_CHAT_MODEL)


def _cut_out(file: Path) -> None:
    """Make an image a round one, so that a bank can paint it in colours."""
    with Image.open(file) as image:
        image.load()
    mask = Image.new("L", image.size)
    ImageDraw.Draw(mask).ellipse((2, 2, *(side - 3 for side in image.size)), fill=255)
    image.putalpha(mask)
    image.save(file)


_CHAT_MODEL = '''
"""A chat model of LangChain that answers at once."""
from itertools import count
from langchain_core.language_models import FakeListChatModel

class Chat(FakeListChatModel):
    responses: list[str] = []
    def _call(self, messages, stop=None, run_manager=None, **kwargs):
        from support import doc_stand_ins
        return doc_stand_ins.reply(next(_NUMBERS))

_NUMBERS = count()
'''


@lru_cache(maxsize=1)
def phrases() -> list[str]:
    """What language models say: things that the small image bank can draw."""
    return [f"{colour} {thing}" for thing in THINGS for colour in COLOURS]


def reply(number: int, concepts: int = 1) -> str:
    """A reply that a number decides, with as many concepts as were requested."""
    known = phrases()
    if concepts > 1:
        named = [known[(number + at) * 37 % len(known)] for at in range(concepts)]
        return json.dumps({"reasoning": "they go with what stands highest", "concepts": named})
    return proposal(known[number * 37 % len(known)], "it goes with what stands highest")


def _answer(handler, question):
    wanted = question.get("format")
    several = wanted["properties"].get("concepts") if isinstance(wanted, dict) else None
    concepts = several["maxItems"] if several else 1
    answer(reply(question["options"]["seed"], concepts))(handler, question)


def _answer_openai(handler, question):
    openai_answer(reply(question["seed"]))(handler, question)


def _pulled(handler, question):
    handler.script.models.setdefault(question["model"], "f" * 64)
    layer = {"status": "pulling aabbcc", "digest": "sha256:aabbcc", "total": 100}
    stream(layer, layer | {"completed": 100}, {"status": "success"})(handler, question)


class Letters:
    """Embeds a text as its letters, of length 1: the text encoder of the small image bank."""

    fingerprint = "letters"

    def __init__(self, folder, threads=None):
        self.folder = folder

    def encode(self, texts):
        rows = np.array([[text.count(chr(97 + at)) + 1e-3 for at in range(26)] for text in texts], np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class Painter(ScriptedGenerator):
    """Small images at once for every text-to-image model, whose name and settings are looked at."""

    out_of_order = False

    def synthesize(self, requests, progress=None):
        if Painter.out_of_order and len(self.drawn) > 3:
            raise BackendError("the generator is out of order", "mend it")
        self.drawn += requests
        return [DrawnImage(painted(one.concept, one.seed), {"concept": one.concept}) for one in requests]


def open_painter(spec, settings, *, device="auto", download=False, expected_batch=5, callers=1):
    source = parse_source(spec)
    if not source.preset and not source.folder:
        raise UsageError(f"{spec} is no preset", "the test knows no other hub models")
    return Painter(fingerprint=f"{spec} {settings.model_dump(exclude_none=True)}")


class Outline(HookedTarget):
    """A real architecture without its weights: layers, units and names are its own, activations are made up."""

    def activate(self, images, layers, progress=None):
        units = {layer: rows.shape[1] for layer, rows in super().activate([], layers).items()}
        seeds = [int.from_bytes(hashlib.sha256(bytes(image)).digest()[:8]) for image in images]
        return {
            layer: np.array([np.random.default_rng([seed, count]).random(count) for seed in seeds], np.float32)
            .reshape(len(images), count)
            for layer, count in units.items()
        }  # fmt: skip


def _empty(make, *arguments, **options):
    """A module with weights of 0, made without the time that random ones take."""
    with torch.device("meta"):
        module = make(*arguments, **options)
    module.to_empty(device="cpu")
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.detach().zero_()
    return module.eval()


@lru_cache(maxsize=8)
def _module(prefix: str, name: str):
    if prefix == "torchvision":
        from torchvision import models

        return _empty(models.get_model, name, weights=None), models.get_model_weights(name).DEFAULT.meta[
            "categories"
        ]
    if prefix == "timm":
        import timm

        return _empty(timm.create_model, name, pretrained=False), ()
    if (prefix, name) == ("hf", "facebook/dinov2-small"):
        from transformers import Dinov2Config, Dinov2Model

        # With weights of 0 no token could be told from another: the class token is known by its values.
        config = Dinov2Config(hidden_size=48, num_hidden_layers=12, num_attention_heads=6)
        return Dinov2Model(config).eval(), ()
    if (prefix, name) == ("planted", "mobilenet_v2"):
        from torchvision import models

        names = [unit.name for unit in planted_units(NETWORK)]
        features = [f"feature {number}" for number in range(1280)]
        return PlantedNetwork(_empty(models.mobilenet_v2)).eval(), [*names, *features]
    if prefix in {"places365", "robust"} and name == "resnet50":
        from torchvision import models

        return _empty(models.resnet50), ()
    raise UsageError(f"{prefix}:{name} has no stand-in", "add one")


def _pixels(image, side):
    return torch.from_numpy(np.array(image.resize((side, side)), np.float32).transpose(2, 0, 1))


def _sketched(draw):
    """A figure without the layout, which takes longer than all else; tests of the reports have the whole."""
    written = io.BytesIO()
    draw().savefig(written, format="svg")
    return {"png": b"", "svg": written.getvalue()}


@lru_cache(maxsize=32)
def _outline(prefix, name, weights, **options):
    module, classes = _module(prefix, name)
    return Outline(
        ModelBundle(
            f"{prefix}:{name}",
            f"none ({weights})",
            "squeezed",
            lambda image: _pixels(image, getattr(module, "image_size", SIDE)),
            lambda: module,
            () if weights else tuple(classes),
        ),
        **options,
    )


def open_outline(spec, *, assets=None, weights=None, download=False, **options):
    """Functions of one's own are opened as they are; other models are outlines."""
    if is_custom_function(spec):
        return open_target(spec, assets=assets, weights=weights, download=download, **options)
    if weights is not None and not weights.is_file():
        raise MissingPartError(f"{weights} is no file", "name one")
    spec = pinned_spec(spec)
    if weights is None and not download and spec not in HERE:
        raise MissingPartError(f"the weights of {spec} are not here", "add --download")
    HERE.add(spec)
    prefix, _, name = spec.partition(":")
    return _outline(prefix, name.partition("@")[0], weights and weights.name, **options)


class _Encoder:
    """In the place of CLIP: an image's colours, a text's letters."""

    fingerprint = "colours and letters"

    def images(self, images):
        return np.array([np.resize(np.frombuffer(bytes(one), np.uint8)[-99:], 26) for one in images], np.float32)

    def texts(self, texts):
        return Letters(None).encode(texts)


def _first_units(components, layer, selectors, real=runs.select_units):
    units, names = real(components, layer, selectors)
    return units[:UNITS], names


def _language_model(spec, real=assembly.open_language_model, **given):
    if spec.partition(":")[0] != "embedded":
        return real(spec, **given)
    return ScriptedModel(lambda prompt, seed, temperature: reply(seed, prompt.concepts), fingerprint=spec)


def nouns() -> dict[int, str]:
    """The words of the small WordNet by offset: ImageNet's classes in their order, then the things."""
    return dict(enumerate((*ResNet50_Weights.IMAGENET1K_V1.meta["categories"], *THINGS), 2))


def _word_net(folder: Path) -> None:
    """A WordNet of these nouns, all of one kind."""
    folder.mkdir(parents=True)
    named = {at: ([noun.replace(" ", "_")], [1]) for at, noun in nouns().items()}
    small_wordnet(folder, {1: (["thing"], []), **named})


@contextmanager
def stood_in(folder: Path) -> Iterator[SimpleNamespace]:
    """Put the stand-ins in their places.

    Args:
        folder: for the small image bank and asset packs.

    Yields:
        ``server`` (the Ollama server's address).
    """
    from line_neurons.eval.baselines import clip_dissect, describe_and_dissect
    from line_neurons.eval.cosy import images as concept_images
    from line_neurons.eval.reports import figures
    from line_neurons.tools.targets.gradients import grad_cam
    from line_neurons.tui.app import app
    from line_neurons.tui.cli import assets as asset_commands
    from line_neurons.tui.cli import jobs as labelling
    from line_neurons.tui.cli.eval import baseline as baseline_commands
    from line_neurons.tui.cli.eval import suite

    lay_out(folder / "laid out")
    _word_net(folder / "assets" / "wordnet")
    bank = open_bank(str(folder / "laid out" / "captioned"))
    server = ScriptedOllama(_answer, models=dict.fromkeys(MODELS, "e" * 64), pull=[_pulled])
    of_openai = ScriptedOpenAI(_answer_openai)
    with pytest.MonkeyPatch.context() as patch, serving(server), openai_serving(of_openai):
        for name, value in SIZES.items():
            patch.setenv(name, value)
        patch.setenv("OLLAMA_HOST", server.url)
        patch.setenv("OPENAI_BASE_URL", of_openai.base_url)
        patch.setenv("LINE_ASSETS", str(folder / "assets"))
        patch.setattr(component_opening, "open_target", open_outline)
        patch.setattr(component_opening, "open_text_to_image", open_painter)
        patch.setattr(assembly, "open_language_model", _language_model)
        patch.setattr(image_bank, "bundled_bank", lambda assets, name="bank": bank)
        patch.setattr(text_encoder, "SentenceEncoder", Letters)
        patch.setattr(cutouts, "make_cutouts", lambda assets, progress: (assets / "cutouts", []))
        for module in (runs, labelling, suite, baseline_commands):
            patch.setattr(module, "select_units", _first_units)
        for module in (clip_dissect, describe_and_dissect):
            patch.setattr(module, "open_encoder", lambda spec, **given: _Encoder())
        patch.setattr(concept_images, "IMAGES", 2)
        patch.setattr(figures, "rendered", _sketched)
        # Networks without weights have no gradients in any layer.
        patch.setattr(grad_cam, "_MOST_LAYERS", 3)
        sizes = {name.removeprefix("LINE_").lower() for name in SIZES}
        small = {name: value for name, value in presets.PAPER.items() if name not in sizes}
        patch.setattr(presets, "PRESETS", {"paper": small})
        patch.setattr(doctor, "_probe", lambda parts, *_: (doctor.Finding(one, "ok", "here") for one in parts))
        patch.setattr(asset_commands, "install_all", lambda packs, **given: [folder / pack.name for pack in packs])
        terminal = SimpleNamespace(isatty=lambda: True)
        patch.setattr(app, "sys", SimpleNamespace(stdin=terminal, stdout=terminal, stderr=terminal))
        patch.setattr(app.LineApp, "run", _shown)
        yield SimpleNamespace(server=server.url, bank=bank)


async def _leave(pilot) -> None:
    await pilot.pause()
    pilot.app.exit()


def _shown(self):
    """Open the app without a terminal, and leave it when its first screen is there."""
    from textual.app import App

    return App.run(self, headless=True, size=(120, 40), auto_pilot=_leave)
