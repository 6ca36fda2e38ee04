"""The form that begins a run: says what does not fit as one types, and shows the command."""

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
from line_neurons.tui.app.processes import Launched, launch
from line_neurons.tui.app.runs import form as run_form
from line_neurons.tui.app.runs.form import Layer, LayersQuestion
from line_neurons.tui.app.top_bar import TopBar
from line_neurons.tui.app.units.screen import UnitsScreen
from line_neurons.tui.formatting import counted, duration, plain

FIELDS = {
    "model": ("model", "torchvision:resnet50, timm:…, hf:…, file.py:function"),
    "layer": ("layer", "a dotted path, or several with commas"),
    "units": ("units", "7, 10-20, all, random:50, cosy, @FILE"),
    "llm": ("language model", ""),
    "generator": ("images from", ""),
    "control": ("control set", ""),
    "iterations": ("iterations", ""),
    "images": ("images each", ""),
    "seed": ("seed", ""),
    "max_concurrent_units": ("units at once", ""),
}
"""The fields with their labels and what they are for; where that is empty, the default stands there."""

_DEBOUNCE = 0.5
_POLL_SECONDS = 0.3
_MOST_CHOICES = 300
_WAITS = "listing the layers of {} …"


class _Field(Input):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "screen.choices", "Choose", tooltip="Among what fits the field; enter takes it."),
    ]
    BINDING_GROUP_TITLE = "A field"


