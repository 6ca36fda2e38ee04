"""Maps of a unit in the app."""

import sys
from pathlib import Path

import pytest
from textual.widgets import Static

from line_neurons.tui.app import external
from line_neurons.tui.app.unit.images import ImageGrid
from line_neurons.tui.app.unit.maps import MapsScreen
from line_neurons.tui.app.unit.screen import UnitScreen
from support.app_pilot import opened, sees, until
from support.store_factory import FAILED

pytestmark = pytest.mark.anyio

WRITE = """
import json, sys
from pathlib import Path
from PIL import Image
folder = Path(sys.argv[sys.argv.index("--maps") + 1])
assert sys.argv[1:4] == ["show", "RUN", "0"] and sys.argv[-1] == "--json"
rows = []
for images, several in (("label", 3), ("control", 2)):
    for number in range(1, several + 1):
        file = folder / f"{images}-{number}.png"
        Image.new("RGB", (32, 32), (number * 60, 0, 0)).save(file)
        rows.append({"images": images, "image": number, "file": str(file), "activation": 1.5, "error": None,
                     "map": "class activation map"})
rows[0] |= {"file": None, "error": "is missing [b]"}
print(json.dumps(rows))
""".replace("RUN", FAILED)


async def maps_opened(pilot, store):
    screen = UnitScreen(store, FAILED, 0)
    pilot.app.push_screen(screen)
    await until(pilot, lambda: screen.sub_title)
    await pilot.press("7")
    await until(pilot, lambda: isinstance(pilot.app.screen, MapsScreen))
    return pilot.app.screen


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_the_images_with_their_maps_are_a_key_away(store, monkeypatch, size):
    monkeypatch.setattr(external, "COMMAND", [sys.executable, "-c", WRITE])
    async with opened(store, size=size) as pilot:
        maps = await maps_opened(pilot, store)
        await until(pilot, lambda: len(maps.query_one(ImageGrid).loaded) == 3)
        await sees(pilot, "class activation map: the label's images", "the image is missing", "[b]")
        await pilot.press("n")
        await until(pilot, lambda: len(maps.query_one(ImageGrid).loaded) == 2)
        await sees(pilot, "control images with the highest activations")
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, UnitScreen))


async def test_why_maps_cannot_be_computed_is_told(store, monkeypatch):
    said = "import sys; sys.exit('error: the target is not the one of the run [b]')"
    monkeypatch.setattr(external, "COMMAND", [sys.executable, "-S", "-c", said])
    async with opened(store, size=(80, 24)) as pilot:
        maps = await maps_opened(pilot, store)
        summary = maps.query_one("#summary", Static)
        await until(pilot, lambda: "cannot be computed: the target is not the one" in str(summary.render()))


async def test_leaving_ends_the_computation(store, monkeypatch):
    monkeypatch.setattr(external, "COMMAND", [sys.executable, "-S", "-c", "import time; time.sleep(600)"])
    async with opened(store, size=(80, 24)) as pilot:
        maps = await maps_opened(pilot, store)
        process, folder = maps._listing._process, maps._folder.name
        await sees(pilot, "computing for")
        await pilot.press("escape")
        await until(pilot, lambda: process.poll() is not None)
        assert not Path(folder).exists()
