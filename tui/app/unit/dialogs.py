"""The small dialogs of a unit's screen: a concept of one's own, and a fork."""

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
from textual.widgets import Button, Input, Label, Static

from line_neurons.agent.concepts import find_duplicate, normalise_concept
from line_neurons.tools.language_models.registry import FORMS
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
{name} .told {{ height: auto; min-height: 1; }}
{name} .told.wrong {{ color: $text-error; }}
{name} Horizontal {{ height: auto; align-horizontal: right; }}
{name} Button {{ margin-left: 2; }}
"""


def concept_trouble(text: str, tried: Sequence[str] = (), banned: Sequence[str] = ()) -> str:
    """What is wrong with a concept that a person types; empty if nothing is."""
    try:
        concept = normalise_concept(text)
    except ValueError as error:
        return str(error)
    if (known := find_duplicate(concept, banned)) is not None:
        return f"“{known}” is banned"
    if (known := find_duplicate(concept, tried)) is not None:
        return f"“{known}” was scored already"
    return ""


class ConceptDialog(ModalScreen[str | None]):
    """Asks for a concept of one's own; gives it normalised, or None.

    Args:
        unit: what it is tried on, in words.
        tried: the concepts that were scored.
        banned: the concepts that are forbidden.
    """

    CSS = _LOOK.format(name="ConceptDialog")
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "Cancel")]

    def __init__(self, unit: str, tried: Sequence[str], banned: Sequence[str]) -> None:
        super().__init__()
        self._unit, self._tried, self._banned = unit, tried, banned

    def compose(self) -> ComposeResult:
        """A field, what is wrong with it, and two buttons."""
        with Vertical() as box:
            box.border_title = "Try a concept of your own"
            yield Static(
                Text(f"It is the next proposal for {self._unit}: generated, measured and scored like any other.")
            )
            yield Input(placeholder="one to three words, such as: striped fur", max_length=200)
            yield Static(classes="told", markup=False)
            with Horizontal():
                yield Button("Cancel", id="cancel")
                yield Button("Try it", id="go", variant="primary", disabled=True)

    @on(Input.Changed)
    def _look(self, event: Input.Changed) -> None:
        trouble = concept_trouble(event.value, self._tried, self._banned)
        told = self.query_one(".told", Static)
        told.set_class(bool(trouble and event.value), "wrong")
        if not event.value.strip():
            told.update("")
        else:
            told.update(Text(plain(trouble) if trouble else f"✓ “{normalise_concept(event.value)}”"))
        self.query_one("#go", Button).disabled = bool(trouble)

    @on(Input.Submitted)
    @on(Button.Pressed, "#go")
    def _go(self) -> None:
        value = self.query_one(Input).value
        if not concept_trouble(value, self._tried, self._banned):
            self.dismiss(normalise_concept(value))

    @on(Button.Pressed, "#cancel")
    def _cancel(self) -> None:
        self.dismiss(None)


@dataclass(frozen=True)
class Fork:
    """What a fork is to begin with: the step after which, and what is to be another; None: as it was."""

    step: int
    seed: int | None
    llm: str | None
    concept: str | None

    def arguments(self, run: str, unit: int) -> list[str]:
        """The arguments of ``line`` that make it."""
        given: list[str] = ["fork", run, str(unit), "--step", str(self.step)]
        for flag, value in (("--seed", self.seed), ("--llm", self.llm), ("--concept", self.concept)):
            if value is not None:
                # In one word, so that a value that begins with a dash is no flag.
                given.append(f"{flag}={value}")
        return given


class ForkDialog(ModalScreen[Fork | None]):
    """Asks what a fork begins with; validates as one types.

    Args:
        unit: the unit, in words.
        steps: the steps that it can be forked after.
        step: the step to begin with.
        seed: the run's seed.
        llm: the run's language model.
        banned: the concepts that are forbidden.
        ended: nothing comes after the last step but a concept of one's own.
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
        """Four fields, what is wrong with them, and two buttons."""
        last = self._steps[-1]
        with Vertical() as box:
            box.border_title = f"Fork {self._unit}"
            yield Static(Text("A new run goes on from the board after the step; this one stays as it is."))
            with Horizontal(classes="row"):
                with Vertical():
                    yield Label(f"after step (0 to {last})")
                    yield Input(str(self._step), id="step", max_length=9)
                with Vertical():
                    yield Label("seed")
                    yield Input(id="seed", placeholder=f"{self._seed}, as it was", max_length=19)
            yield Label("language model")
            yield Input(id="llm", placeholder=f"{plain(self._llm)}, as it was", max_length=200)
            yield Label("first proposal")
            yield Input(id="concept", placeholder="the language model's, or a concept of your own", max_length=200)
            yield Static(classes="told", markup=False)
            with Horizontal():
                yield Button("Cancel", id="cancel")
                yield Button("Fork", id="go", variant="primary")

    def on_mount(self) -> None:
        """Say at once what is missing."""
        self._look()

    @on(Input.Changed)
    def _look(self) -> None:
        trouble = self._trouble()
        told = self.query_one(".told", Static)
        told.set_class(bool(trouble), "wrong")
        told.update(Text(plain(trouble)))
        self.query_one("#go", Button).disabled = bool(trouble)

    @on(Input.Submitted)
    @on(Button.Pressed, "#go")
    def _go(self) -> None:
        if self._trouble():
            return
        seed, llm, concept = (self._value(name) for name in ("seed", "llm", "concept"))
        self.dismiss(
            Fork(
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

    def _trouble(self) -> str:
        """What is wrong with the first field that is not right; empty if all are."""
        checks: dict[str, Callable[[str], str]] = {
            "step": self._step_trouble,
            "seed": _seed_trouble,
            "llm": _model_trouble,
            "concept": lambda text: concept_trouble(text, (), self._banned) if text else "",
        }
        trouble = next((said for name, check in checks.items() if (said := check(self._value(name)))), "")
        if (
            not trouble
            and self._ended
            and int(self._value("step")) == self._steps[-1]
            and not self._value("concept")
        ):
            return f"the search ended with step {self._steps[-1]}: name an earlier one, or a first proposal"
        return trouble

    def _step_trouble(self, text: str) -> str:
        if _is_number(text) and int(text) in self._steps:
            return ""
        return f"no step {text!r:.20}: name one from 0 to {self._steps[-1]}" if text else "name the step"


def _seed_trouble(text: str) -> str:
    if not text or (_is_number(text) and int(text) < 2**31):
        return ""
    return f"a seed is a whole number from 0 to {2**31 - 1}, not {text!r:.30}"


def _model_trouble(text: str) -> str:
    kind, _, name = text.partition(":")
    if not text or text in FORMS or (kind in {"ollama", "langchain"} and name and not set(name) & {" ", "\t"}):
        return ""
    return f"no language model {text!r:.40}; name one of: {', '.join(FORMS)}"


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19
