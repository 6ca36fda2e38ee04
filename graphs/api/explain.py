"""Label units from Python, of a named model or one in memory, in scripts, notebooks and event loops.

result = explain("torchvision:mobilenet_v2", "classifier.1", "tiger", llm="random", generator="bank")
print(result[292].label, result[292].score)
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Unpack, cast

from langgraph.runtime import RunControl

from line_neurons.agent.engine_settings import engine_of
from line_neurons.agent.errors import LineError, TakenOverError, UsageError
from line_neurons.agent.near_names import near_names
from line_neurons.agent.presets import SERVERS
from line_neurons.agent.settings import Settings, load_settings
from line_neurons.agent.settings_arguments import SettingsArguments
from line_neurons.agent.settings_sources import RENAMED
from line_neurons.graphs.api.autoencoders import code_of, split_autoencoder
from line_neurons.graphs.api.progress_line import ProgressLine
from line_neurons.graphs.api.result import Result, UnitResult, load
from line_neurons.graphs.runs.components import Components, OnProgress
from line_neurons.graphs.runs.lifecycle import recorded_settings, retry, settings_of, start, work
from line_neurons.graphs.runs.reopening import reopen
from line_neurons.graphs.runs.runner import Progress
from line_neurons.graphs.runs.unit_selection import select_units
from line_neurons.tools.component_names import check_names
from line_neurons.tools.label_marks import DONE
from line_neurons.tools.language_models.arguments import (
    identity_of,
    known_fingerprints,
    langchain_here,
    servers_of,
)
from line_neurons.tools.store.records import Run
from line_neurons.tools.store.runs import default_store, open_store
from line_neurons.tools.targets.custom import bundle_from_module
from line_neurons.tools.targets.latents.names import base_layer, layer_of

if TYPE_CHECKING:
    from torch import nn

    from line_neurons.tools.targets.base import ModelBundle
    from line_neurons.tools.targets.custom import Transform

Units = int | str | Iterable[int | str]
"""Units as on the command line, ``"3,10-20"``, ``"all"``, ``"tiger"``, or their numbers."""

ProgressCallback = Callable[[Progress], None]

_POLL_SECONDS = 0.5
_DONE = {"finished", "failed"}


class Options(SettingsArguments, total=False):
    """The arguments of ``explain`` by name."""

    transform: Transform | None
    class_names: Sequence[str] | None
    resume: bool | str
    progress: bool | ProgressCallback
    config: Path | None


class Interrupted(KeyboardInterrupt):
    """A run was interrupted, or another process requested a stop; every finished step is kept.

    Args:
        result: the run with what is done so far.
        reason: who requested the stop, where that was another process.
    """

    def __init__(self, result: Result, reason: str = "") -> None:
        done = sum(unit.status in DONE for unit in result)
        super().__init__(
            f"{reason or 'interrupted'} with {done} of {len(result)} units done; every finished step is kept. "
            f"The same call resumes it; load({result.run.id!r}, {str(result.store)!r}) gives what there is"
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
    **settings: Unpack[SettingsArguments],
) -> Result:
    """Label units of a layer; the same call again resumes what is not finished.

    It works in a running event loop too. After an interruption the current steps end; what is done is kept.

    Args:
        model: a spec as on the command line, ``"torchvision:mobilenet_v2"``, or a module in memory, which is
            copied.
        layer: dotted path of the layer.
        units: the units.
        transform: preprocessing of a module in memory: an image (RGB) to a float tensor [3, H, W]; or
            ``"imagenet"``. Required unless the module's own is known; see ``bundle_from_module``.
        class_names: names of the output units of a module in memory.
        resume: True: resume a run of the store with this model, layer, units and settings, its failed units
            again; a finished one is returned as it is. False: start a new run. The id of a run: resume that one;
            layer and units are then the run's, and ``settings`` change it from now on.
        progress: show a progress line; or a function that is called at the end of each node.
        config: settings file; None: ``line.toml`` in the working folder, if there is one.
        settings: any setting by name (``iterations=3``), over the environment and line.toml; also
            ``preset="paper"``. ``sae`` may also be an autoencoder in memory: a module with ``encode``, or any
            function of tokens [T, d] that returns latents [T, K], or a tuple that ends with them.

    Returns:
        the run with its units; of a failed one ``error`` says why.

    Raises:
        LineError: something does not fit or is missing, or a component failed; what is done is kept.
        Interrupted: it was interrupted (a ``KeyboardInterrupt``); ``result`` has what there is.
    """
    changes = cast(dict[str, Any], settings)
    working = _Job(_Request(model, layer, units, transform, class_names, resume, config, changes), progress)
    for _ in working.units():
        pass
    return working.result()


def iter_explain(
    model: str | nn.Module, layer: str | None = None, units: Units | None = None, **options: Unpack[Options]
) -> Iterator[UnitResult]:
    """Label units as ``explain`` does, and yield each as soon as it has ended, earlier ones first.

    Arguments and errors are those of ``explain``. The run pauses while the loop's body runs; leaving the loop lets
    the current steps end. What a revisit changes at the end is in ``load``.
    """
    yield from _Job(*_request(model, layer, units, **options), paced=True).units()


async def aexplain(
    model: str | nn.Module, layer: str | None = None, units: Units | None = None, **options: Unpack[Options]
) -> Result:
    """Label units as ``explain`` does, without blocking the event loop; cancelling it is an interruption.

    Arguments and errors are those of ``explain``.
    """
    working = await asyncio.to_thread(_Job, *_request(model, layer, units, **options))
    await working.end()
    return working.result()


@dataclass(frozen=True)
class _Request:
    """The arguments of a call; see ``explain``."""

    model: str | nn.Module
    layer: str | None
    units: Units | None
    transform: Transform | None
    class_names: Sequence[str] | None
    resume: bool | str
    config: Path | None
    settings: dict[str, Any]

    def prepared(self, on_progress: OnProgress) -> tuple[Components, Run]:
        """Open the components and the run: that of an earlier equal call, the named one, or a new one."""
        known = [*Settings.model_fields, *([] if isinstance(self.resume, str) else ["preset"])]
        for name in self.settings.keys() - {*known, *RENAMED}:
            near = near_names(name, known)
            raise UsageError(
                f"there is no setting {name!r:.60}{'; ' + near if near else ''}",
                "see line_neurons.agent.settings.Settings",
            )
        components, run = (
            self._named_run(on_progress) if isinstance(self.resume, str) else self._equal_or_new_run(on_progress)
        )
        if components.runs.states(run.id).get("failed"):
            retry(components.runs, run)
        return components, run

    def _model(self) -> str | ModelBundle:
        if not isinstance(self.model, str):
            return bundle_from_module(self.model, self.transform, self.class_names)
        if self.transform is not None or self.class_names is not None:
            raise UsageError(
                f"{self.model} brings its own preprocessing and class names",
                "give transform and class_names with a module in memory only",
            )
        return self.model

    def _named_run(self, on_progress: OnProgress) -> tuple[Components, Run]:
        places = {name: self.settings.get(name) for name in ("store", "assets")}
        here = load_settings(self.config, **places)
        sae, given = split_autoencoder(self.settings)
        changes = {name: value for name, value in given.items() if name not in places}
        store = here.store or default_store()
        runs = open_store(store, read_only=False, remedy="name the folder with store=")
        run = runs.run(str(self.resume))
        if "llm" not in changes:
            changes["langchain"] = langchain_here(run.settings, here)
        changes = {**servers_of(here), **engine_of(here), **changes}
        model = self._model()
        bundle = None if isinstance(model, str) else model
        components = reopen(
            run, here.store, here.assets, on_progress, changes, model=model,
            code=lambda settings: code_of(sae, settings, run.model, bundle, run.layer),
        )  # fmt: skip
        if self.layer not in {None, run.layer, base_layer(run.layer)}:
            raise UsageError(
                f"run {run.id} is of the layer {run.layer}, not of {self.layer!r:.60}", "leave it out"
            )
        if self.units is not None:
            selected, _ = select_units(components, run.layer, _selectors(self.units))
            if selected != (known := [unit.unit for unit in runs.units(run.id)]):
                raise UsageError(f"run {run.id} has the units {known!s:.80}, not these", "leave them out")
        return components, run

    def _equal_or_new_run(self, on_progress: OnProgress) -> tuple[Components, Run]:
        if self.layer is None or self.units is None:
            raise UsageError("no layer or no units are named", "explain(model, layer, units), or resume=RUN")
        model = self._model()
        sae, given = split_autoencoder(self.settings)
        spec, bundle = (model, None) if isinstance(model, str) else (model.name, model)
        settings = load_settings(self.config, **given)
        check_names(settings, None if bundle else spec)
        layer = layer_of(settings, self.layer)
        code = code_of(sae, settings, spec, bundle, layer)
        components = Components(spec, settings, on_progress, {layer}, bundle=bundle, code=code, distributed=True)
        selectors = _selectors(self.units)
        numbers, names = select_units(components, layer, selectors)
        units = [(unit, names[unit] if names else None) for unit in numbers]
        wanted = (
            components.spec,
            layer,
            _compared(recorded_settings(components.settings)),
            components.fingerprints(layer),
            None,
        )
        for run in components.runs.runs() if self.resume else ():
            if (run.model, run.layer) != wanted[:2]:
                continue
            fingerprints = known_fingerprints(components.language_model, run)
            key = (run.model, run.layer, _compared(settings_of(run)), fingerprints, run.forked_from)
            if key == wanted and [(unit.unit, unit.name) for unit in components.runs.units(run.id)] == units:
                return components, run
        return components, start(components, layer, selectors, command=self._command(spec))

    def _command(self, spec: str) -> str:
        """Return the call, for the record; without settings that may hold a password."""
        plain = split_autoencoder(self.settings)[1]
        settings = {name: value for name, value in plain.items() if name not in {"langchain", *SERVERS}}
        named = "".join(f", {name}={value!r}" for name, value in settings.items())
        return f"explain({spec!r}, {self.layer!r}, {_selectors(self.units or ())!r}{named})"


def _compared(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return recorded settings without the language model's place and what the target's fingerprint says."""
    arguments = settings["langchain"]
    # Runs from before ``query_pool`` differ in it on every layer. What a corrupt record holds equals no call.
    return {
        **settings,
        "query_pool": None,
        "langchain": identity_of(arguments) if isinstance(arguments, Mapping) else arguments,
    }


