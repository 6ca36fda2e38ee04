"""A whole evaluation of a layer: searches that differ in one setting each, baselines, CoSy, tables and figures.

It is a list of commands of ``line``, each of which a user could give. Store and folder tell which results exist,
so the same suite continues with what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from line_neurons.agent.errors import LineError
from line_neurons.agent.settings import Settings
from line_neurons.agent.text import clean_text, shell_line, shell_word
from line_neurons.eval.labels.names import model_stem
from line_neurons.eval.reports.histories import result_settings
from line_neurons.graphs.runs.lifecycle import recorded_settings
from line_neurons.tools.label_marks import ENDED
from line_neurons.tools.store.atomic_files import write_file
from line_neurons.tools.store.records import Run
from line_neurons.tools.store.runs import RunStore

LENGTHS = (0, 5, 10, 20)
_CAPTIONS = ("--encoder", "captions")
BASELINES: dict[str, tuple[str, tuple[str, ...]]] = {
    "random": ("random", ("random",)),
    "initial": ("initial", ("initial",)),
    "best-word": ("best-word", ("best-word",)),
    "invert": ("invert", ("invert",)),
    "invert-3": ("invert-3", ("invert", "--length", "3")),
    "clip-dissect": ("clip-dissect", ("clip-dissect",)),
    "clip-dissect-captions": ("clip-dissect (captions)", ("clip-dissect", *_CAPTIONS)),
    "describe-and-dissect": ("describe-and-dissect", ("describe-and-dissect",)),
    "describe-and-dissect-captions": (
        "describe-and-dissect (captions)",
        ("describe-and-dissect", "--captioner", "captions", *_CAPTIONS),
    ),
}
"""Name of a baseline in tables, and the arguments of ``line eval baseline``."""

INTERRUPTED = 130

_NO_RUN = "<run of "

State = Literal["there", "unfinished", "missing", "again"]


@dataclass(frozen=True)
class Variant:
    """A search that differs from the suite's own in one setting.

    Args:
        exclude_file: file of the names that are kept off initial scoreboards, by unit; the command reads them from
            the environment.
    """

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    exclude_file: Path | None = None


@dataclass(frozen=True)
class Command:
    """A command of the suite.

    Args:
        arguments: of ``line``.
        state: whether its result is ``there``, ``unfinished`` or ``missing``; ``again``: it always runs again, on
            what the store has.
        exclude_file: see ``Variant``.
    """

    name: str
    arguments: tuple[str, ...]
    state: State
    exclude_file: Path | None = None

    @property
    def shown(self) -> str:
        """The command as one would type it."""
        typed = shell_line(["line", *self.arguments])
        read = f'LINE_EXCLUDE_FOR="$(cat {shell_word(str(self.exclude_file))})" ' if self.exclude_file else ""
        return read + typed


@dataclass(frozen=True)
class _Labels:
    """A baseline's labels: suffix of the name, options and file."""

    baseline: str
    form: str
    options: tuple[str, ...]
    path: Path


Execute = Callable[[Command], int]
"""Runs a command and returns its exit status; raises ``LineError`` where that is impossible."""


def variants(base: Settings, models: Sequence[str], excluded: Path | None, exclude_for: Any) -> list[Variant]:
    """Return the suite's searches: its own, then the longest, whose images and replies serve the others.

    Args:
        models: other language models, ``random`` among them.
        excluded: file of the names of each unit's class; None where units have no classes.
        exclude_for: what is in that file.
    """
    lengths = sorted({*LENGTHS} - {base.iterations}, reverse=True)
    other = "per-concept" if base.modifiers == "per-image" else "per-image"
    searches = [Variant("line")]
    searches += [Variant(f"N = {n}", {"iterations": n}) for n in lengths]
    summary = not base.summary
    name = "with summary" if summary else "no summary"
    searches.append(Variant(name, {"summary": summary}))
    searches.append(Variant(f"{other} modifiers", {"modifiers": other}))
    searches += [Variant(f"proposer {model}", {"llm": model}) for model in models]
    if excluded is not None:
        searches.append(Variant("class kept out", {"exclude_for": exclude_for}, excluded))
    return searches


