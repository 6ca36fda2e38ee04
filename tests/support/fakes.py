"""Scripted parts: instant, deterministic stand-ins behind the ports, for tests of the loop alone."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from line_neurons.agent.errors import NotDrawableError
from line_neurons.agent.ports import ControlChunk, DrawnImage, ImageRequest, LayerInfo, Prompt, Proposal
from line_neurons.agent.replies import parse_reply
from line_neurons.agent.seeds import derive_seed
from line_neurons.agent.settings import Settings
from line_neurons.graphs.runs.components import Components

LAYER = "head"


def image_of(*said: object) -> bytes:
    """A grey PNG file of one row, whose pixels spell what is said as JSON."""
    row = json.dumps(said).encode()
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", len(row), 1, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0" + row, 1)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def said_by(image: bytes) -> list:
    """What an image of ``image_of`` says."""
    size = struct.unpack(">I", image[33:37])[0]
    return json.loads(zlib.decompress(image[41 : 41 + size])[1:])


@dataclass
class ScriptedModel:
    """Answers from a list, or from a function of (prompt, seed, temperature); remembers what it was asked."""

    script: Sequence[str] | Callable[[Prompt, int, float], str]
    fingerprint: str = "scripted model"
    asked: list[tuple[Prompt, int, float]] = field(default_factory=list)

    def propose(self, prompt: Prompt, *, seed: int, temperature: float) -> Proposal:
        self.asked.append((prompt, seed, temperature))
        if callable(self.script):
            answer = self.script(prompt, seed, temperature)
        else:
            answer = self.script[len(self.asked) - 1]
        if not answer.startswith("{") and answer != "garbage":
            named = {"concept": answer} if prompt.concepts == 1 else {"concepts": answer.split(", ")}
            answer = json.dumps({"reasoning": f"because of {answer}", **named})
        return parse_reply(answer, concepts=prompt.concepts)


@dataclass
class ScriptedGenerator:
    """Images that spell their request; concepts in ``unknown`` cannot be drawn."""

    unknown: frozenset[str] = frozenset()
    hints: tuple[str, ...] = ()
    fingerprint: str = "scripted generator"
    batch_size: int = 1
    drawn: list[ImageRequest] = field(default_factory=list)

    def synthesize(self, requests, progress=None):
        for request in requests:
            if request.concept in self.unknown:
                raise NotDrawableError(request.concept, [("something else", 0.4)])
        self.drawn += requests
        return [DrawnImage(image_of(r.concept, r.seed, r.prompt), {"concept": r.concept}) for r in requests]

    def suggest(self, concepts, limit):
        return [hint for hint in self.hints if hint not in concepts][:limit]


@dataclass
class ScriptedTarget:
    """Scores by concept: a number, or a list with one for each time the concept is scored (``n`` images)."""

    scores: dict[str, float | list[float]] = field(default_factory=dict)
    run_seed: int = 0
    n: int = 5
    names: tuple[str, ...] | None = None
    fingerprint: str = "scripted target"
    batch_size: int = 5
    passes: int = 0

    def layers(self):
        return [LayerInfo(LAYER, "Linear", (3,), 3)]

    def unit_names(self, layer):
        return self.names

    def activate(self, images, layers, progress=None):
        self.passes += len(images)
        rows = np.array([[self._value(image) + unit for unit in range(3)] for image in images], np.float32)
        return dict.fromkeys(layers, rows.reshape(len(images), 3))

    def _value(self, image: bytes) -> float:
        concept, seed, _ = said_by(image)
        score = self.scores.get(concept)
        if score is None:
            return (derive_seed("score", concept) % 1000) / 1000
        if isinstance(score, list):
            indices = {derive_seed("image", self.run_seed, concept, i): i for i in range(self.n * len(score))}
            return score[indices[seed] // self.n]
        return score


@dataclass
class ScriptedControl:
    """A control set with one image a class."""

    names: tuple[str, ...]
    fingerprint: str = "scripted control"

    def classes(self):
        return tuple(sorted(self.names))

    def chunks(self, start=0):
        for index, name in enumerate(self.classes()[start:], start):
            image = image_of(name, derive_seed("image", 0, name, 0), "")
            yield ControlChunk((image,), (index,))

    @property
    def total(self):
        return len(self.names)

    size = total


def scripted_components(
    store: Path,
    model: ScriptedModel,
    *,
    target: ScriptedTarget | None = None,
    generator: ScriptedGenerator | None = None,
    classes: Sequence[str] = tuple(f"class {letter}" for letter in "abcdefghijkl"),
    **settings: object,
) -> Components:
    """Real settings, bank, run store and checkpoints around scripted parts."""
    components = Components("scripted:model", Settings(store=store, **settings))
    return components.with_(
        language_model=model,
        generator=generator or ScriptedGenerator(),
        target=target or ScriptedTarget(),
        control_set=ScriptedControl(tuple(classes)) if components.settings.control != "none" else None,
    )


def outcome(components: Components, run: str) -> tuple[list, list]:
    """What a run ended with: its units with their labels, and their histories with the boards."""
    units = [
        (u.unit, u.status, u.label, u.score, u.origin, u.second_label, u.images, u.auc, u.mad)
        for u in components.runs.units(run)
    ]
    steps = [
        (s.unit, s.step, s.attempt, s.kind, s.outcome, s.concept, s.score, s.images, s.board, s.detail)
        for unit in units
        for s in components.runs.steps(run, unit[0])
    ]
    return units, steps


def events(components: Components, run: str, kind: str) -> list[dict]:
    """The details of a run's events of one kind."""
    return [event["detail"] for event in components.runs.events(run) if event["kind"] == kind]
