"""Runs from Python: label units of a model that is named or in memory, in scripts, notebooks and event loops."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from langgraph.runtime import RunControl

from line_neurons.agent.errors import LineError, TakenOverError, UsageError
from line_neurons.agent.renamed import RENAMED
from line_neurons.agent.settings import Settings, load_settings
from line_neurons.graphs.api.progress_line import ProgressLine
from line_neurons.graphs.api.result import Result, UnitResult, load
from line_neurons.graphs.runs.components import Components, reopen
from line_neurons.graphs.runs.lifecycle import recorded, retry, select_units, settings_of, start, work
from line_neurons.graphs.runs.runner import Progress
from line_neurons.tools.label_marks import DONE
from line_neurons.tools.language_models.langchain import with_secrets
from line_neurons.tools.store.records import Run
from line_neurons.tools.store.runs import default_store, open_store
from line_neurons.tools.targets.custom_module import network_of
from line_neurons.tools.targets.lookup import near_names

if TYPE_CHECKING:
    from torch import nn

    from line_neurons.tools.targets.base import ModelBundle
    from line_neurons.tools.targets.custom_module import Transform

Units = int | str | Iterable[int | str]
"""Units as on the command line, ``"3,10-20"``, ``"all"``, ``"tiger"``, or their numbers."""

ProgressCallback = Callable[[Progress], None]

_LOOK_SECONDS = 0.5
_DONE = {"finished", "failed"}


class Interrupted(KeyboardInterrupt):
    """A run was interrupted, or asked to stop by another process; every finished step is kept.

    Args:
        result: the run as it is now.
        reason: who asked, where that was another process.
    """

    def __init__(self, result: Result, reason: str = "") -> None:
        done = sum(unit.status in DONE for unit in result)
        super().__init__(
            f"{reason or 'interrupted'} with {done} of {len(result)} units done; every finished step is kept. "
            f"The same call goes on; load({result.run.id!r}, {str(result.store)!r}) gives what there is"
        )
        self.result = result

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


def explain(
    model: str | nn.Module,
    layer: str | None = None,
    units: Units | None = None,
    *,
    transform: Transform | None = None,
    class_names: Sequence[str] | None = None,
    resume: bool | str = True,
    progress: bool | ProgressCallback = True,
    config: Path | None = None,
    **settings: Any,
) -> Result:
    """Label units of a layer; the same call again goes on with what is not finished.

    It works wherever code runs, in a running event loop too. An interruption lets the steps in hand end; what is
    done is kept.

    Args:
        model: a spec as on the command line, ``"torchvision:mobilenet_v2"``, or a module in memory, of which a
            copy is worked on.
        layer: dotted path of the layer.
        units: the units.
        transform: preprocessing of a module in memory: an image (RGB) to a float tensor [3, H, W]; or
            ``"imagenet"``. Needed where none certainly belongs to it; see ``network_of``.
        class_names: names of the output units of a module in memory.
        resume: True: a run of the store with this model, layer, units and settings is gone on with, its failed
            units again; a finished one is given as it is. False: begin a new run. The name of a run: go on with
            that one; layer and units are then the run's, and settings are other than recorded from now on.
        progress: show a line of progress; or a function that is told of each node's end, for an own display.
        config: settings file; None: ``line.toml`` in the working folder, if there is one.
        settings: any setting by name (``iterations=3``), over the environment and line.toml; also
            ``preset="paper"``.

    Returns:
        the run with its units; of a failed one ``error`` says why.

    Raises:
        LineError: something does not fit or is missing, or a part failed; what is done is kept.
        Interrupted: it was interrupted (a ``KeyboardInterrupt``); ``result`` has what there is.
    """
    working = _Work(_Asked(model, layer, units, transform, class_names, resume, config, settings), progress)
    for _ in working.units():
        pass
    return working.result()


def iter_explain(
    model: str | nn.Module, layer: str | None = None, units: Units | None = None, **options: Any
) -> Iterator[UnitResult]:
    """Label units as ``explain`` does, and give each as soon as it is done with, those done before first.

    Nothing is worked on while the loop's body runs; leaving the loop lets the steps in hand end. What a revisit
    changes at the end is in ``load``.

    Args:
        model: see ``explain``; so ``layer``, ``units`` and all ``options``.
        layer: dotted path of the layer.
        units: the units.
        options: see ``explain``.

    Yields:
        each unit, with its label or its error.

    Raises:
        LineError: see ``explain``.
        Interrupted: see ``explain``.
    """
    yield from _Work(*_asked(model, layer, units, **options), paced=True).units()


async def aexplain(
    model: str | nn.Module, layer: str | None = None, units: Units | None = None, **options: Any
) -> Result:
    """Label units as ``explain`` does, without holding up the event loop; cancelling it is an interruption.

    Args:
        model: see ``explain``; so ``layer``, ``units`` and all ``options``.
        layer: dotted path of the layer.
        units: the units.
        options: see ``explain``.

    Returns:
        the run with its units.

    Raises:
        LineError: see ``explain``.
        Interrupted: another process asked it to stop.
    """
    working = await asyncio.to_thread(_Work, *_asked(model, layer, units, **options))
    await working.end()
    return working.result()


@dataclass(frozen=True)
class _Asked:
    """What the user asked for; see ``explain``."""

    model: str | nn.Module
    layer: str | None
    units: Units | None
    transform: Transform | None
    class_names: Sequence[str] | None
    resume: bool | str
    config: Path | None
    settings: dict[str, Any]

    def prepared(self, told: Callable[[str, int, int], None]) -> tuple[Components, Run]:
        """The parts, and the run: that of an equal call before, the one that is named, or a new one."""
        known = [*Settings.model_fields, *([] if isinstance(self.resume, str) else ["preset"])]
        for name in self.settings.keys() - {*known, *RENAMED}:
            near = near_names(name, known)
            raise UsageError(
                f"there is no setting {name!r:.60}{'; ' + near if near else ''}",
                "see line_neurons.agent.settings.Settings",
            )
        components, run = self._named(told) if isinstance(self.resume, str) else self._equal_or_new(told)
        if components.runs.states(run.id).get("failed"):
            retry(components.runs, run)
        return components, run

    def _model(self) -> str | ModelBundle:
        if not isinstance(self.model, str):
            return network_of(self.model, self.transform, self.class_names)
        if self.transform is not None or self.class_names is not None:
            raise UsageError(
                f"{self.model} brings its own preprocessing and class names",
                "give transform and class_names with a module in memory only",
            )
        return self.model

    def _named(self, told: Callable[[str, int, int], None]) -> tuple[Components, Run]:
        places = {name: self.settings.get(name) for name in ("store", "assets")}
        here = load_settings(self.config, **places)
        changes = {name: value for name, value in self.settings.items() if name not in places}
        store = here.store or default_store()
        runs = open_store(store, read_only=False, remedy="name the folder with store=")
        run = runs.run(str(self.resume))
        if "llm" not in changes:
            changes["langchain"] = with_secrets(run.settings.get("langchain", {}), here.langchain)
        changes.setdefault("ollama", here.ollama)
        components = reopen(run, here.store, here.assets, told, changes, model=self._model())
        if self.layer not in {None, run.layer}:
            raise UsageError(
                f"run {run.id} is of the layer {run.layer}, not of {self.layer!r:.60}", "leave it out"
            )
        if self.units is not None:
            asked, _ = select_units(components, run.layer, _selectors(self.units))
            if asked != (known := [unit.unit for unit in runs.units(run.id)]):
                raise UsageError(f"run {run.id} has the units {known!s:.80}, not these", "leave them out")
        return components, run

    def _equal_or_new(self, told: Callable[[str, int, int], None]) -> tuple[Components, Run]:
        if self.layer is None or self.units is None:
            raise UsageError("no layer or no units are named", "explain(model, layer, units), or resume=RUN")
        model = self._model()
        spec, bundle = (model, None) if isinstance(model, str) else (model.name, model)
        components = Components(
            spec, load_settings(self.config, **self.settings), told, {self.layer}, bundle=bundle
        )
        selectors = _selectors(self.units)
        numbers, names = select_units(components, self.layer, selectors)
        units = [(unit, names[unit] if names else None) for unit in numbers]
        wanted = (
            components.spec,
            self.layer,
            recorded(components.settings),
            components.fingerprints(self.layer),
            None,
        )
        for run in components.runs.runs() if self.resume else ():
            its = (run.model, run.layer, settings_of(run), run.fingerprints, run.forked_from)
            if its == wanted and [(unit.unit, unit.name) for unit in components.runs.units(run.id)] == units:
                return components, run
        return components, start(components, self.layer, selectors, command=self._command(spec))

    def _command(self, spec: str) -> str:
        """The call, for the record; without what may hold a password."""
        settings = {name: value for name, value in self.settings.items() if name not in {"langchain", "ollama"}}
        named = "".join(f", {name}={value!r}" for name, value in settings.items())
        return f"explain({spec!r}, {self.layer!r}, {_selectors(self.units or ())!r}{named})"


def _asked(
    model: str | nn.Module,
    layer: str | None,
    units: Units | None,
    *,
    transform: Transform | None = None,
    class_names: Sequence[str] | None = None,
    resume: bool | str = True,
    progress: bool | ProgressCallback = True,
    config: Path | None = None,
    **settings: Any,
) -> tuple[_Asked, bool | ProgressCallback]:
    return _Asked(model, layer, units, transform, class_names, resume, config, settings), progress


def _selectors(units: Units) -> list[str]:
    return [str(units)] if isinstance(units, int | str) else [str(one) for one in units]


_Told = Progress | tuple[str, int, int] | BaseException | None
"""A node's end, long work as far as it is, or the end of the work: what it raised, or None."""


