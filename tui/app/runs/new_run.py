"""Form for a new run: checks each field while the user types, and shows the command."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Input, Label, OptionList, Static

from line_neurons.agent.errors import LineError
from line_neurons.agent.settings import load_settings
from line_neurons.agent.text import shell_line
from line_neurons.graphs.runs.loading import LIBRARIES, loading_runs
from line_neurons.tools.store.leases import this_machine
from line_neurons.tools.store.queries import run_of_command, run_of_process
from line_neurons.tools.store.runs import RunStore, default_store, has_runs
from line_neurons.tools.target_specs import is_custom_function
from line_neurons.tui.app.chrome import KeyFooter, TopBar
from line_neurons.tui.app.external import ChildProcess, launch
from line_neurons.tui.app.listing import Listing
from line_neurons.tui.app.runs import form as run_form
from line_neurons.tui.app.runs.fields import (
    MAIN,
    MORE,
    REQUIRED,
    Choice,
    Field,
    defaults,
    embedded_models,
    field,
    model_choices,
    settings_of,
)
from line_neurons.tui.app.runs.form import Layer
from line_neurons.tui.app.runs.unit_list import UnitListScreen
from line_neurons.tui.app.units.screen import UnitsScreen
from line_neurons.tui.formatting import counted, duration, phase_text, plain

_DEBOUNCE = 0.5
_POLL_SECONDS = 0.3
_MAX_CHOICES = 300
_LISTING = "listing the layers of {} …"
_WIDE = 110
"""Width from which the choices stand beside the form."""


class _Input(Input):
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
        & #form { width: 1fr; height: 1fr; padding: 0 1; }
        & .field { height: auto; }
        & .field Horizontal { height: 1; }
        & .field Label { width: 26; color: $text-muted; }
        & .field.-current Label { color: $primary; text-style: bold; }
        & .field Input { width: 1fr; }
        & .error { display: none; height: auto; margin-left: 26; color: $text-error; }
        & .error.-shown { display: block; }
        & .panel { margin-top: 1; color: $primary; text-style: bold; }
        & #help {
            width: 42%; height: 1fr; border: round $border; background: $background;
            border-title-color: $primary;
        }
        & #help:focus-within { border: round $primary; }
        & #meaning { height: auto; max-height: 6; padding: 0 1; color: $text-muted; }
        & #choices { height: 1fr; border: none; background: $background; padding: 0; }
        &.-narrow #body { layout: vertical; }
        &.-narrow #help { width: 1fr; height: 8; }
        &.-narrow #meaning { max-height: 2; }
        & #command { height: auto; max-height: 4; padding: 0 1; background: $panel; }
        & #state { height: auto; max-height: 3; padding: 0 1; color: $text-muted; }
        & #state.-wrong { color: $text-error; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+r", "start", "Start", tooltip="In the background; the run outlives the app."),
        Binding("f3", "units", "Units", tooltip="List the units of the layer, and choose some."),
        Binding("f2", "more", "All settings", tooltip="Show every setting of the command."),
        Binding("ctrl+y", "copy", "Copy command"),
        Binding("escape", "back", "Back"),
        Binding("f1", "app.keys", "Help"),
    ]

    def __init__(self, store: Path) -> None:
        super().__init__()
        self._store = store
        self._fields = {name: field(name) for name in (*REQUIRED, *MAIN)}
        self._choices: dict[str, list[Choice]] = {}
        self._notes: dict[str, str] = {}
        self._drawn_errors: dict[str, str] = {}
        self._layers: list[Layer] | None = None
        self._listed: tuple[str, ...] = ()
        self._listing: Listing | None = None
        self._debounce: Timer | None = None
        self._field = "model"
        self._shown_choices: list[str] = []
        self._run_store = store
        self._process: ChildProcess | None = None
        self._start_time = 0.0
        self._searching = False

    def compose(self) -> ComposeResult:
        """Lay out the fields, the suggestions, the command and its status."""
        yield TopBar()
        with Horizontal(id="body"):
            with VerticalScroll(id="form", can_focus=False):
                for each in self._fields.values():
                    yield _row(each)
            with Vertical(id="help"):
                yield Static(id="meaning", markup=False)
                yield OptionList(id="choices", markup=False)
        yield Static(id="command")
        yield Static(id="state")
        yield KeyFooter()

    def on_mount(self) -> None:
        """Show the defaults, and list what is installed."""
        self.title = "New run"
        self._draw()
        self._show_choices()
        self.set_interval(_POLL_SECONDS, self._poll)
        self.run_worker(self._load_choices, thread=True, exit_on_error=False)

    def on_resize(self, event: events.Resize) -> None:
        """Put the choices below the form on a narrow screen."""
        self.set_class(event.size.width < _WIDE, "-narrow")

    def on_unmount(self) -> None:
        """Cancel the listing of layers; a started run continues."""
        if self._listing:
            self._listing.cancel()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Check the fields, and list the layers of a new model once typing pauses."""
        if event.input.id in {"model", *run_form.LISTED_WITH}:
            self._layers, self._listed = None, ()
            self._notes.pop("model", None)
            if self._debounce:
                self._debounce.stop()
            if not is_custom_function(self._values()["model"]):
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
            if self._field == "model" != self.focused.id and not is_custom_function(self._values()["model"]):
                self._list_layers()
            self._field = self.focused.id
            for field in self.query(".field"):
                field.set_class(field in self.focused.ancestors, "-current")
            self._show_choices()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Copy a suggestion into the field."""
        entry = self.query_one(f"#{self._field}", Input)
        entry.value = self._shown_choices[event.option_index]
        entry.focus()
        entry.action_end()
        if self._field == "model":
            self._list_layers()

    def action_choices(self) -> None:
        """Go to the suggestions."""
        if self._shown_choices:
            self.query_one(OptionList).focus()
            self.query_one(OptionList).highlighted = 0

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer all settings until they are there."""
        return action != "more" or len(self._fields) == len(REQUIRED) + len(MAIN)

    async def action_more(self) -> None:
        """Add the fields of all other settings, in the panels of the command's help."""
        form = self.query_one("#form", VerticalScroll)
        for panel, names in MORE.items():
            added = {name: field(name) for name in names}
            self._fields |= added
            await form.mount(Label(panel, classes="panel"), *map(_row, added.values()))
        self._draw()
        self.query_one(f"#{MORE[next(iter(MORE))][0]}", Input).focus()
        self.refresh_bindings()

    def action_units(self) -> None:
        """Open the list of units of the layer."""
        values = self._values()
        errors = run_form.field_errors({**values, "units": "all"}, self._layers)
        if errors:
            name, error = next(iter(errors.items()))
            self._show_status(f"{field(name).label}: {error}", wrong=True)
            return

        def choose(units: str | None) -> None:
            if units is not None:
                entry = self.query_one("#units", Input)
                entry.value = units
                entry.focus()

        title = f"Units of {values['model']} {values['layer'].partition(',')[0].strip()}"
        self.app.push_screen(UnitListScreen(run_form.unit_arguments(values, self._store), title), choose)

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
            self._show_status(f"{field(name).label}: {error}", wrong=True)
            if name in self._fields:
                self.query_one(f"#{name}", Input).focus()
            return
        try:
            self._run_store = run_form.store_of(self._values(), self._store)
            self._process = launch(self._run_store, run_form.command(self._values()))
        except LineError as error:
            self._show_status(str(error), wrong=True)
            return
        self._start_time = time.time()

    def _values(self) -> dict[str, str]:
        return {name: self.query_one(f"#{name}", Input).value.strip() for name in self._fields}

    def _line(self) -> str:
        return run_form.command_line(self._store, default_store(), self._values())

    def _draw(self, *, all_errors: bool = False) -> None:
        values = self._values()
        errors = run_form.field_errors(values, self._layers)
        for name in self._fields:
            # An empty field is no error yet.
            error = errors.get(name, "") if values[name] or all_errors or name not in REQUIRED else ""
            error = error or self._notes.get(name, "")
            if error != self._drawn_errors.get(name, ""):
                self._drawn_errors[name] = error
                line = self.query_one(f"#{name}-error", Static)
                line.update(Content(f"! {plain(error)}" if error else ""))
                line.set_class(bool(error), "-shown")
        if not errors.keys() - REQUIRED.keys():
            shown = defaults(settings_of(values)) | {"store": str(self._store)}
            for name in self._fields.keys() - REQUIRED.keys():
                self.query_one(f"#{name}", Input).placeholder = shown[name]
        self.query_one("#command", Static).update(Content(f"$ {plain(self._line())}"))
        if self._process is None:
            self._show_status(self._summary(values, errors))

    def _summary(self, values: dict[str, str], errors: dict[str, str]) -> str:
        if self._listing:
            return _LISTING.format(plain(values["model"]))
        if is_custom_function(values["model"]) and not self._listed:
            return "enter runs this code to list its layers"
        if hidden := errors.keys() - self._fields.keys():
            name = next(iter(hidden))
            return f"! {field(name).label}: {errors[name]}"
        if errors:
            return ""
        count = run_form.count_units(values, self._layers)
        return f"{counted(count, 'unit')}; ctrl+r starts" if count else "ctrl+r starts"

    def _show_status(self, text: str, *, wrong: bool = False) -> None:
        state = self.query_one("#state", Static)
        state.set_class(wrong, "-wrong")
        state.update(Content(f"! {plain(text)}" if wrong else plain(text)))

    def _show_choices(self) -> None:
        """Show the suggestions for the current field."""
        typed, each = self.query_one(f"#{self._field}", Input).value.strip().lower(), self._fields[self._field]
        choices = self._choices.get(each.name, list(each.choices))
        if each.name == "layer":
            choices = [(layer.path, f"{layer.units} {layer.kind}") for layer in self._layers or ()]
        exact = any(value.lower() == typed for value, _ in choices)
        matching = [(value, note) for value, note in choices if exact or typed in value.lower()][:_MAX_CHOICES]
        self.query_one("#help").border_title = each.label
        self.query_one("#meaning", Static).update(plain(each.about))
        options = self.query_one(OptionList)
        options.clear_options()
        # A value without a match may be mistyped.
        matching = matching or choices[:_MAX_CHOICES]
        self._shown_choices = [value for value, _ in matching]
        options.add_options(
            [Content.assemble(plain(value), (f"  {plain(note)}", "dim")) for value, note in matching]
        )

    def _load_choices(self) -> None:
        """List installed models, in a worker thread."""
        from line_neurons.tools.language_models.available import available_models

        self.call_later(self._add_choices, "model", model_choices())
        try:
            found = available_models(load_settings())
        except LineError as error:
            self.call_later(self._add_choices, "llm", [*embedded_models(), ("ollama:", f"! {error}")])
            return
        models = [choice for kind in found for choice in kind.models.items()]
        notes = [(kind.prefix, f"! {'; '.join(kind.faults)}") for kind in found if kind.faults]
        self.call_later(self._add_choices, "llm", [*models, *embedded_models(), *notes])

    def _add_choices(self, name: str, choices: list[Choice]) -> None:
        self._choices[name] = choices
        self._show_choices()

    def _list_layers(self) -> None:
        values = self._values()
        listed = tuple(values.get(name, "") for name in ("model", *run_form.LISTED_WITH))
        if listed == self._listed or not all(listed[0].partition(":")) or listed[0].startswith("-"):
            return
        if run_form.field_errors(values, None).keys() & {"model", *run_form.LISTED_WITH}:
            return
        if self._listing:
            self._listing.cancel()
        self._listed, self._layers = listed, None
        self._listing = run_form.layer_listing(values)
        self._listing.deliver(self, run_form.layers_of, partial(self._layers_listed, self._listing))
        self._draw()

    def _layers_listed(self, listing: Listing, layers: list[Layer] | None, error: str) -> None:
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
        phase = next((run.phase for run in loading_runs(self._run_store) if run.process == process.pid), None)
        now = time.time()
        doing = phase_text(phase, now) if phase else process.last_message() or LIBRARIES
        self._show_status(f"starting, {duration(now - self._start_time)}: {doing}")
        self._searching = True
        self.run_worker(partial(self._find_run, process, status), thread=True, exit_on_error=False)

    def _find_run(self, process: ChildProcess, status: int | None) -> None:
        run = _started_run(self._run_store, process, self._start_time)
        self.call_later(self._run_found, process, status, run)

    def _run_found(self, process: ChildProcess, status: int | None, run: str | None) -> None:
        self._searching = False
        if run is not None:
            self._process = None
            self.app.switch_screen(UnitsScreen(self._run_store, run))
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
        return held or run_of_command(runs, shell_line(["line", *process.arguments]), start_time - 5)
    except LineError:
        return None
    finally:
        runs.close()


def _row(each: Field) -> Vertical:
    """Lay out a field: its label, its text and its error."""
    entry = _Input(id=each.name, compact=True, placeholder="required" if each.name in REQUIRED else "")
    line = Horizontal(Label(each.label), entry)
    return Vertical(line, Static(id=f"{each.name}-error", classes="error"), classes="field")
