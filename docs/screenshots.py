"""Render the images of docs/tui.md and report.md from a store: python docs/screenshots.py STORE [RUN [UNIT]].

Writes SVG into docs/images, and, where a Chromium or Chrome is installed, PNG beside it and the report's image.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from textual.pilot import Pilot

from line_neurons.tools.store.runs import RunStore
from line_neurons.tui.app import themes
from line_neurons.tui.app.app import LineApp
from line_neurons.tui.app.unit.screen import UnitScreen
from line_neurons.tui.app.units.screen import UnitsScreen
from line_neurons.tui.report.page import unit_name
from line_neurons.tui.report.writer import write_report

IMAGES = Path(__file__).resolve().parent / "images"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
MOST_BYTES = 300_000
# A page's text is about 750 pixels wide: more columns could not be read there.
WIDE, SMALL = (104, 34), (80, 24)
# So long a screen is given to read the store and to draw its images.
SETTLES = 3.0

_FONTS = re.compile(r"@font-face \{.*?\}\n?", re.DOTALL)

Shot = tuple[str, tuple[int, int], str, Sequence[str]]
SHOTS: tuple[Shot, ...] = (
    ("runs", WIDE, themes.DARK.name, ()),
    ("runs-small", SMALL, themes.DARK.name, ()),
    ("runs-light", WIDE, themes.LIGHT.name, ()),
    ("help", WIDE, themes.DARK.name, ("question_mark",)),
    ("new-run", WIDE, themes.DARK.name, (
        "n", "type:torchvision:mobilenet_v2", "tab", "type:classifier.1", "tab", "type:tabby, zebra", "tab", "tab",
    )),
    ("units", WIDE, themes.DARK.name, ("units",)),
    ("unit", WIDE, themes.DARK.name, ("unit",)),
    ("unit-light", WIDE, themes.LIGHT.name, ("unit",)),
)  # fmt: skip
"""Name, size, theme, and what is done first: keys, typed text, or the screen of the run or the unit."""


async def shoot(store: Path, run: str, unit: int, shot: Shot) -> Path:
    """Take one image, and give its file."""
    name, size, theme, doings = shot
    app = LineApp(store)
    app.animation_level = "none"
    async with app.run_test(size=size) as pilot:
        app.theme = theme
        await pilot.pause(SETTLES)
        for doing in doings:
            await do(pilot, store, run, unit, doing)
            await pilot.pause(SETTLES)
        file = IMAGES / f"{name}.svg"
        # An image fetches nothing: it is shown in the reader's own monospaced font.
        file.write_text(_FONTS.sub("", app.export_screenshot(title=f"line tui: {name}")), "utf-8")
    return file


async def do(pilot: Pilot[None], store: Path, run: str, unit: int, doing: str) -> None:
    """Open the run or the unit, type a text, or press a key."""
    if doing == "units":
        pilot.app.push_screen(UnitsScreen(store, run))
    elif doing == "unit":
        pilot.app.push_screen(UnitScreen(store, run, unit))
    elif doing.startswith("type:"):
        await pilot.press(*doing.removeprefix("type:"))
    else:
        await pilot.press(doing)


def rasterise(browser: str, file: Path) -> Path:
    """A PNG of an SVG, as a browser shows it."""
    image = file.with_suffix(".png")
    with TemporaryDirectory() as profile:
        subprocess.run(  # noqa: S603 - a browser that was found on the path
            [browser, "--headless", "--no-sandbox", f"--user-data-dir={profile}", "--hide-scrollbars",
             "--window-size=1300,900", f"--screenshot={image}", file.absolute().as_uri()],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip
    return image


def shoot_report(browser: str, store: Path, run: str, unit: int) -> Path:
    """Take the image of a report: its index, and beside it the page of a unit."""
    file = IMAGES / "report.webp"
    with TemporaryDirectory() as folder:
        pages = Path(folder) / "report"
        write_report(store, run, pages, control_images=True)
        halves = []
        for page in (pages / "index.html", pages / "units" / f"{unit_name(unit)}.html"):
            image = Path(folder) / f"{page.stem}.png"
            subprocess.run(  # noqa: S603 - a browser that was found on the path
                [browser, "--headless", "--no-sandbox", f"--user-data-dir={folder}/profile", "--hide-scrollbars",
                 "--window-size=1000,1150", f"--screenshot={image}", page.as_uri()],
                check=True, capture_output=True, timeout=120,
            )  # fmt: skip
            halves.append(Image.open(image).convert("RGB"))
    whole = Image.new("RGB", (sum(half.width for half in halves), halves[0].height))
    whole.paste(halves[0], (0, 0))
    whole.paste(halves[1], (halves[0].width, 0))
    whole.save(file, quality=80)
    # The README's image: the top of the unit's page, with a palette, as PNG is shown everywhere.
    halves[1].crop((0, 85, 1000, 960)).quantize(200).save(file.with_suffix(".png"), optimize=True)
    return file


def main(store: Path, run: str = "", unit: str = "") -> None:
    """Take all images of a store; the newest run and its first unit unless others are named."""
    with closing(RunStore(store, read_only=True)) as runs:
        chosen = runs.run(run or runs.names()[0]).id
        units = runs.units(chosen)
    IMAGES.mkdir(exist_ok=True)
    # Images tell the store's name, and not where it lies on this machine.
    os.chdir(store.absolute().parent)
    store = Path(store.name)
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    before = themes.saved_theme()
    for shot in SHOTS:
        svg = asyncio.run(shoot(store, chosen, int(unit) if unit else units[0].unit, shot))
        for file in (svg, *([rasterise(browser, svg)] if browser else [])):
            size = file.stat().st_size
            sys.stdout.write(f"{file} {size:,} bytes{' TOO LARGE' if size > MOST_BYTES else ''}\n")
    if browser:
        file = shoot_report(browser, store, chosen, int(unit) if unit else units[0].unit)
        sys.stdout.write(f"{file} {file.stat().st_size:,} bytes\n")
    themes.save_theme(before)


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 4:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), *sys.argv[2:])