class _Work:
    """A run that a thread of its own works on, told of in the caller's thread.

    The caller is free to be interrupted at any time, and to be in an event loop.

    Args:
        asked: what the user asked for.
        progress: see ``explain``.
        paced: the run is worked on only while the next unit is waited for.
    """

    _open: ClassVar[dict[tuple[Path, str], _Work]] = {}
    """By store and run, who works on it in this process."""

    def __init__(self, asked: _Asked, progress: bool | ProgressCallback, *, paced: bool = False) -> None:
        self._queue: queue.SimpleQueue[_Told] = queue.SimpleQueue()
        self._line = ProgressLine(shown=progress is True)
        self._watcher = progress if callable(progress) else None
        self._paced = paced
        self._drain = RunControl()
        self._wanted = threading.Event()
        self._wanted.set()
        self._began = time.monotonic()
        self._components, self._run = asked.prepared(
            lambda what, done, total: self._queue.put((what, done, total))
        )
        self._key = (self._components.store.resolve(), self._run.id)
        self._thread = threading.Thread(target=self._work, name=f"run {self._run.id}", daemon=True)

    def units(self) -> Iterator[UnitResult]:
        """Work on the run, and give each unit that is done with."""
        yield from (unit for unit in self.result() if unit.status in DONE)
        self._begin()
        wait = True
        try:
            while (told := self._queue.get()) is not None:
                if (number := self._take(told)) is not None:
                    yield self.result()[number]
                    self._wanted.set()
        except KeyboardInterrupt:
            self._drain.request_drain("interrupted")
            self._line.say("finishing the steps in hand; interrupt again to leave at once")
            wait = False
            self._thread.join()
            raise Interrupted(self.result()) from None
        finally:
            self._close(wait=wait)
        self._conclude()

    async def end(self) -> None:
        """Work on the run in an event loop, to its end."""
        self._begin()
        try:
            while (told := await asyncio.to_thread(self._queue.get)) is not None:
                self._take(told)
        finally:
            await asyncio.shield(asyncio.to_thread(self._close))
        self._conclude()

    def result(self) -> Result:
        """The run as it is now."""
        return load(self._run.id, self._components.store)

    def _begin(self) -> None:
        before = self._open.get(self._key)
        # A loop that was left by an error while something still holds it, or one that was left at once.
        if before is not None and (before._drain.drain_requested or not before._wanted.is_set()):
            before._close()
        self._open.setdefault(self._key, self)
        self._thread.start()

    def _close(self, *, wait: bool = True) -> None:
        """Let the steps in hand end, if there are any."""
        if not self._drain.drain_requested:
            self._drain.request_drain("left")
        self._wanted.set()
        if wait:
            self._thread.join()
            self._components.runs.close()
            self._components.cache.close()
            if self._open.get(self._key) is self:
                del self._open[self._key]

    def _conclude(self) -> None:
        result = self.result()
        if result.run.status == "interrupted":
            raise Interrupted(result, self._drain.drain_reason or "")
        states = [unit.status for unit in result]
        failed = f", {states.count('failed')} failed" if "failed" in states else ""
        read = "".join(f"; {note}" for note in self._components.image_notes())
        self._line.say(
            f"run {self._run.id}: {sum(state in DONE for state in states)} of {len(states)} units done{failed}, "
            f"{time.monotonic() - self._began:.0f} s{read}" + "".join(f"; {remark}" for remark in result.remarks),
            last=True,
        )

    def _work(self) -> None:
        ended: BaseException | None = None
        try:
            work(self._components, self._run, self._watch, self._drain)
        except BaseException as error:
            ended = error
        self._queue.put(ended)

    def _watch(self, progress: Progress) -> None:
        if self._paced and progress.node in _DONE:
            self._wanted.clear()
        self._queue.put(progress)
        while not self._drain.drain_requested:
            if not threading.main_thread().is_alive():
                self._drain.request_drain("the program ended")
            if self._wanted.wait(_LOOK_SECONDS):
                return

    def _take(self, told: Progress | tuple[str, int, int] | BaseException) -> int | None:
        """Show what was told; the number of the unit that is done with, if one is."""
        if isinstance(told, BaseException):
            if isinstance(told, LineError) and not isinstance(told, UsageError | TakenOverError):
                again = "the same call goes on with what is kept"
                told.remedy = f"{told.remedy}; then {again}" if told.remedy else again
            raise told
        if isinstance(told, tuple):
            self._line.preparing(*told)
            return None
        self._line.watch(told)
        if self._watcher is not None:
            self._watcher(told)
        return told.unit if told.node in _DONE else None
