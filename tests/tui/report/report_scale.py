"""How large reports are and how fast they open: python tests/tui/report/report_scale.py STORE FOLDER [UNITS].

Makes a run of UNITS units (500) in FOLDER, out of parts of the images that are in STORE: boards of ten from 160
classes, ten iterations and a summary, a question of five refused, five images a concept, 2,000 concepts in all.
Writes it as one page and as a folder, and opens both in Chromium.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import shutil
import sys
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import numpy as np
from PIL import Image

from line_neurons.agent.ports import Control
from line_neurons.agent.settings import Settings
from line_neurons.graphs.runs.lifecycle import recorded_settings
from line_neurons.tools.cache.activation_cache import Cache
from line_neurons.tools.cache.reader import control_key
from line_neurons.tools.store.records import Run, Step, Unit
from line_neurons.tools.store.runs import RunStore
from line_neurons.tui.report.writer import write_report

CLASSES, CONCEPTS, IMAGES, BOARD, ITERATIONS, REFUSED = 160, 2000, 5, 10, 10, 0.2
SIDE = 256
RUN, LAYER, TARGET, CONTROL = "net-layer-1", "layer", "net 0123", "control 4567"
REASONING = (
    "Castle, stone bridge and palace share towers and pale stone, and the plain hot air balloon is weak. "
    "Other things with towers: cathedral, capitol building, skyscraper, amphitheatre."
)


def make(store: Path, source: Path, units: int) -> None:
    """Write the run."""
    draw = random.Random(0)
    originals = [path.read_bytes() for path in sorted((source / "images").glob("??/*.png"))]
    concepts = [f"concept {number}" for number in range(CONCEPTS)]
    vectors = np.random.default_rng(0)
    images: dict[str, tuple[str, ...]] = {}
    with closing(Cache(store)) as bank:
        for concept in concepts:
            images[concept] = tuple(_image(store, draw, originals) for _ in range(IMAGES))
            with bank._folder.transaction() as db:
                for number, image in enumerate(images[concept]):
                    prompt = f"A realistic photo of a {concept}, wide angle shot, natural sunlight"
                    account = json.dumps({"subjects": [{"caption": concept, "similarity": 0.9, "file": concept}]})
                    db.execute(
                        "INSERT OR IGNORE INTO draws VALUES ('painter', ?, ?, ?, 0, '{}', ?, NULL)",
                        (prompt, number, image, account),
                    )
                    vector = vectors.normal(size=units).astype("<f4").tobytes()
                    db.execute(
                        "INSERT OR IGNORE INTO activations VALUES (?, ?, ?, ?, NULL, NULL)",
                        (image, TARGET, LAYER, vector),
                    )
        rows = vectors.normal(size=(8000, units)).astype(np.float32)
        control = Control(tuple(concepts[:CLASSES]), np.arange(8000) % CLASSES, rows)
        bank.put_control(control_key(TARGET, LAYER, CONTROL), control)
    with closing(RunStore(store)) as runs:
        fingerprints = {"target": TARGET, "generator": "painter", "language_model": "model", "control": CONTROL}
        run = Run(
            RUN,
            "module:net",
            LAYER,
            0,
            "finished",
            1.0,
            recorded_settings(Settings()),
            fingerprints,
            {},
            finished=9e4,
        )
        histories = [_history(draw, unit, concepts, images) for unit in range(units)]
        runs.add_run(run, [unit for unit, _ in histories])
        for _, steps in histories:
            runs.put_steps(steps)


def _image(store: Path, draw: random.Random, originals: list[bytes]) -> str:
    with Image.open(io.BytesIO(draw.choice(originals))) as image:
        side = draw.randint(128, min(image.size))
        left, top = draw.randint(0, image.width - side), draw.randint(0, image.height - side)
        part = image.convert("RGB").resize((SIDE, SIDE), box=(left, top, left + side, top + side))
    written = io.BytesIO()
    part.save(written, "PNG", compress_level=1)
    name = hashlib.sha256(written.getvalue()).hexdigest()
    path = store / "images" / name[:2] / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(written.getvalue())
    return name


def _history(
    draw: random.Random, unit: int, concepts: list[str], images: dict[str, tuple[str, ...]]
) -> tuple[Unit, list[Step]]:
    board = sorted(
        ((name, draw.gauss(0, 2)) for name in draw.sample(concepts[:CLASSES], BOARD)), key=lambda one: -one[1]
    )
    first = board[0]
    common = {"model": "model", "seed": 1, "temperature": 0.5, "seconds": 2.0}
    steps = [
        Step(RUN, unit, 0, at, "initial", "scored", name, score, origin="predefined", images=images[name],
             board=tuple(board))
        for at, (name, score) in enumerate(board)
    ]  # fmt: skip
    for step in range(1, ITERATIONS + 2):
        kind, origin = ("iteration", "proposed") if step <= ITERATIONS else ("summary", "summary")
        attempt = 0
        while draw.random() < REFUSED:
            steps.append(
                Step(RUN, unit, step, attempt, kind, "duplicate", board[0][0], reasoning=REASONING,
                     detail={"reason": f'"{board[0][0]}" was tried already.'}, **common)
            )  # fmt: skip
            attempt += 1
        name = draw.choice(concepts[CLASSES:])
        left = board.pop()
        board = _best_first([*board, (name, draw.gauss(1, 2))])
        steps.append(
            Step(RUN, unit, step, attempt, kind, "scored", name, dict(board)[name], REASONING, origin=origin,
                 images=images[name], board=tuple(board), removed=left[0], **common)
        )  # fmt: skip
    label, score = board[0]
    found = Unit(
        RUN, unit, unit, "finished", None, label, score, "proposed", 1, True, *first, draw.uniform(0.7, 1), 2.0,
        60.0, "", images[label], *board[1], ITERATIONS + 1, None, None, label, score,
    )  # fmt: skip
    return found, steps


def _best_first(board: Iterable[tuple[str, float]]) -> list[tuple[str, float]]:
    return sorted(board, key=lambda one: -one[1])


def opening(page: Path) -> str:
    """How long a browser takes to show a page, to search it, and to go to its last unit; its memory."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 1200, "height": 900})
        opened.goto(page.as_uri())
        paint, loaded = opened.evaluate(
            """() => [
                performance.getEntriesByName("first-contentful-paint")[0].startTime,
                performance.getEntriesByType("navigation")[0].loadEventEnd,
            ]"""
        )
        after_frames = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        began = time.perf_counter()
        opened.fill("#find", "concept 77")
        opened.evaluate(after_frames)
        searched = time.perf_counter() - began
        opened.fill("#find", "")
        began = time.perf_counter()
        opened.locator("table.labels a").last.click()
        opened.wait_for_load_state()
        opened.evaluate(after_frames)
        went = time.perf_counter() - began
        heap = opened.evaluate("performance.memory.usedJSHeapSize")
        browser.close()
    return (
        f"first paint {paint / 1000:.1f} s, loaded {loaded / 1000:.1f} s, searched {searched:.2f} s, "
        f"last unit {went:.2f} s, heap {heap / 1e6:.0f} MB"
    )


def main() -> None:
    """Measure and print."""
    source, folder = Path(sys.argv[1]), Path(sys.argv[2]).resolve()
    units = int(sys.argv[3]) if len(sys.argv) > 3 else 500
    store = folder / "store"
    if not store.exists():
        make(store, source, units)
    for name in ("report.html", "report"):
        began = time.perf_counter()
        written = write_report(store, RUN, folder / name, one_page=True)
        took = time.perf_counter() - began
        print(f"{name}: {written.units} units, {written.size / 1e6:.0f} MB, written in {took:.0f} s")
        print(f"  {opening(written.path)}")
        if name == "report":
            first = written.path.stat().st_size
            page = (folder / name / "units" / "unit-0.html").stat().st_size
            files = len(list((folder / name / "pictures").iterdir()))
            print(f"  index {first / 1e6:.2f} MB, a unit's page {page / 1e3:.0f} kB, {files} image files")


if __name__ == "__main__":
    main()