def _request(
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
) -> tuple[_Request, bool | ProgressCallback]:
    return _Request(model, layer, units, transform, class_names, resume, config, settings), progress


def _selectors(units: Units) -> list[str]:
    return [str(units)] if isinstance(units, int | str) else [str(unit) for unit in units]


_Event = Progress | tuple[str, int, int] | BaseException | None
"""A node's end, progress of long work, or the end of the job: its exception, or None."""


class _Job:
    """A run in a thread of its own, whose events are handled in the caller's thread.

    So the caller can be interrupted at any time, and can be in an event loop.

    Args:
        request: the arguments of the call.
        progress: see ``explain``.
        paced: run only while the caller waits for the next unit.
    """

    _open: ClassVar[dict[tuple[Path, str], _Job]] = {}
    """The job of each store and run in this process."""

    def __init__(self, request: _Request, progress: bool | ProgressCallback, *, paced: bool = False) -> None:
        self._queue: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._line = ProgressLine(shown=progress is True)
        self._callback = progress if callable(progress) else None
        self._paced = paced
        self._drain = RunControl()
        self._wanted = threading.Event()
        self._wanted.set()
        self._began = time.monotonic()
        self._components, self._run = request.prepared(
            lambda what, done, total: self._queue.put((what, done, total))
        )
        self._key = (self._components.store.resolve(), self._run.id)
        self._thread = threading.Thread(target=self._work, name=f"run {self._run.id}", daemon=True)

    def units(self) -> Iterator[UnitResult]:
        """Run, and yield each unit that has ended."""
        yield from (unit for unit in self.result() if unit.status in DONE)
        self._begin()
        wait = True
        try:
            while (event := self._queue.get()) is not None:
                if (number := self._handle(event)) is not None:
                    yield self.result()[number]
                    self._wanted.set()
        except KeyboardInterrupt:
            self._drain.request_drain("interrupted")
            self._line.say("finishing the current steps; interrupt again to leave at once")
            wait = False
            self._thread.join()
            raise Interrupted(self.result()) from None
        finally:
            self._close(wait=wait)
        self._conclude()

    async def end(self) -> None:
        """Run to the end, in an event loop."""
        self._begin()
        try:
            while (event := await asyncio.to_thread(self._queue.get)) is not None:
                self._handle(event)
        finally:
            await asyncio.shield(asyncio.to_thread(self._close))
        self._conclude()

    def result(self) -> Result:
        """Return the run with what is done so far."""
        return load(self._run.id, self._components.store)

    def _begin(self) -> None:
        before = self._open.get(self._key)
        # A loop that was left by an error while something still holds it, or one that was left at once.
        if before is not None and (before._drain.drain_requested or not before._wanted.is_set()):
            before._close()
        self._open.setdefault(self._key, self)
        self._thread.start()

    def _close(self, *, wait: bool = True) -> None:
        """Let the current steps end, if there are any."""
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
        notes = "".join(f"; {note}" for note in self._components.image_notes())
        self._line.say(
            f"run {self._run.id}: {sum(state in DONE for state in states)} of {len(states)} units done{failed}, "
            f"{time.monotonic() - self._began:.0f} s{notes}" + "".join(f"; {remark}" for remark in result.remarks),
            last=True,
        )

    def _work(self) -> None:
        ended: BaseException | None = None
        try:
            work(self._components, self._run, self._watch, self._drain)
        except BaseException as error:
            ended = error
        self._components.close()
        self._queue.put(ended)

    def _watch(self, progress: Progress) -> None:
        if self._paced and progress.node in _DONE:
            self._wanted.clear()
        self._queue.put(progress)
        while not self._drain.drain_requested:
            if not threading.main_thread().is_alive():
                self._drain.request_drain("the program ended")
            if self._wanted.wait(_POLL_SECONDS):
                return

    def _handle(self, event: Progress | tuple[str, int, int] | BaseException) -> int | None:
        """Show an event, or raise it; returns the unit that has ended, if one has."""
        if isinstance(event, BaseException):
            if isinstance(event, LineError) and not isinstance(event, UsageError | TakenOverError):
                again = "the same call resumes with what is kept"
                event.remedy = f"{event.remedy}; then {again}" if event.remedy else again
            raise event
        if isinstance(event, tuple):
            self._line.preparing(*event)
            return None
        self._line.watch(event)
        if self._callback is not None:
            self._callback(event)
        return event.unit if event.node in _DONE else None