class NewRunScreen(Screen[None]):
    """Begin a run: choose a model, a layer and its units; all else has a default.

    Args:
        store: the store's folder.
    """

    DEFAULT_CSS = """
    NewRunScreen {
        & #form { width: 1fr; padding: 0 1; }
        & .field { height: auto; }
        & .field Horizontal { height: 1; }
        & .field Label { width: 15; color: $text-muted; }
        & .field.-current Label { color: $primary; text-style: bold; }
        & .field Input { width: 1fr; }
        & .fault { display: none; height: auto; margin-left: 15; color: $text-error; }
        & .fault.-shown { display: block; }
        & #choices { width: 45%; height: 1fr; border: round $border; background: $background; padding: 0; }
        & #choices:focus { border: round $primary; }
        & #command { height: auto; max-height: 4; padding: 0 1; background: $panel; }
        & #state { height: auto; max-height: 3; padding: 0 1; color: $text-muted; }
        & #state.-wrong { color: $text-error; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+r", "start", "Start", tooltip="In a process of its own, which outlives the app."),
        Binding("ctrl+y", "copy", "Copy command"),
        Binding("escape", "back", "Back"),
    ]

    def __init__(self, store: Path) -> None:
        super().__init__()
        self._store = store
        self._known: dict[str, list[tuple[str, str]]] = {}
        self._notes: dict[str, str] = {}
        self._layers: list[Layer] | None = None
        self._asked = ""
        self._question: LayersQuestion | None = None
        self._debounce: Timer | None = None
        self._field = "model"
        self._offered: list[str] = []
        self._launched: Launched | None = None
        self._began = 0.0
        self._looking = False

    def compose(self) -> ComposeResult:
        """The fields, what can be chosen for the one in hand, the command and how it goes."""
        yield TopBar()
        with Horizontal():
            with VerticalScroll(id="form", can_focus=False):
                for name, (label, placeholder) in FIELDS.items():
                    with Vertical(classes="field"):
                        with Horizontal():
                            yield Label(label)
                            yield _Field(placeholder=placeholder, id=name, compact=True)
                        yield Static(id=f"{name}-fault", classes="fault")
            yield OptionList(id="choices", markup=False)
        yield Static(id="command")
        yield Static(id="state")
        yield Footer()

    def on_mount(self) -> None:
        """Show the defaults, and ask what is installed."""
        self._known = {
            "generator": [*((name, "") for name in PRESETS), ("bank", "images of the bundled bank")],
            "control": [("bank", "images of the bundled bank"), ("none", "AUC and MAD are left out")],
            "units": [("all", ""), ("random:50", "drawn with the seed"), ("cosy", "as the CoSy benchmark")],
            "llm": _embedded(),
        }
        self._draw()
        self._offer()
        self.set_interval(_POLL_SECONDS, self._look_after)
        self.run_worker(self._look_around, thread=True, exit_on_error=False)

    def on_unmount(self) -> None:
        """What was asked for the form is not needed any more; a run that was begun goes on."""
        if self._question:
            self._question.give_up()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Say what does not fit, and ask for the layers of another model once the typing rests."""
        if event.input.id == "model":
            self._layers, self._asked = None, ""
            self._notes.pop("model", None)
            if self._debounce:
                self._debounce.stop()
            if not is_custom_function(event.value):
                self._debounce = self.set_timer(_DEBOUNCE, self._ask_for_layers)
        self._draw()
        self._offer()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """On to the next field; a model of one's own is only called when it is written out."""
        if event.input.id == "model":
            self._ask_for_layers()
        self.focus_next()

    def on_descendant_focus(self) -> None:
        """Offer what fits the field in hand."""
        if isinstance(self.focused, Input) and self.focused.id:
            if self._field == "model" != self.focused.id:
                self._ask_for_layers()
            self._field = self.focused.id
            for field in self.query(".field"):
                field.set_class(field in self.focused.ancestors, "-current")
            self._offer()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Take a choice into the field."""
        field = self.query_one(f"#{self._field}", Input)
        field.value = self._offered[event.option_index]
        field.focus()
        field.action_end()
        if self._field == "model":
            self._ask_for_layers()

    def action_choices(self) -> None:
        """Go to the choices."""
        if self._offered:
            self.query_one(OptionList).focus()
            self.query_one(OptionList).highlighted = 0

    def action_back(self) -> None:
        """From the choices to the field, from there to the runs."""
        if isinstance(self.focused, OptionList):
            self.query_one(f"#{self._field}", Input).focus()
        else:
            self.dismiss()

    def action_copy(self) -> None:
        """Copy the command."""
        self.app.copy_to_clipboard(self._line())
        self.notify(plain(self._line()), title="Copied", markup=False, timeout=4)

    def action_start(self) -> None:
        """Begin the run, if everything fits as far as that can be told."""
        if self._launched:
            self._say("the run is being started")
            return
        found = run_form.faults(self._values(), self._layers)
        if found:
            name, fault = next(iter(found.items()))
            self._draw(all_faults=True)
            self._say(f"{FIELDS[name][0]}: {fault}", wrong=True)
            self.query_one(f"#{name}", Input).focus()
            return
        try:
            self._launched = launch(self._store, run_form.command(self._values()))
        except LineError as error:
            self._say(str(error), wrong=True)
            return
        self._began = time.time()

    def _values(self) -> dict[str, str]:
        return {name: self.query_one(f"#{name}", Input).value.strip() for name in FIELDS}

    def _line(self) -> str:
        return run_form.command_line(self._store, default_store(), self._values())

    def _draw(self, *, all_faults: bool = False) -> None:
        values = self._values()
        found = run_form.faults(values, self._layers)
        for name in FIELDS:
            # What is still empty is no mistake yet.
            fault = found.get(name, "") if values[name] or all_faults or name == "control" else ""
            fault = fault or self._notes.get(name, "")
            line = self.query_one(f"#{name}-fault", Static)
            line.update(Content(f"! {plain(fault)}" if fault else ""))
            line.set_class(bool(fault), "-shown")
        self.query_one("#command", Static).update(Content(f"$ {plain(self._line())}"))
        if self._launched is None:
            self._say(self._summary(values, found))

    def _summary(self, values: dict[str, str], found: dict[str, str]) -> str:
        if self._question:
            return _WAITS.format(plain(self._asked))
        if is_custom_function(values["model"]) and not self._asked:
            return "enter runs this code to list its layers"
        if found:
            return "names of classes are looked up when the run begins" if found.keys() == {"units"} else ""
        count = run_form.count_units(values, self._layers)
        return f"{counted(count, 'unit')}; ctrl+r starts" if count else "ctrl+r starts"

    def _say(self, text: str, *, wrong: bool = False) -> None:
        state = self.query_one("#state", Static)
        state.set_class(wrong, "-wrong")
        state.update(Content(f"! {plain(text)}" if wrong else plain(text)))

    def _offer(self) -> None:
        """Show what fits the field in hand."""
        typed = self.query_one(f"#{self._field}", Input).value.strip().lower()
        known = self._known.get(self._field, [])
        if self._field == "layer":
            known = [(one.path, f"{one.units} {one.kind}") for one in self._layers or ()]
        exact = any(value.lower() == typed for value, _ in known)
        fitting = [(value, note) for value, note in known if exact or typed in value.lower()][:_MOST_CHOICES]
        choices = self.query_one(OptionList)
        choices.border_title = FIELDS[self._field][0]
        choices.clear_options()
        # What fits nothing may be mistyped.
        fitting = fitting or known[:_MOST_CHOICES]
        self._offered = [value for value, _ in fitting]
        if not fitting and (about := Settings.model_fields.get(self._field)):
            choices.add_option(Option(Content(about.description or ""), disabled=True))
        choices.add_options(
            [Content.assemble(plain(value), (f"  {plain(note)}", "dim")) for value, note in fitting]
        )

    def _look_around(self) -> None:
        """In a thread: the models that are installed, and the defaults."""
        from line_neurons.tools.language_models.ollama.address import server_urls
        from line_neurons.tools.language_models.ollama.models import installed

        try:
            settings = load_settings()
        except LineError as error:
            self.call_later(partial(self._say, str(error), wrong=True))
            return
        defaults = {name: str(getattr(settings, name)) for name in run_form.SETTINGS}
        if "max_concurrent_units" not in settings.model_fields_set:
            defaults["max_concurrent_units"] = str(BATCH["max_concurrent_units"])
        self.call_later(self._take, "model", [(name, "") for name in run_form.torchvision_names()], defaults, "")
        try:
            servers = installed(server_urls(settings.ollama))
        except LineError as error:
            self.call_later(self._take, "llm", _embedded(), {}, str(error))
            return
        models = [(f"ollama:{model.name}", model.parameters) for server in servers for model in server.models]
        down = "; ".join(
            f"{server.error}{f' ({server.remedy})' if server.remedy else ''}" for server in servers if server.error
        )
        self.call_later(self._take, "llm", [*dict(models).items(), *_embedded()], {}, down)

    def _take(self, field: str, known: list[tuple[str, str]], defaults: dict[str, str], note: str) -> None:
        self._known[field] = known
        if note:
            self._known[field] = [*known, ("ollama:", f"! {note}")]
        for name, default in defaults.items():
            self.query_one(f"#{name}", Input).placeholder = default
        self._offer()

    def _ask_for_layers(self) -> None:
        model = self._values()["model"]
        if model == self._asked or not all(model.partition(":")) or model.startswith("-"):
            return
        if self._question:
            self._question.give_up()
        self._asked, self._layers = model, None
        self._question = LayersQuestion(model)
        self.run_worker(partial(self._wait_for, self._question), thread=True, exit_on_error=False)
        self._draw()

    def _wait_for(self, question: LayersQuestion) -> None:
        try:
            layers, fault = question.answer(), ""
        except LineError as error:
            layers, fault = None, str(error)
        self.call_later(self._answered, question, layers, fault)

    def _answered(self, question: LayersQuestion, layers: list[Layer] | None, fault: str) -> None:
        if question is not self._question:
            return
        self._question, self._layers = None, layers
        if fault:
            self._notes["model"] = fault
        self._draw()
        self._offer()

    def _look_after(self) -> None:
        """Whether the run that was begun is there, or what its command said."""
        launched = self._launched
        if launched is None or self._looking:
            return
        status = launched.poll()
        self._say(f"starting, {duration(time.time() - self._began)}: {launched.said() or 'opening the parts'}")
        self._looking = True
        self.run_worker(partial(self._find_run, launched, status), thread=True, exit_on_error=False)

    def _find_run(self, launched: Launched, status: int | None) -> None:
        run = _run_of(self._store, launched, self._began)
        self.call_later(self._found, launched, status, run)

    def _found(self, launched: Launched, status: int | None, run: str | None) -> None:
        self._looking = False
        if run is not None:
            self._launched = None
            self.app.switch_screen(UnitsScreen(self._store, run))
        elif status is not None:
            self._launched = None
            self._say(launched.said() or f"it ended with status {status}; see {launched.log}", wrong=True)


def _run_of(store: Path, launched: Launched, began: float) -> str | None:
    """The run that a command began: the one its process holds, or one that was begun so since."""
    if not has_runs(store):
        return None
    try:
        runs = RunStore(store, read_only=True)
    except LineError:
        return None
    try:
        held = run_of_process(runs, launched.pid, this_machine().host)
        return held or run_of_command(runs, shlex.join(["line", *launched.arguments]), began - 5)
    except LineError:
        return None
    finally:
        runs.close()


def _embedded() -> list[tuple[str, str]]:
    return [*((f"embedded:{name}", "on this machine") for name in EMBEDDED), ("random", "a baseline")]
