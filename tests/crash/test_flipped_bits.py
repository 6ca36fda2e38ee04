"""Bits that a disk flips in the bank of a store whose run is half done: nothing of it is used.

`make crash` flips bits in every page three times, otherwise in every third page once.
"""

import os
import random
import shutil
from collections import Counter
from contextlib import suppress

import pytest
from langgraph.runtime import RunControl

from line_neurons.agent.errors import LineError
from line_neurons.graphs.runs.lifecycle import start, work
from support.fakes import LAYER, ScriptedModel, ScriptedTarget, outcome, scripted_components

ALL = "LINE_KILLS" in os.environ
PAGE, BITS = 4096, 32


def components_for(store):
    model = ScriptedModel(lambda prompt, seed, temperature: f"thing {seed % 997}")
    return scripted_components(store, model, iterations=3, top=2, random=2, images=2,
                          target=ScriptedTarget({"class a": 0.6}))  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    components = components_for(tmp_path_factory.mktemp("whole"))
    run = work(components, start(components, LAYER, ["0-2"]))
    return outcome(components, run.id)


@pytest.fixture(scope="module")
def half_done(tmp_path_factory):
    """A closed store whose run was stopped in its second unit."""
    store = tmp_path_factory.mktemp("half") / "store"
    components, drain = components_for(store), RunControl()

    def watch(progress):
        if (progress.unit, progress.node, progress.step) == (1, "score", 2):
            drain.request_drain("test")

    run = work(components, start(components, LAYER, ["0-2"]), watch, drain)
    assert run.status == "interrupted"
    components.runs.close()
    components.cache.close()
    assert not list(store.glob("*-wal"))
    return store


def pages(store):
    files = [store / "bank.db", *sorted(store.glob("controls/*.npz"))]
    return [(file, at) for file in files for at in range(0, file.stat().st_size, PAGE)]


def come_out(store, expected):
    """What a resume of the run comes to."""
    try:
        components = components_for(store)
        run = work(components, components.runs.run("model-head-1"))
        if run.status == "failed":
            return "a failed unit"
        return "as undisturbed" if outcome(components, run.id) == expected else "another result"
    except LineError:
        return "an error"
    finally:
        with suppress(UnboundLocalError):
            for name in ("runs", "cache"):
                if name in components.opened():
                    getattr(components, name).close()


def test_flipped_bits_in_the_bank_never_give_another_result(half_done, undisturbed, tmp_path):
    found = Counter()
    chosen = [(file, at, turn) for file, at in pages(half_done) for turn in range(3)]
    for number, (file, at, turn) in enumerate(chosen):
        if not ALL and number % 9:
            continue
        store = shutil.copytree(half_done, tmp_path / "store")
        spoilt, rng = store / file.relative_to(half_done), random.Random(number)
        content = bytearray(spoilt.read_bytes())
        for _ in range(BITS):
            content[min(at + rng.randrange(PAGE), len(content) - 1)] ^= 1 << rng.randrange(8)
        spoilt.write_bytes(content)
        came = come_out(store, undisturbed)
        found[came] += 1
        assert came != "another result", (file.name, at, turn)
        shutil.rmtree(store)
    print(f"\nbits flipped in {found.total()} pages: {dict(found)}")  # noqa: T201
