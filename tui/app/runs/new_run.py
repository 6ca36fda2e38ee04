"""Form for a new run: checks each field while the user types, and shows the command."""

from __future__ import annotations

import shlex
import time
from functools import partial
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Footer, Input, Label, OptionList, Static
from textual.widgets.option_list import Option

from line_neurons.agent.errors import LineError
from line_neurons.agent.presets import BATCH
from line_neurons.agent.settings import Settings, load_settings
from line_neurons.tools.generators.presets import PRESETS
from line_neurons.tools.language_models.registry import EMBEDDED
from line_neurons.tools.store.leases import this_machine
from line_neurons.tools.store.queries import run_of_command, run_of_process
from line_neurons.tools.store.runs import RunStore, default_store, has_runs
from line_neurons.tools.target_specs import is_custom_function
from line_neurons.tui.app.chrome import TopBar
from line_neurons.tui.app.external import ChildProcess, launch
from line_neurons.tui.app.runs import form as run_form
from line_neurons.tui.app.runs.form import Layer, LayerListing
from line_neurons.tui.app.units.screen import UnitsScreen
from line_neurons.tui.formatting import counted, duration, plain

FIELDS = {
    "model": ("model", "torchvision:resnet50, timm:…, hf:…, file.py:function"),
    "layer": ("layer", "a dotted path, or several with commas"),
    "units": ("units", "7, 10-20, all, random:50, cosy, @FILE"),
    "llm": ("language model", ""),
    "generator": ("generator", ""),
    "control": ("control set", ""),
    "iterations": ("iterations", ""),
    "images": ("images/concept", ""),
    "seed": ("seed", ""),
    "max_concurrent_units": ("parallel units", ""),
}
"""Label and placeholder of each field; an empty placeholder is replaced by the default."""

_DEBOUNCE = 0.5
_POLL_SECONDS = 0.3
_MAX_CHOICES = 300
_LISTING = "listing the layers of {} …"


class _Field(Input):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "down", "screen.choices", "Choose", tooltip="Go to the suggestions for this field; enter selects one."
        ),
    ]
    BINDING_GROUP_TITLE = "A field"


