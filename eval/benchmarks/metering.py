"""Counting what parts do, and when a run's units were done, without altering either."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

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

# What a watcher is told of besides the nodes of the graph: a unit's beginning and its end.
_NO_NODES = {"", "finished", "failed"}

Span = tuple[float, float]
"""Beginning and end, in seconds of ``time.perf_counter``."""


@dataclass
class MeteredGenerator:
    """A generator whose images and working times are written down.

    Args:
        generator: draws.
        spans: when it drew, one for each call.
        drawn: when each call ended and how many images it gave.
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
        """Images drawn so far."""
        return sum(count for _, count in self.drawn)

    def images_in(self, window: Span) -> int:
        """Images whose call ended in a window."""
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
    """A language model whose questions are counted.

    Args:
        model: answers.
        spans: when it was asked and when it had answered, one for each question.
    """

    model: LanguageModel
    spans: list[Span] = field(default_factory=list)

    @property
    def fingerprint(self) -> str:
        """See ``ports.LanguageModel.fingerprint``."""
        return self.model.fingerprint

    @property
    def questions(self) -> int:
        """Questions asked so far."""
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
    """Watches a run: how many nodes ended, and when how many of its units were finished.

    Args:
        units: units of the run.
        every: seconds between lines on standard error that say how far it is; 0: none.
        nodes: how often each node ended.
        finished: times and numbers of finished units, each number once.
    """

    units: int
    every: float = 30.0
    nodes: dict[str, int] = field(default_factory=dict)
    finished: list[tuple[float, int]] = field(default_factory=list)
    _told: float = field(default_factory=time.perf_counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, progress: RunProgress) -> None:
        """Take note of a node that ended; from any thread."""
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
        """When a share of the units was finished; the last time known if it was not seen."""
        wanted = share * self.units
        return next((at for at, count in self.finished if count >= wanted), self.finished[-1][0])

    @property
    def warm(self) -> Span:
        """From when a fifth of the units was finished to when four fifths were."""
        return self.reached(0.2), self.reached(0.8)


def covered(spans: Sequence[Span], window: Span) -> float:
    """The share in [0, 1] of a window in which at least one span was under way."""
    begin, end = window
    total, until = 0.0, begin
    for one, other in sorted(spans):
        first, last = max(one, until), min(other, end)
        if last > first:
            total += last - first
            until = last
    return total / (end - begin) if end > begin else 0.0
