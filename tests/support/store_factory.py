"""A store as runs leave it: real graph, checkpoints and bank, instant scripted parts, images to look at.

Nothing in it depends on when or where it was made, so that screens that show it can be compared with snapshots.
"""

from __future__ import annotations

import io
import json
import sqlite3
import time
from contextlib import closing

import numpy as np
from langgraph.runtime import RunControl
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from line_neurons.agent.errors import BackendError
from line_neurons.agent.ports import ControlChunk, DrawnImage, LayerInfo
from line_neurons.agent.seeds import derive_seed
from line_neurons.agent.settings import Settings
from line_neurons.graphs.runs.components import Components
from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.tools.store.activity import report_activity
from line_neurons.tools.store.runs import RunStore
from support.fakes import ScriptedControl, ScriptedGenerator, ScriptedModel

FAILED = "resnet50-fc-1"
"""8 units, all done with; of unit 0 every kind of step, unit 5 failed."""
INTERRUPTED = "resnet50-layer4-1"
"""6 units: 0 and 1 finished, 2 stopped amid its search, 3 to 5 pending."""
FINISHED = "vit_b_16-heads.head-1"
"""3 units, all finished, then revisited."""

BEGAN = 1_772_528_400.0  # 2026-03-03 09:00:00 UTC
LAST_STEP = 5
UNIT_NAMES = (
    "tabby cat", "tiger", "zebra", "sea anemone", "lighthouse", "steam locomotive", "violin", "espresso",
)  # fmt: skip
REASON = "the language model's server at localhost:11434 closed the connection"

_CLASSES = (
    "acoustic guitar", "brick wall", "chessboard", "coral reef", "desert dune", "honeycomb", "lighthouse", "piano",
    "striped curtain", "sunflower", "tabby cat", "zebra",
)  # fmt: skip
_WORDS = (
    "diagonal stripes", "wet cobblestones", "spiral staircase", "foaming waves", "woven basket", "tiger fur",
    "rusty gears", "paper lanterns", "frosted window", "birch trunks", "neon sign", "tortoise shell",
)  # fmt: skip
_UNDRAWABLE = "infinite regret"
# What the language model says at (unit, step, attempt); elsewhere it takes a word.
_SCRIPT = {
    (0, 1, 0): "striped cat",
    (0, 2, 0): "striped cat",
    (0, 2, 1): "tiger fur",
    (0, 3, 0): _UNDRAWABLE,
    (0, 3, 1): "ring-tailed animal",
    **{(0, 4, attempt): "garbage" for attempt in range(3)},
    (0, 5, 0): "striped animal",
    (1, 4, 0): "tiger",
    (4, 5, 0): "tower by the sea",
    (2, 1, 0): "black and white stripes",
}
_SHAPES = ("circle", "stripes", "chess", "dots", "triangle")


def build(store):
    """Let the three runs come about in a store."""
    components = _parts(store, "torchvision:resnet50", "fc", 8, UNIT_NAMES)
    run = start(components, "fc", ["all"], "line batch torchvision:resnet50 fc --units all")
    work(components, run)

    components = _parts(store, "torchvision:resnet50", "layer4", 512, None, generator="bank", seed=7)
    run = start(components, "layer4", ["0-5"], "line batch torchvision:resnet50 layer4 --units 0-5 --seed 7")
    drain = RunControl()

    def stop_amid(progress):
        if (progress.unit, progress.step) == (2, 3):
            drain.request_drain("asked to stop by process 4242 on lab-gpu")

    work(components, run, stop_amid, drain)

    components = _parts(
        store,
        "torchvision:vit_b_16",
        "heads.head",
        8,
        UNIT_NAMES,
        revisit=True,
        llm="embedded",
        max_consecutive_failures=10,
    )
    run = start(
        components, "heads.head", ["1-3"], "line batch torchvision:vit_b_16 heads.head --units 1-3 --llm embedded"
    )
    work(components, run)
    components.runs.close()
    _without_clock(store)


def _parts(store, model, layer, units, names, **settings):
    given = {
        "iterations": 4, "top": 3, "random": 2, "images": 4, "retries": 2, "llm": "ollama:llama3.1:8b",
        "generator": "sdxl", "control": "bank", "max_consecutive_failures": 10, **settings,
    }  # fmt: skip
    components = Components(model, Settings(store=store, **given))
    return components.with_(
        language_model=ScriptedModel(_Answers(given.get("seed", 0)), "llama3.1:8b 46e0c10c039e"),
        generator=_Painter(unknown=frozenset({_UNDRAWABLE}), fingerprint=f"{given['generator']} 6f0c1a"),
        target=_Target(layer, units, names, f"{model} 0676ba61"),
        control_set=_Control(_CLASSES, "image bank, 12 classes of 1 image"),
    )


class _Answers:
    """The script, told which question is asked by its seed, as no prompt says which unit it is about."""

    def __init__(self, run_seed):
        self._places = {
            derive_seed("ask", run_seed, unit, step, attempt): (unit, step, attempt)
            for unit in range(8)
            for step in range(12)
            for attempt in range(4)
        }

    def __call__(self, prompt, seed, temperature):
        unit, step, attempt = self._places[seed]
        if (unit, step) == (5, 3):
            raise BackendError(REASON, "start it: ollama serve")
        concept = _SCRIPT.get((unit, step, attempt), _WORDS[(unit * 5 + step + attempt) % len(_WORDS)])
        reasoning = (
            f"The best concepts so far share a texture; {concept} would show it without an object around it."
        )
        return concept if concept == "garbage" else json.dumps({"reasoning": reasoning, "concept": concept})


