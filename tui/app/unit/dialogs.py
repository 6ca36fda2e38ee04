"""Dialogs of a unit's screen: suggest or ban a concept, withdraw a steering command, fork a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label, OptionList, Static

from line_neurons.agent.concepts import find_duplicate, normalise_concept
from line_neurons.agent.steering import SteeringKind
from line_neurons.tools.language_models.registry import FORMS, NAMED_KINDS
from line_neurons.tui.formatting import plain

_LOOK = """
{name} {{ align: center middle; }}
{name} > Vertical {{
    width: 66; max-width: 95%; height: auto; max-height: 95%; padding: 0 2 1 2;
    border: round $accent; background: $surface; border-title-style: bold; overflow-y: auto;
}}
{name} Input {{ border: tall $panel; height: 3; }}
{name} Input:focus {{ border: tall $accent; }}
{name} Label {{ text-style: bold; }}
{name} .message {{ height: auto; min-height: 1; }}
{name} .message.error {{ color: $text-error; }}
{name} Horizontal {{ height: auto; align-horizontal: right; }}
{name} Button {{ margin-left: 2; }}
"""


def concept_error(text: str, tried: Sequence[str] = (), banned: Sequence[str] = ()) -> str:
    """Return what is wrong with a typed concept; empty if nothing is."""
    try:
        concept = normalise_concept(text)
    except ValueError as error:
        return str(error)
    if (known := find_duplicate(concept, banned)) is not None:
        return f"“{known}” is banned"
    if (known := find_duplicate(concept, tried)) is not None:
        return f"“{known}” was already scored"
    return ""


class ConceptDialog(ModalScreen[tuple[SteeringKind, str] | None]):
    """Asks for a concept to suggest or to ban; returns the command with the concept normalised, or None."""

    CSS = _LOOK.format(name="ConceptDialog")
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "Cancel")]

    def __init__(self, unit: str, tried: Sequence[str], banned: Sequence[str]) -> None:
        super().__init__()
        self._unit, self._tried, self._banned = unit, tried, banned

    def compose(self) -> ComposeResult:
        """Lay out a field with its error and three buttons."""
        with Vertical() as box:
            box.border_title = "Suggest or ban a concept"
            box.border_subtitle = "enter suggests, escape cancels"
            yield Static(
                Text(
                    f"Suggest: the next proposal for {self._unit}, generated and scored as any concept. "
                    "Ban: it is neither proposed nor the label."
                )
            )
            yield Input(placeholder="one to three words, such as: striped fur", max_length=200)
            yield Static(classes="message", markup=False)
            with Horizontal():
                yield Button("Cancel", id="cancel")
                yield Button("Ban", id="ban", disabled=True)
                yield Button("Suggest", id="go", variant="primary", disabled=True)

    @on(Input.Changed)
    def _check(self, event: Input.Changed) -> None:
        error = concept_error(event.value, self._tried, self._banned)
        message = self.query_one(".message", Static)
        message.set_class(bool(error and event.value), "error")
        if not event.value.strip():
            message.update("")
        else:
            message.update(Text(plain(error) if error else f"✓ “{normalise_concept(event.value)}”"))
        self.query_one("#go", Button).disabled = bool(error)
        # What was scored can be banned.
        self.query_one("#ban", Button).disabled = bool(concept_error(event.value, (), self._banned))

    @on(Input.Submitted)
    @on(Button.Pressed, "#go")
    def _suggest(self) -> None:
        self._submit("try", self._tried)

    @on(Button.Pressed, "#ban")
    def _ban(self) -> None:
        self._submit("ban")

    def _submit(self, kind: SteeringKind, tried: Sequence[str] = ()) -> None:
        value = self.query_one(Input).value
        if not concept_error(value, tried, self._banned):
            self.dismiss((kind, normalise_concept(value)))

    @on(Button.Pressed, "#cancel")
    def _cancel(self) -> None:
        self.dismiss(None)


class ConfirmBanDialog(ModalScreen[bool]):
    """Asks whether a concept is banned that the search does not know.

    Args:
        doubt: why it may be a slip, with the concepts that may be meant.
    """

    CSS = _LOOK.format(name="ConfirmBanDialog")
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(False)", "Cancel")]

    def __init__(self, concept: str, doubt: str) -> None:
        super().__init__()
        self._concept, self._doubt = concept, doubt

    def compose(self) -> ComposeResult:
        """Lay out the doubt and two buttons."""
        with Vertical() as box:
            box.border_title = "Ban a concept"
            box.border_subtitle = "escape cancels"
            yield Static(Text(plain(self._doubt)))
            yield Static(classes="message", markup=False)
            with Horizontal():
                yield Button("Cancel", id="cancel", variant="primary")
                yield Button(f"Ban “{plain(self._concept)}”", id="go")

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "go")


class WithdrawDialog(ModalScreen[int | None]):
    """Asks which waiting command to withdraw; returns its index, or None."""

    CSS = _LOOK.format(name="WithdrawDialog") + "WithdrawDialog OptionList { height: auto; max-height: 12; }"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "Cancel")]

    def __init__(self, named: Sequence[str]) -> None:
        super().__init__()
        self._named = named

    def compose(self) -> ComposeResult:
        """Lay out the list of commands."""
        with Vertical() as box:
            box.border_title = "Withdraw a waiting command"
            box.border_subtitle = "enter withdraws, escape cancels"
            yield OptionList(*map(Text, self._named), markup=False)

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option_index)


@dataclass(frozen=True)
class ForkRequest:
    """A fork: the step after which it starts, and what it changes; None: unchanged."""

    step: int
    seed: int | None
    llm: str | None
    concept: str | None

    def arguments(self, run: str, unit: int) -> list[str]:
        """Return the arguments of ``line`` that create the fork."""
        arguments: list[str] = ["fork", run, str(unit), "--step", str(self.step)]
        for flag, value in (("--seed", self.seed), ("--llm", self.llm), ("--concept", self.concept)):
            if value is not None:
                # One word, so that a value with a leading dash is no flag.
                arguments.append(f"{flag}={value}")
        return arguments


class ForkDialog(ModalScreen[ForkRequest | None]):
    """Asks for the parameters of a fork; validates while the user types.

    Args:
        steps: the steps after which it can be forked.
        ended: the search has ended; a fork after its last step needs a concept.
    """

    CSS = (
        _LOOK.format(name="ForkDialog")
        + """
    ForkDialog Input { height: 3; }
    ForkDialog .row { height: auto; align-horizontal: left; }
    ForkDialog .row > Vertical { width: 1fr; height: auto; margin-right: 1; }
    """
    )
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "Cancel")]

    def __init__(
        self,
        unit: str,
        steps: Sequence[int],
        step: int,
        seed: int,
        llm: str,
        banned: Sequence[str] = (),
        *,
        ended: bool = False,
    ) -> None:
        super().__init__()
        self._unit, self._steps, self._step, self._seed, self._llm = unit, sorted(set(steps)), step, seed, llm
        self._banned, self._ended = banned, ended

    def compose(self) -> ComposeResult:
        """Lay out four fields with their error and two buttons."""
        last = self._steps[-1]
        with Vertical() as box:
            box.border_title = f"Fork {self._unit}"
            box.border_subtitle = "enter forks, escape cancels"
            yield Static(Text("Start a new run from the board after a step; this run does not change."))
            with Horizontal(classes="row"):
                with Vertical():
                    yield Label(f"after step (0 to {last})")
                    yield Input(str(self._step), id="step", max_length=9)
                with Vertical():
                    yield Label("seed")
                    yield Input(id="seed", placeholder=f"{self._seed}, unchanged", max_length=19)
            yield Label("language model")
            yield Input(id="llm", placeholder=f"{plain(self._llm)}, unchanged", max_length=200)
            yield Label("first proposal")
            yield Input(id="concept", placeholder="from the language model, or type a concept", max_length=200)
            yield Static(classes="message", markup=False)
            with Horizontal():
                yield Button("Cancel", id="cancel")
                yield Button("Fork", id="go", variant="primary")

    def on_mount(self) -> None:
        """Show the first error."""
        self._check()

    @on(Input.Changed)
    def _check(self) -> None:
        error = self._error()
        message = self.query_one(".message", Static)
        message.set_class(bool(error), "error")
        message.update(Text(plain(error)))
        self.query_one("#go", Button).disabled = bool(error)

    @on(Input.Submitted)
    @on(Button.Pressed, "#go")
    def _submit(self) -> None:
        if self._error():
            return
        seed, llm, concept = (self._value(name) for name in ("seed", "llm", "concept"))
        self.dismiss(
            ForkRequest(
                int(self._value("step")),
                int(seed) if seed else None,
                llm or None,
                normalise_concept(concept) if concept else None,
            )
        )

    @on(Button.Pressed, "#cancel")
    def _cancel(self) -> None:
        self.dismiss(None)

    def _value(self, name: str) -> str:
        return self.query_one(f"#{name}", Input).value.strip()

    def _error(self) -> str:
        """Return the error of the first invalid field; empty if all are valid."""
        checks: dict[str, Callable[[str], str]] = {
            "step": self._step_error,
            "seed": _seed_error,
            "llm": _model_error,
            "concept": lambda text: concept_error(text, (), self._banned) if text else "",
        }
        error = next((message for name, check in checks.items() if (message := check(self._value(name)))), "")
        if (
            not error
            and self._ended
            and int(self._value("step")) == self._steps[-1]
            and not self._value("concept")
        ):
            return f"the search ended with step {self._steps[-1]}: name an earlier one, or a first proposal"
        return error

    def _step_error(self, text: str) -> str:
        if _is_number(text) and int(text) in self._steps:
            return ""
        return f"no step {text!r:.20}: name one from 0 to {self._steps[-1]}" if text else "name the step"


def _seed_error(text: str) -> str:
    if not text or (_is_number(text) and int(text) < 2**31):
        return ""
    return f"a seed is a whole number from 0 to {2**31 - 1}, not {text!r:.30}"


def _model_error(text: str) -> str:
    kind, _, name = text.partition(":")
    if not text or text in FORMS or (kind in NAMED_KINDS and name and not set(name) & {" ", "\t"}):
        return ""
    return f"no language model {text!r:.40}; name one of: {', '.join(FORMS)}"


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19