class NewRunScreen(Screen[None]):
    """Start a run: choose a model, a layer and units; everything else has a default."""

    DEFAULT_CSS = """
    NewRunScreen {
        & #form { width: 1fr; padding: 0 1; }
        & .field { height: auto; }
        & .field Horizontal { height: 1; }
        & .field Label { width: 15; color: $text-muted; }
        & .field.-current Label { color: $primary; text-style: bold; }
        & .field Input { width: 1fr; }
        & .error { display: none; height: auto; margin-left: 15; color: $text-error; }
        & .error.-shown { display: block; }
        & #choices { width: 45%; height: 1fr; border: round $border; background: $background; padding: 0; }
        & #choices:focus { border: round $primary; }
        & #command { height: auto; max-height: 4; padding: 0 1; background: $panel; }
        & #state { height: auto; max-height: 3; padding: 0 1; color: $text-muted; }
        & #state.-wrong { color: $text-error; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+r", "start", "Start", tooltip="In the background; the run outlives the app."),
        Binding("ctrl+y", "copy", "Copy command"),
        Binding("escape", "back", "Back"),
    ]

    def __init__(self, store: Path) -> None:
        super().__init__()
        self._store = store
        self._choices: dict[str, list[tuple[str, str]]] = {}
        self._notes: dict[str, str] = {}
        self._layers: list[Layer] | None = None
        self._listed_model = ""
        self._listing: LayerListing | None = None
        self._debounce: Timer | None = None
        self._field = "model"
        self._shown_choices: list[str] = []
        self._process: ChildProcess | None = None
        self._start_time = 0.0
        self._searching = False

    def compose(self) -> ComposeResult:
        """Lay out the fields, the suggestions, the command and its status."""
        yield TopBar()
        with Horizontal():
            with VerticalScroll(id="form", can_focus=False):
                for name, (label, placeholder) in FIELDS.items():
                    with Vertical(classes="field"):
                        with Horizontal():
                            yield Label(label)
                            yield _Field(placeholder=placeholder, id=name, compact=True)
                        yield Static(id=f"{name}-error", classes="error")
            yield OptionList(id="choices", markup=False)
        yield Static(id="command")
        yield Static(id="state")
        yield Footer()

    def on_mount(self) -> None:
        """Show the defaults, and list what is installed."""
        self._choices = {
            "generator": [*((name, "") for name in PRESETS), ("bank", "images of the bundled bank")],
            "control": [("bank", "images of the bundled bank"), ("none", "no AUC and MAD")],
            "units": [("all", ""), ("random:50", "a random sample"), ("cosy", "the sample of the CoSy benchmark")],
            "llm": _embedded(),
        }
        self._draw()
        self._show_choices()
        self.set_interval(_POLL_SECONDS, self._poll)
        self.run_worker(self._load_choices, thread=True, exit_on_error=False)

    def on_unmount(self) -> None:
        """Cancel the listing of layers; a started run continues."""
        if self._listing:
            self._listing.cancel()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Check the fields, and list the layers of a new model once typing pauses."""
        if event.input.id == "model":
            self._layers, self._listed_model = None, ""
            self._notes.pop("model", None)
            if self._debounce:
                self._debounce.stop()
            if not is_custom_function(event.value):
                self._debounce = self.set_timer(_DEBOUNCE, self._list_layers)
        self._draw()
        self._show_choices()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Go to the next field; a custom model is called only once its name is entered."""
        if event.input.id == "model":
            self._list_layers()
        self.focus_next()

    def on_descendant_focus(self) -> None:
        """Show the suggestions for the current field."""
        if isinstance(self.focused, Input) and self.focused.id:
            if self._field == "model" != self.focused.id:
                self._list_layers()
            self._field = self.focused.id
            for field in self.query(".field"):
                field.set_class(field in self.focused.ancestors, "-current")
            self._show_choices()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Copy a suggestion into the field."""
        field = self.query_one(f"#{self._field}", Input)
        field.value = self._shown_choices[event.option_index]
        field.focus()
        field.action_end()
        if self._field == "model":
            self._list_layers()

    def action_choices(self) -> None:
        """Go to the suggestions."""
        if self._shown_choices:
            self.query_one(OptionList).focus()
            self.query_one(OptionList).highlighted = 0

    def action_back(self) -> None:
        """Go from the suggestions to the field, and from there to the runs."""
        if isinstance(self.focused, OptionList):
            self.query_one(f"#{self._field}", Input).focus()
        else:
            self.dismiss()

    def action_copy(self) -> None:
        """Copy the command."""
        self.app.copy_to_clipboard(self._line())
        self.notify(plain(self._line()), title="Copied", markup=False, timeout=4)

    def action_start(self) -> None:
        """Start the run if no field has an error."""
        if self._process:
            self._show_status("the run is starting")
            return
        errors = run_form.field_errors(self._values(), self._layers)
        if errors:
            name, error = next(iter(errors.items()))
            self._draw(all_errors=True)
            self._show_status(f"{FIELDS[name][0]}: {error}", wrong=True)
            self.query_one(f"#{name}", Input).focus()
            return
        try:
            self._process = launch(self._store, run_form.command(self._values()))
        except LineError as error:
            self._show_status(str(error), wrong=True)
            return
        self._start_time = time.time()

    def _values(self) -> dict[str, str]:
        return {name: self.query_one(f"#{name}", Input).value.strip() for name in FIELDS}

    def _line(self) -> str:
        return run_form.command_line(self._store, default_store(), self._values())

    def _draw(self, *, all_errors: bool = False) -> None:
        values = self._values()
        errors = run_form.field_errors(values, self._layers)
        for name in FIELDS:
            # An empty field is no error yet.
            error = errors.get(name, "") if values[name] or all_errors or name == "control" else ""
            error = error or self._notes.get(name, "")
            line = self.query_one(f"#{name}-error", Static)
            line.update(Content(f"! {plain(error)}" if error else ""))
            line.set_class(bool(error), "-shown")
        self.query_one("#command", Static).update(Content(f"$ {plain(self._line())}"))
        if self._process is None:
            self._show_status(self._summary(values, errors))

    def _summary(self, values: dict[str, str], errors: dict[str, str]) -> str:
        if self._listing:
            return _LISTING.format(plain(self._listed_model))
        if is_custom_function(values["model"]) and not self._listed_model:
            return "enter runs this code to list its layers"
        if errors:
            return "class names are checked when the run starts" if errors.keys() == {"units"} else ""
        count = run_form.count_units(values, self._layers)
        return f"{counted(count, 'unit')}; ctrl+r starts" if count else "ctrl+r starts"

    def _show_status(self, text: str, *, wrong: bool = False) -> None:
        state = self.query_one("#state", Static)
        state.set_class(wrong, "-wrong")
        state.update(Content(f"! {plain(text)}" if wrong else plain(text)))

    def _show_choices(self) -> None:
        """Show the suggestions for the current field."""
        typed = self.query_one(f"#{self._field}", Input).value.strip().lower()
        choices = self._choices.get(self._field, [])
        if self._field == "layer":
            choices = [(layer.path, f"{layer.units} {layer.kind}") for layer in self._layers or ()]
        exact = any(value.lower() == typed for value, _ in choices)
        matching = [(value, note) for value, note in choices if exact or typed in value.lower()][:_MAX_CHOICES]
        options = self.query_one(OptionList)
        options.border_title = FIELDS[self._field][0]
        options.clear_options()
        # A value without a match may be mistyped.
        matching = matching or choices[:_MAX_CHOICES]
        self._shown_choices = [value for value, _ in matching]
        if not matching and (about := Settings.model_fields.get(self._field)):
            options.add_option(Option(Content(about.description or ""), disabled=True))
        options.add_options(
            [Content.assemble(plain(value), (f"  {plain(note)}", "dim")) for value, note in matching]
        )

    def _load_choices(self) -> None:
        """List installed models and defaults, in a worker thread."""
        from line_neurons.tools.language_models.ollama.address import server_urls
        from line_neurons.tools.language_models.ollama.models import installed

        try:
            settings = load_settings()
        except LineError as error:
            self.call_later(partial(self._show_status, str(error), wrong=True))
            return
        defaults = {name: str(getattr(settings, name)) for name in run_form.SETTINGS}
        if "max_concurrent_units" not in settings.model_fields_set:
            defaults["max_concurrent_units"] = str(BATCH["max_concurrent_units"])
        self.call_later(
            self._add_choices, "model", [(name, "") for name in run_form.torchvision_specs()], defaults, ""
        )
        try:
            servers = installed(server_urls(settings.ollama))
        except LineError as error:
            self.call_later(self._add_choices, "llm", _embedded(), {}, str(error))
            return
        models = [(f"ollama:{model.name}", model.parameters) for server in servers for model in server.models]
        down = "; ".join(
            f"{server.error}{f' ({server.remedy})' if server.remedy else ''}" for server in servers if server.error
        )
        self.call_later(self._add_choices, "llm", [*dict(models).items(), *_embedded()], {}, down)

    def _add_choices(
        self, field: str, choices: list[tuple[str, str]], defaults: dict[str, str], note: str
    ) -> None:
        self._choices[field] = choices
        if note:
            self._choices[field] = [*choices, ("ollama:", f"! {note}")]
        for name, default in defaults.items():
            self.query_one(f"#{name}", Input).placeholder = default
        self._show_choices()

    def _list_layers(self) -> None:
        model = self._values()["model"]
        if model == self._listed_model or not all(model.partition(":")) or model.startswith("-"):
            return
        if self._listing:
            self._listing.cancel()
        self._listed_model, self._layers = model, None
        self._listing = LayerListing(model)
        self.run_worker(partial(self._wait_for_layers, self._listing), thread=True, exit_on_error=False)
        self._draw()

    def _wait_for_layers(self, listing: LayerListing) -> None:
        try:
            layers, message = listing.wait(), ""
        except LineError as error:
            layers, message = None, str(error)
        self.call_later(self._layers_listed, listing, layers, message)

    def _layers_listed(self, listing: LayerListing, layers: list[Layer] | None, error: str) -> None:
        if listing is not self._listing:
            return
        self._listing, self._layers = None, layers
        if error:
            self._notes["model"] = error
        self._draw()
        self._show_choices()

    def _poll(self) -> None:
        """Check whether the run is in the store, or why its command failed."""
        process = self._process
        if process is None or self._searching:
            return
        status = process.poll()
        self._show_status(
            f"starting, {duration(time.time() - self._start_time)}: {process.last_message() or 'loading models'}"
        )
        self._searching = True
        self.run_worker(partial(self._find_run, process, status), thread=True, exit_on_error=False)

    def _find_run(self, process: ChildProcess, status: int | None) -> None:
        run = _started_run(self._store, process, self._start_time)
        self.call_later(self._run_found, process, status, run)

    def _run_found(self, process: ChildProcess, status: int | None, run: str | None) -> None:
        self._searching = False
        if run is not None:
            self._process = None
            self.app.switch_screen(UnitsScreen(self._store, run))
        elif status is not None:
            self._process = None
            self._show_status(process.last_message() or f"exit status {status}; see {process.log}", wrong=True)


def _started_run(store: Path, process: ChildProcess, start_time: float) -> str | None:
    """Find the run that a command started: by the process that holds it, or by its command and time."""
    if not has_runs(store):
        return None
    try:
        runs = RunStore(store, read_only=True)
    except LineError:
        return None
    try:
        held = run_of_process(runs, process.pid, this_machine().host)
        return held or run_of_command(runs, shlex.join(["line", *process.arguments]), start_time - 5)
    except LineError:
        return None
    finally:
        runs.close()


def _embedded() -> list[tuple[str, str]]:
    return [
        *((f"embedded:{name}", "on this machine") for name in EMBEDDED),
        ("random", "baseline of random words"),
    ]
