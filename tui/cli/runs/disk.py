"""Say how much disk space the images of a batch take, before it starts."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from line_neurons.agent.errors import UsageError
from line_neurons.agent.settings import Settings
from line_neurons.graphs.runs.components import Components
from line_neurons.tools.generators.presets import parse_source
from line_neurons.tools.image_bank.generator import BankSettings
from line_neurons.tools.image_bank.opening import uses_image_bank
from line_neurons.tools.store.records import Run
from line_neurons.tui.cli import output as terminal
from line_neurons.tui.formatting import gigabytes

# PNG files of photographs and of the images of SDXL take 1.3 to 1.6 bytes a pixel.
_BYTES_A_PIXEL = 1.5
# Images that a batch generates, relative to those of units on their own: docs/performance.md.
_SHARES = ((1, 1.0), (50, 0.43), (200, 0.26), (1592, 0.12))
_WORTH_A_LINE = 10**9


def report_disk(components: Components, runs: Sequence[Run]) -> None:
    """Print about how much the images of new runs take, if that is much, and how much is free."""
    units = sum(sum(components.runs.states(run.id).values()) for run in runs)
    found = image_bytes(components.settings, units)
    if found is None:
        return
    free = shutil.disk_usage(components.store).free
    if max(found) >= min(_WORTH_A_LINE, free):
        terminal.note(disk_line(found, free, units, components.store))


def disk_line(expected: tuple[int, int], free: int, units: int, store: Path) -> str:
    """Return the line for the least and the most bytes that the images of some units may take."""
    low, high = (gigabytes(size) for size in expected)
    line = f"the images of {units:,} units take about {low} to {high}; {gigabytes(free)} are free"
    if expected[1] > free:
        return f"{line} in {store}: name a larger disk with --store, or choose smaller images or fewer units"
    return line


def image_bytes(settings: Settings, units: int) -> tuple[int, int] | None:
    """Return the least and the most bytes of images to expect of units; None where their size is not known."""
    side = _side(settings)
    if side is None:
        return None
    concepts = (settings.capacity + settings.iterations + settings.summary) * settings.searches
    alone = units * concepts * settings.images * side**2 * _BYTES_A_PIXEL
    # Twice as many where a language model repeats itself less than the proposer that was measured.
    return int(alone * _share(units)), int(alone * min(1.0, 2 * _share(units)))


def _share(units: int) -> float:
    """Interpolate the share of images that a batch generates, in the logarithms of both."""
    for (few, more), (many, less) in pairwise(_SHARES):
        if units <= many:
            place = math.log(max(units, few) / few) / math.log(many / few)
            return more * math.pow(less / more, place)
    return _SHARES[-1][1]


def _side(settings: Settings) -> int | None:
    if uses_image_bank(settings.generator):
        return BankSettings().size
    if settings.diffusion.size:
        return settings.diffusion.size
    try:
        preset = parse_source(settings.generator).preset
    except UsageError:
        return None
    return preset.size if preset else None