@dataclass
class Suite:
    """An evaluation of some units of a layer.

    Args:
        model: spec of the target, with the version of its weights.
        selector: selects these units on the command line.
        searches: see ``variants``.
        settings_of: the settings of a search, from its changes of the suite's own.
        options_of: the command-line options of a search, from its changes of the suite's own.
        location_options: options for the locations of store, asset packs and settings.
        baselines: keys of ``BASELINES``.
        cosy_options: options of ``line eval cosy``.
        shown_model: name of the target in files, where it differs from ``model``.
        edits_options: options of ``line eval edits``; None: no image is edited.
        failures: names of failed commands, with the reason.
    """

    model: str
    layer: str
    units: Sequence[int]
    selector: str
    searches: Sequence[Variant]
    settings_of: Callable[[Mapping[str, Any]], Settings]
    options_of: Callable[[Mapping[str, Any]], Sequence[str]]
    location_options: Sequence[str]
    baselines: Sequence[str]
    cosy_options: Sequence[str]
    folder: Path
    runs: RunStore
    has_classes: bool
    shown_model: str = ""
    edits_options: Sequence[str] | None = None
    failures: dict[str, str] = field(default_factory=dict)

    def find_run(self, variant: Variant) -> Run | None:
        """Return the newest run in the store that is a search of this suite, whoever started it."""
        wanted = result_settings(recorded_settings(self.settings_of(variant.changes)))
        for run in self.runs.runs():
            if (
                (run.model, run.layer) == (self.model, self.layer)
                and result_settings(run.settings) == wanted
                and {unit.unit for unit in self.runs.units(run.id)} == set(self.units)
            ):
                return run
        return None

    def search_tasks(self) -> list[Command]:
        """Return the commands of the searches."""
        return [self._search(variant) for variant in self.searches]

    def _search(self, variant: Variant) -> Command:
        changes = {name: value for name, value in variant.changes.items() if name != "exclude_for"}
        command = ("batch", self.model, self.layer, "--units", self.selector)
        arguments = (*command, *self.options_of(changes), *self.location_options)
        run = self.find_run(variant)
        if run is None:
            return Command(variant.name, arguments, "missing", variant.exclude_file)
        states = self.runs.states(run.id)
        if run.concluded and states.keys() <= ENDED:
            return Command(variant.name, arguments, "there", variant.exclude_file)
        return Command(variant.name, ("resume", run.id, *self.location_options), "unfinished")

    def label_tasks(self) -> list[Command]:
        """Return the commands of the baselines, on the units of both base searches."""
        tasks = []
        for variant in self._bases():
            run = self.find_run(variant)
            source = run.id if run else _expected(variant)
            for labels in self._labels(variant):
                arguments = (
                    "eval", "baseline", *BASELINES[labels.baseline][1], *labels.options, "--run", source,
                    "-o", str(labels.path), *self.location_options,
                )  # fmt: skip
                state: State = "there" if labels.path.is_file() else "missing"
                tasks.append(Command(f"{labels.baseline}{labels.form}, units of {variant.name}", arguments, state))
        return tasks

    def _bases(self) -> list[Variant]:
        return [self.searches[0], *(variant for variant in self.searches if variant.exclude_file)]

    def _labels(self, variant: Variant) -> list[_Labels]:
        """Return the baselines of a search in each form; initial labels are as recorded in all of them."""
        forms = self._forms(variant)
        named = [(name, form) for name in self.baselines for form in forms]
        labels = []
        for name, form in named:
            options = forms[form]
            if name != "initial" or not options:
                # Named as ``eval/labels/formats.py`` reads model and layer from a file's name.
                file = f"{model_stem(self.shown_model or self.model)}-{self.layer}.csv"
                where = _slug(f"{variant.name}{form if options else ''}".replace(",", ""))
                labels.append(_Labels(name, form, options, self.folder / "labels" / name / where / file))
        return labels

    def _forms(self, variant: Variant) -> dict[str, tuple[str, ...]]:
        """Return suffixes of the methods' names, with the options of each."""
        if variant.exclude_file:
            return {", class kept out": (), ", class allowed": ("--allow-excluded",)}
        settings = self.settings_of(variant.changes)
        share = settings.vocabulary_share or 1.0
        drawn = settings.control == "bank" and settings.init == "control" and share < 1
        # Initial scoreboards have these words only; proposals are free.
        return {"": ()} | ({", initial vocabulary": ("--share", str(share))} if drawn else {})

    def _files(self, variant: Variant) -> list[str]:
        """Return the existing files of the baselines, each after the name of its method."""
        return [
            f"{BASELINES[labels.baseline][0]}{labels.form}={labels.path}"
            for labels in self._labels(variant)
            if labels.path.is_file()
        ]

    def judge_tasks(self) -> list[Command]:
        """Return the commands of CoSy for every search and baseline; existing scores are reused."""
        tasks = [
            Command(
                f"CoSy of {variant.name}",
                ("eval", "cosy", self._source(variant), *self.cosy_options, *self.location_options),
                "again",
            )
            for variant in self.searches
        ]
        tasks += [
            Command(
                f"CoSy of {file.partition('=')[0]}",
                ("eval", "cosy", self._source(variant), file, *self.cosy_options, *self.location_options),
                "again",
            )
            for variant in self._bases()
            for file in self._files(variant)
        ]
        return tasks

    def report_tasks(self) -> list[Command]:
        """Return the commands of tables and figures of the existing results."""
        own = self._source(self.searches[0])
        there = {variant.name: run.id for variant in self.searches if (run := self.find_run(variant))}
        groups = {
            "iterations": [run for name, run in there.items() if name.startswith("N = ")],
            "summary": [run for name, run in there.items() if name.endswith("summary")],
            "modifiers": [run for name, run in there.items() if name.endswith("modifiers")],
            "proposers": [run for name, run in there.items() if name.startswith("proposer ")],
            "class-kept-out": [run for name, run in there.items() if name == "class kept out"],
        }
        wanted: list[tuple[str, tuple[str, ...]]] = [
            *self._method_tables(),
            ("winners", ("winners", *there.values())),
            ("steps", ("steps", *dict.fromkeys([self._longest(there, own), own, *groups["proposers"]]))),
            ("proposals", ("proposals", own, *groups["proposers"])),
            *((name, ("compare", own, *runs)) for name, runs in groups.items() if runs),
        ]
        if self.has_classes:
            for variant in self._bases():
                if variant.name in there:
                    sources = (there[variant.name], *self._files(variant))
                    wanted.append((f"quality-{_slug(variant.name)}", ("quality", *sources)))
        if self.edits_options is not None:
            wanted.append(("edits", ("edits", own, *self._files(self.searches[0]), *self.edits_options)))
        if (unit := self._largest_gain_unit()) is not None:
            wanted.append(("trace", ("trace", own, str(unit))))
        return [
            Command(
                name, ("eval", *arguments, "-o", str(self.folder / name), *self._places_of(arguments[0])), "again"
            )
            for name, arguments in wanted
        ]

    def _method_tables(self) -> list[tuple[str, tuple[str, ...]]]:
        """Return tables of methods against the suite's own search, and against the one without the classes."""
        first, *others = self._bases()
        tables = [("methods", first), *((f"methods-{_slug(variant.name)}", variant) for variant in others)]
        return [
            (name, ("table1", self._source(variant), *(file.partition("=")[2] for file in self._files(variant))))
            for name, variant in tables
        ]

    def _places_of(self, command: str) -> tuple[str, ...]:
        """Return the location options of a command; marking labels and editing images need asset packs."""
        kept = {"--store", "--assets"} if command in {"quality", "edits"} else {"--store"}
        pairs = zip(self.location_options[::2], self.location_options[1::2], strict=True)
        return tuple(part for name, value in pairs if name in kept for part in (name, value))

    def _source(self, variant: Variant) -> str:
        run = self.find_run(variant)
        return run.id if run else _expected(variant)

    def _longest(self, there: Mapping[str, str], own: str) -> str:
        longest = max(self.searches, key=lambda one: one.changes.get("iterations", 0))
        return there.get(longest.name, own)

    def _largest_gain_unit(self) -> int | None:
        """Return the unit whose search gained most."""
        run = self.find_run(self.searches[0])
        units = [unit for unit in self.runs.units(run.id) if unit.margin is not None] if run else []
        return max(units, key=lambda unit: unit.margin or 0.0).unit if units else None

    def plan(self) -> list[Command]:
        """Return every command with its state; names of runs that do not exist are in angle brackets."""
        return [*self.search_tasks(), *self.label_tasks(), *self.judge_tasks(), *self.report_tasks()]

    def work(self, execute: Execute, tell: Callable[[str], None]) -> int:
        """Run the commands whose results are missing, and write the report with what failed.

        Returns:
            exit status: 0; 1 if something failed; 130 if it was interrupted.
        """
        for stage in (self.search_tasks, self.label_tasks, self.judge_tasks, self.report_tasks):
            for task in stage():
                # A missing run was reported with its own command.
                if task.state == "there" or any(part.startswith(_NO_RUN) for part in task.arguments):
                    continue
                tell(f"{task.name}: {task.shown}")
                status = self._attempt(execute, task)
                if status == INTERRUPTED:
                    return status
            if stage == self.search_tasks:
                self._report_changed_files()
        write_file(self.folder / "report.md", self.report().encode())
        return 1 if self.failures else 0

    def _report_changed_files(self) -> None:
        """Record searches that ran over other units or settings because their file was changed meanwhile."""
        for task in self.search_tasks():
            if task.state == "missing" and task.name not in self.failures:
                self.failures[task.name] = "ran over other units or settings: their file was changed meanwhile"

    def _attempt(self, execute: Execute, task: Command) -> int:
        try:
            status = execute(task)
        except LineError as error:
            self.failures[task.name] = clean_text(str(error), 400)
            return 2
        if status not in {0, INTERRUPTED}:
            self.failures[task.name] = f"ended with status {status}"
        return status

    def report(self) -> str:
        """Return the report: every table and figure, every command, and what failed."""
        lines = [
            f"# Evaluation of {self.shown_model or self.model} {self.layer}",
            "",
            f"{len(self.units)} units.",
            "",
        ]
        reports = self.report_tasks()
        for task in reports:
            folder = self.folder / task.name
            for path in sorted(folder.glob("*.md")):
                lines += [_lowered(path.read_text(encoding="utf-8"), task.name), ""]
        lines += ["## Commands", ""]
        for task in [*self.search_tasks(), *self.label_tasks(), *self.judge_tasks(), *reports]:
            lines += [f"- {task.name}" + (" (not done)" if task.name in self.failures else ""), ""]
            lines += [f"      {task.shown}", ""]
        if self.failures:
            lines += ["## Not done", "", *(f"- {name}: {reason}" for name, reason in self.failures.items()), ""]
        return "\n".join(lines)


def _expected(variant: Variant) -> str:
    return f"{_NO_RUN}{variant.name}>"


def _slug(name: str) -> str:
    return "-".join(part for part in name.replace("=", "").split())


def _lowered(markdown: str, folder: str) -> str:
    """Return a report as a section of another one: headings one level lower, figures in their folder."""
    lines = (f"#{line}" if line.startswith("#") else line for line in markdown.splitlines())
    return "\n".join(line.replace("](", f"]({folder}/") if line.startswith("![") else line for line in lines)
