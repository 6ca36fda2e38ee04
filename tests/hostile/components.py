"""Parts of a run that bring hostile text in wherever a part can."""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from hostile.texts import NAMED
from line_neurons.agent.errors import NotDrawableError
from line_neurons.agent.ports import DrawnImage, LayerInfo, Prompt
from line_neurons.agent.settings import Settings
from line_neurons.graphs.runs.components import Components
from line_neurons.tools.control_sets.class_names import index_classes, readable_names
from line_neurons.tools.language_models.engine import Completion
from line_neurons.tools.language_models.proposer import Proposer
from line_neurons.tools.language_models.reply_cache import ReplyCache
from support.fakes import ScriptedControl, ScriptedGenerator, ScriptedTarget

TEXTS = tuple(NAMED.values())
LAYER = NAMED["path"]


class Talker:
    """A chat engine that answers with each text, alone and as the concept, then with concepts of its own."""

    def __init__(self) -> None:
        self.prompts: list[Prompt] = []
        as_json = [json.dumps({"reasoning": text, "concept": text}) for text in TEXTS]
        raw = ['{"reasoning": "' + text + '", "concept": "' + text + '"}' for text in TEXTS]
        self.answers = [answer for three in zip(TEXTS, as_json, raw, strict=True) for answer in three]

    def complete(self, prompt: Prompt, *, seed: int, temperature: float) -> Completion:
        self.prompts.append(prompt)
        number = len(self.prompts) - 1
        if number < len(self.answers):
            return Completion(self.answers[number], False, thoughts=TEXTS[number % len(TEXTS)])
        return Completion(json.dumps({"reasoning": "r", "concept": f"owl {number}"}), False)


@dataclass
class NoisyGenerator(ScriptedGenerator):
    """Draws noise; its captions are the texts, and every fifth concept is near them but not to be had."""

    def synthesize(self, requests, progress=None):
        for request in requests:
            if zlib.crc32(request.concept.encode()) % 5 == 0:
                raise NotDrawableError(request.concept, [(text, 0.5) for text in TEXTS])
        self.drawn += requests
        return [DrawnImage(_noise(f"{r.prompt}\0{r.seed}"), _account(r.concept)) for r in requests]

    def suggest(self, concepts, limit):
        return list(TEXTS[:limit])


def _noise(key: str) -> bytes:
    pixels = np.random.default_rng(zlib.crc32(key.encode())).integers(0, 256, (8, 8, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def _account(concept: str) -> dict[str, object]:
    text = TEXTS[zlib.crc32(concept.encode()) % len(TEXTS)]
    return {"subjects": [{"caption": text, "similarity": 0.9, "file": text}], text: text}


@dataclass
class NoisyTarget(ScriptedTarget):
    """Scores by the image's bytes; its layer and its units have hostile names."""

    def layers(self):
        return [LayerInfo(LAYER, "Linear", (3,), 3)]

    def _value(self, image):
        return zlib.crc32(image) % 1000 / 1000


def hostile_components(store: Path, talker: Talker, names: Sequence[str], **settings: object) -> Components:
    """Real settings, proposer, caches, bank, run store and checkpoints around parts that bring the texts."""
    components = Components(f"scripted:{NAMED['two lines']}", Settings(store=store, **settings))
    return components.with_(
        language_model=Proposer(lambda: talker, NAMED["link"], ReplyCache(store / "replies.db")),
        generator=NoisyGenerator(fingerprint=NAMED["Rich markup"]),
        target=NoisyTarget(names=tuple(names), fingerprint=NAMED["override"]),
        control_set=ScriptedControl(index_classes(readable_names(TEXTS))[0], fingerprint=NAMED["SQL"]),
    )
