"""What the language model was asked at one place of a history, and what it replied, word for word."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.screen import Screen
from textual.widgets import Footer, Static
from textual.worker import get_current_worker

from line_neurons.agent.errors import LineError
from line_neurons.tools.store.records import Step
from line_neurons.tools.store.runs import RunStore
from line_neurons.tui.app.top_bar import TopBar
from line_neurons.tui.formatting import plain, step_name
from line_neurons.tui.unit_view import reason_of_refusal, result_of

if TYPE_CHECKING:
    from line_neurons.agent.ports import Prompt

_ROLES = {"system": "system", "user": "example", "assistant": "example answer"}


class PromptScreen(Screen[None]):
    """Prompt and reply of the entries of a history that the language model was asked for.

    Args:
        store: the store's folder.
        entries: these entries, at least one.
        index: the one to begin with.
    """

    CSS = """
    PromptScreen #facts { height: auto; max-height: 4; padding: 0 1; background: $panel; }
    PromptScreen Horizontal { height: 1fr; }
    PromptScreen VerticalScroll {
        width: 1fr; padding: 0 1; border: round $panel; border-title-color: $foreground;
    }
    PromptScreen VerticalScroll:focus { border: round $accent; }
    PromptScreen.-low Horizontal { layout: vertical; }
    PromptScreen.-low #prompt { height: 2fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,v", "app.pop_screen", "Back"),
        Binding("left", "move(-1)", "Earlier", priority=True),
        Binding("right", "move(1)", "Later", priority=True),
        Binding("c", "copy_prompt", "Copy prompt"),
        Binding("y", "copy_reply", "Copy reply"),
    ]

    def __init__(self, store: Path, entries: Sequence[Step], index: int) -> None:
        super().__init__()
        self._store = store
        self._entries = list(entries)
        self._index = index
        self._prompt = ""

    def compose(self) -> ComposeResult:
        """Prompt and reply side by side, or one above the other."""
        yield TopBar()
        yield Static(id="facts", markup=False)
        with Horizontal():
            with VerticalScroll(id="prompt"):
                yield Static(markup=False)
            with VerticalScroll(id="reply"):
                yield Static(markup=False)
        yield Footer()

    def on_mount(self) -> None:
        """Show the first entry."""
        self.query_one("#reply").border_title = "Reply, as it came"
        self._show()

    def on_resize(self, event: events.Resize) -> None:
        """Put the reply below where there is no room beside."""
        self.set_class(event.size.width < 110, "-low")

    def action_move(self, by: int) -> None:
        """Go to the exchange before or after."""
        to = self._index + by
        if 0 <= to < len(self._entries):
            self._index = to
            self._show()

    def action_copy_prompt(self) -> None:
        """Copy the prompt."""
        self._copy(self._prompt, "the prompt")

    def action_copy_reply(self) -> None:
        """Copy the reply."""
        self._copy(self._entries[self._index].reply, "the reply")

    def _copy(self, text: str, what: str) -> None:
        if not text:
            self.notify(f"there is nothing to copy: {what} is not known", severity="warning", markup=False)
            return
        self.app.copy_to_clipboard(text)
        self.notify(f"Copied {what}.", markup=False)

    def _show(self) -> None:
        one = self._entries[self._index]
        self.sub_title = f"step {step_name(one)}, try {one.attempt + 1}"
        self.query_one("#facts", Static).update(facts(one))
        self._put("reply", lines_of(one.reply) or Text("No reply was recorded.", "dim"))
        self._prompt = ""
        self._title("Prompt")
        self._put("prompt", Text("putting the prompt together …", "dim"))

        def rebuild() -> None:
            from line_neurons.graphs.loop.reconstruct import recorded_prompt

            worker = get_current_worker()
            try:
                with closing(RunStore(self._store, read_only=True)) as runs:
                    asked = recorded_prompt(runs, one.run, one.unit, one.step, one.attempt)
            except LineError as error:
                if not worker.is_cancelled:
                    self.app.call_from_thread(self._no_prompt, one, str(error))
                return
            if not worker.is_cancelled:
                self.app.call_from_thread(self._rebuilt, one, asked.prompt, asked.matches)

        self.run_worker(rebuild, thread=True, exclusive=True, group="prompt", exit_on_error=False)

    def _rebuilt(self, one: Step, prompt: Prompt, matches: bool | None) -> None:
        if one is not self._entries[self._index]:
            return
        said = {
            True: "as it was sent (its hash matches)",
            False: "rebuilt, but its hash is another than that of what was sent",
            None: "rebuilt, not checked (no hash was recorded)",
        }
        self._title(f"Prompt, {said[matches]}")
        self._prompt = "\n\n".join(f"[{message.role}]\n{message.content}" for message in prompt.messages)
        shown = Text()
        for place, message in enumerate(prompt.messages):
            last = place == len(prompt.messages) - 1
            role = "request" if last else _ROLES.get(message.role, plain(message.role))
            shown.append(f"{role}\n", "bold reverse" if last else "bold")
            shown.append_text(lines_of(message.content))
            if place < len(prompt.messages) - 1:
                shown.append("\n\n")
        self._put("prompt", shown)
        # The request is what differs from step to step; the examples before it are always the same.
        self.query_one("#prompt", VerticalScroll).scroll_end(animate=False)

    def _no_prompt(self, one: Step, why: str) -> None:
        if one is self._entries[self._index]:
            self._put("prompt", Text(plain(why)))

    def _title(self, text: str) -> None:
        self.query_one("#prompt").border_title = text

    def _put(self, pane: str, text: Text) -> None:
        self.query_one(f"#{pane} Static", Static).update(text)


def facts(one: Step) -> Text:
    """How the language model was asked, and what came of it."""
    known = [
        ("model", one.model),
        ("seed", one.seed),
        ("temperature", one.temperature),
        ("seconds", None if one.seconds is None else f"{one.seconds:.1f}"),
        ("concept", one.concept),
        (
            "result",
            reason_of_refusal(one) or result_of(one) or ("" if one.score is None else f"scored {one.score:.3g}"),
        ),
    ]
    shown = Text()
    for name, value in known:
        if said := plain(value):
            shown.append(f"{name} ", "bold")
            shown.append(f"{said}   ")
    return shown


def lines_of(text: str) -> Text:
    """A text of many lines, each cleaned."""
    return Text("\n".join(plain(line) for line in text.split("\n")))
