"""Count what components do and when units finish, and print the figures as text and JSON."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from line_neurons.agent.ports import (
    DrawnImage,
    Generator,
    ImageRequest,
    LanguageModel,
    Progress,
    Prompt,
    Proposal,
)
from line_neurons.graphs.runs.runner import Progress as RunProgress

# Progress that is not of a node: the start and the end of a unit.
_NO_NODES = {"", "finished", "failed"}

Span = tuple[float, float]
"""Beginning and end, in seconds of ``time.perf_counter``."""


@dataclass
class MeteredGenerator:
    """A generator whose images and working times are recorded.

    Args:
        spans: start and end of each call.
        drawn: end of each call and its number of images.
    """

    generator: Generator
    spans: list[Span] = field(default_factory=list)
    drawn: list[tuple[float, int]] = field(default_factory=list)

    @property
    def fingerprint(self) -> str:
        """See ``ports.Generator.fingerprint``."""
        return self.generator.fingerprint

    @property
    def batch_size(self) -> int:
        """See ``ports.Generator.batch_size``."""
        return self.generator.batch_size

    @property
    def images(self) -> int:
        """Images so far."""
        return sum(count for _, count in self.drawn)

    def images_in(self, window: Span) -> int:
        """Return the images whose call ended in a window."""
        return sum(count for at, count in self.drawn if window[0] < at <= window[1])

    def synthesize(self, requests: Sequence[ImageRequest], progress: Progress | None = None) -> list[DrawnImage]:
        """See ``ports.Generator.synthesize``."""
        began = time.perf_counter()
        try:
            images = self.generator.synthesize(requests, progress)
        finally:
            ended = time.perf_counter()
            self.spans.append((began, ended))
        self.drawn.append((ended, len(images)))
        return images

    def suggest(self, concepts: Sequence[str], limit: int) -> list[str]:
        """See ``ports.Generator.suggest``."""
        return self.generator.suggest(concepts, limit)


@dataclass
class MeteredModel:
    """A language model whose requests are counted.

    Args:
        spans: start and end of each request.
    """

    model: LanguageModel
    spans: list[Span] = field(default_factory=list)

    @property
    def fingerprint(self) -> str:
        """See ``ports.LanguageModel.fingerprint``."""
        return self.model.fingerprint

    @property
    def requests(self) -> int:
        """Requests so far."""
        return len(self.spans)

    def propose(self, prompt: Prompt, *, seed: int, temperature: float) -> Proposal:
        """See ``ports.LanguageModel.propose``."""
        began = time.perf_counter()
        try:
            return self.model.propose(prompt, seed=seed, temperature=temperature)
        finally:
            self.spans.append((began, time.perf_counter()))


@dataclass
class Clock:
    """Progress callback of a run that counts nodes and records when units finish.

    Args:
        every: seconds between progress lines on standard error; 0: none.
        finished: times and numbers of finished units, each number once.
    """

    units: int
    every: float = 30.0
    nodes: dict[str, int] = field(default_factory=dict)
    finished: list[tuple[float, int]] = field(default_factory=list)
    _told: float = field(default_factory=time.perf_counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, progress: RunProgress) -> None:
        """Record a node that ended; from any thread."""
        now = time.perf_counter()
        with self._lock:
            if progress.node not in _NO_NODES:
                self.nodes[progress.node] = self.nodes.get(progress.node, 0) + 1
            if progress.finished > (self.finished[-1][1] if self.finished else 0):
                self.finished.append((now, progress.finished))
            if self.every and now - self._told > self.every:
                self._told = now
                print(f"{progress.finished} of {self.units} units", file=sys.stderr, flush=True)

    def reached(self, share: float) -> float:
        """Return when a share of the units was finished; the last recorded time if it was not seen."""
        wanted = share * self.units
        return next((at for at, count in self.finished if count >= wanted), self.finished[-1][0])

    @property
    def warm_window(self) -> Span:
        """From when a fifth of the units was finished to when four fifths were."""
        return self.reached(0.2), self.reached(0.8)


def covered(spans: Sequence[Span], window: Span) -> float:
    """Return the share in [0, 1] of a window that is covered by at least one span."""
    begin, end = window
    total, until = 0.0, begin
    for start, other in sorted(spans):
        first, last = max(start, until), min(other, end)
        if last > first:
            total += last - first
            until = last
    return total / (end - begin) if end > begin else 0.0


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Args:
        of: what those are.
        unit: the number's unit; empty for a ratio or a count.
        aim: its target, in words; empty if there is none.
        detail: how it is composed.
    """

    what: str
    value: float
    n: int
    of: str = "units"
    unit: str = ""
    aim: str = ""
    detail: str = ""

    def __str__(self) -> str:
        """The number with its sample, its aim and its details."""
        number = f"{self.value:,.0f}" if float(self.value).is_integer() else f"{self.value:,.4g}"
        notes = [f"n = {self.n:,} {self.of}", f"aim {self.aim}" if self.aim else "", self.detail]
        return f"{self.what}: {number}{' ' * bool(self.unit)}{self.unit} ({'; '.join(filter(None, notes))})"


Figures = Iterator[Figure | str]
"""Figures as they are measured, and remarks on the measurement."""


def show(found: Iterable[Figure | str], file: Path | None) -> None:
    """Print each figure; at the end write all to a JSON file, if one is named."""
    kept: list[Figure | str] = []
    for figure in found:
        print(figure, flush=True)
        kept.append(figure)
    if file:
        values = {
            "figures": [asdict(figure) for figure in kept if isinstance(figure, Figure)],
            "remarks": [figure for figure in kept if isinstance(figure, str)],
        }
        file.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