class _Painter(ScriptedGenerator):
    """Images of one shape and colour for each concept, moved about by the seed."""

    def synthesize(self, requests, progress=None):
        super().synthesize(requests, progress)
        return [DrawnImage(painted(one.concept, one.seed), {"concept": one.concept}) for one in requests]


class _Control(ScriptedControl):
    def chunks(self, start=0):
        for index, name in enumerate(self.classes()[start:], start):
            yield ControlChunk((painted(name, index),), (index,))


class _Target:
    """Units that like different concepts, proposed ones a little more than those of the first board."""

    batch_size = 5

    def __init__(self, layer, units, names, fingerprint):
        self.fingerprint = fingerprint
        self._layer = LayerInfo(layer, "Linear", (units,), units)
        self._names = names

    def layers(self):
        return [self._layer]

    def unit_names(self, layer):
        return self._names

    def activate(self, images, layers, progress=None):
        said = [Image.open(io.BytesIO(image)).text for image in images]
        wobble = [derive_seed(one["seed"]) % 100 / 200 for one in said]
        values = [
            [_liked(one["concept"], unit) + more for unit in range(8)]
            for one, more in zip(said, wobble, strict=True)
        ]
        rows = np.zeros((len(images), self._layer.units), np.float32)
        rows[:, :8] = np.array(values, np.float32).reshape(len(images), 8)
        return dict.fromkeys(layers, rows)


def _liked(concept, unit):
    taste = derive_seed("taste", concept, unit) % 600 / 100
    favourite = (unit, concept) in {(0, "striped animal"), (1, "tiger"), (4, "tower by the sea")}
    return taste + (0 if concept in _CLASSES else 1.5) + 6 * favourite


def painted(concept, seed):
    """An image of 96 x 96 as a PNG file; says in a text chunk what it shows."""
    hue = derive_seed("hue", concept) % 256
    ground, ink = (Image.new("HSV", (1, 1), (h % 256, s, v)).convert("RGB").getpixel((0, 0))
                   for h, s, v in ((hue, 90, 235), (hue + 100, 200, 150)))  # fmt: skip
    image = Image.new("RGB", (96, 96), ground)
    draw, move = ImageDraw.Draw(image), seed % 24
    match _SHAPES[derive_seed("shape", concept) % len(_SHAPES)]:
        case "circle":
            draw.ellipse((12 + move, 12, 60 + move, 60), fill=ink)
        case "stripes":
            for x in range(move, 96, 16):
                draw.rectangle((x, 0, x + 7, 95), fill=ink)
        case "chess":
            for x in range(0, 96, 24):
                draw.rectangle((x, (x + move) % 48, x + 23, (x + move) % 48 + 23), fill=ink)
        case "dots":
            for x in range(8, 96, 20):
                draw.ellipse((x, x - 8 + move, x + 12, x + 4 + move), fill=ink)
        case _:
            draw.polygon(((10, 84), (86, 84), (36 + move, 10)), fill=ink)
    info, stream = PngInfo(), io.BytesIO()
    info.add_text("concept", concept)
    info.add_text("seed", str(seed))
    image.save(stream, "PNG", pnginfo=info)
    return stream.getvalue()


def _without_clock(store):
    """Times that do not depend on when the runs came about: a step every ten seconds, a run every day."""
    with closing(sqlite3.connect(store / "runs.db")) as db, db:
        for place, run in enumerate((FAILED, INTERRUPTED, FINISHED)):
            began = BEGAN + place * 86_400
            ended = None if run == INTERRUPTED else began + 3_600
            db.execute(
                "UPDATE runs SET created = ?, finished = ?, versions = ? WHERE id = ?",
                [began, ended, '{"line-neurons": "0.1.0", "torch": "2.14.1"}', run],
            )
            db.execute("UPDATE units SET seconds = 62.5 WHERE run = ? AND seconds > 0", [run])
            db.execute(
                "UPDATE steps SET created = ? + unit * 100 + step * 10 + attempt,"
                " seconds = CASE WHEN seconds IS NULL THEN NULL ELSE 1.5 END WHERE run = ?",
                [began, run],
            )
            db.execute(
                "UPDATE events SET created = ? + id - (SELECT min(id) FROM events WHERE run = ?) WHERE run = ?",
                [began, run, run],
            )


def at_work(
    store, run, *doings, drawn=0, reused=0, measured=0, host="lab-gpu", process=4242, began=None, stop=None
):
    """Let a process of another machine seem to work on a run, as its leases would say; it beats only now.

    Args:
        store: the store's folder.
        run: id of the run.
        doings: what its units in flight are doing.
        drawn: see ``activity.WorkCounts``; so ``reused`` and ``measured``.
        host: the machine.
        process: the process.
        began: when it took the run, in seconds since the epoch; none: now.
        stop: who asked it to stop.
    """
    now = time.time()
    with closing(RunStore(store)) as runs:
        runs.update_run(run, status="running", finished=None)
        with runs.atomic() as db:
            db.execute("DELETE FROM leases WHERE run = ?", [run])
            for unit in (None, *(doing.unit for doing in doings)):
                thread = run if unit is None else f"{run}/{unit}"
                values = [thread, run, unit, "token", process, host, "boot", began or now, 1, now, stop]
                db.execute(
                    "INSERT INTO leases (thread, run, unit, token, process, host, boot, began, beats, beat, stop)"
                    f" VALUES ({', '.join('?' * len(values))})",
                    values,
                )
            db.execute(
                "UPDATE leases SET drawn = ?, reused = ?, measured = ? WHERE thread = ?",
                [drawn, reused, measured, run],
            )
        for doing in doings:
            runs.update_unit(run, doing.unit, status="running")
            report_activity(runs, run, doing, generated=drawn, reused=reused, measured=measured)
