"""Prompt viewer: the prompt and the reply of a step, verbatim."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.screen import Screen
from textual.widgets import Static
from textual.worker import get_current_worker

from line_neurons.agent.errors import LineError
from line_neurons.agent.ports import Prompt
from line_neurons.tools.store.records import Step
from line_neurons.tools.store.refused_replies import reason_of_refusal
from line_neurons.tools.store.runs import RunStore
from line_neurons.tui.app.chrome import Flow, KeyFooter, TopBar
from line_neurons.tui.formatting import plain
from line_neurons.tui.unit_view import outcome_of

_ROLES = {"system": "system", "user": "example", "assistant": "example reply"}


class PromptScreen(Screen[None]):
    """Prompt and reply of each step with a request to the language model."""

    CSS = """
    PromptScreen #metadata { height: auto; max-height: 4; padding: 0 1; background: $panel; }
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

    def __init__(self, store: Path, steps: Sequence[Step], index: int) -> None:
        super().__init__()
        self._store = store
        self._steps = list(steps)
        self._index = index
        self._prompt = ""

    def compose(self) -> ComposeResult:
        """Lay out prompt and reply."""
        yield TopBar()
        yield Static(id="metadata", markup=False)
        with Horizontal():
            with VerticalScroll(id="prompt"):
                yield Static(markup=False)
            with VerticalScroll(id="reply"):
                yield Static(markup=False)
        yield KeyFooter()

    def on_mount(self) -> None:
        """Show the first step."""
        self.query_one("#reply").border_title = "Reply, verbatim"
        self._show()

    def on_resize(self, event: events.Resize) -> None:
        """Stack prompt and reply on a narrow screen."""
        self.set_class(event.size.width < 110, "-low")

    def action_move(self, by: int) -> None:
        """Go to the previous or next prompt."""
        index = self._index + by
        if 0 <= index < len(self._steps):
            self._index = index
            self._show()

    def action_copy_prompt(self) -> None:
        """Copy the prompt."""
        self._copy(self._prompt, "the prompt")

    def action_copy_reply(self) -> None:
        """Copy the reply."""
        self._copy(self._steps[self._index].reply, "the reply")

    def _copy(self, text: str, what: str) -> None:
        if not text:
            self.notify(f"{what} is not available", severity="warning", markup=False)
            return
        self.app.copy_to_clipboard(text)
        self.notify(f"Copied {what}.", markup=False)

    def _show(self) -> None:
        step = self._steps[self._index]
        self.title = f"{plain(step.run)} unit {step.unit}"
        self.sub_title = f"step {step.name}, attempt {step.attempt + 1}"
        self.query_one("#metadata", Static).update(request_metadata(step))
        self._put("reply", clean_lines(step.reply) or Text("No reply was recorded.", "dim"))
        self._prompt = ""
        self._title("Prompt")
        self._put("prompt", Text("rebuilding the prompt …", "dim"))

        def rebuild() -> None:
            from line_neurons.graphs.loop.reconstruct import recorded_prompt

            worker = get_current_worker()
            try:
                with closing(RunStore(self._store, read_only=True)) as runs:
                    recorded = recorded_prompt(runs, step.run, step.unit, step.step, step.attempt)
            except LineError as error:
                if not worker.is_cancelled:
                    self.app.call_from_thread(self._no_prompt, step, str(error))
                return
            if not worker.is_cancelled:
                self.app.call_from_thread(self._rebuilt, step, recorded.prompt, recorded.matches)

        self.run_worker(rebuild, thread=True, exclusive=True, group="prompt", exit_on_error=False)

    def _rebuilt(self, step: Step, prompt: Prompt, matches: bool | None) -> None:
        if step is not self._steps[self._index]:
            return
        checks = {
            True: "as it was sent (its hash matches)",
            False: "rebuilt; its hash differs from that of the prompt that was sent",
            None: "rebuilt, not checked (no hash recorded)",
        }
        self._title(f"Prompt, {checks[matches]}")
        self._prompt = "\n\n".join(f"[{message.role}]\n{message.content}" for message in prompt.messages)
        text = Text()
        for index, message in enumerate(prompt.messages):
            last = index == len(prompt.messages) - 1
            role = "request" if last else _ROLES.get(message.role, plain(message.role))
            text.append(f"{role}\n", "bold reverse" if last else "bold")
            text.append_text(clean_lines(message.content))
            if not last:
                text.append("\n\n")
        self._put("prompt", text)
        # Only the request at the end differs between steps; the examples before it do not.
        # Anchored, as the new text may be laid out after this.
        self.query_one("#prompt", VerticalScroll).anchor()

    def _no_prompt(self, step: Step, reason: str) -> None:
        if step is self._steps[self._index]:
            self._put("prompt", Text(plain(reason)))

    def _title(self, text: str) -> None:
        self.query_one("#prompt").border_title = text

    def _put(self, pane: str, text: Text) -> None:
        self.query_one(f"#{pane} Static", Static).update(text)


def request_metadata(step: Step) -> Flow:
    """Describe the request and the outcome of a step."""
    facts = [
        ("model", step.model),
        ("seed", step.seed),
        ("temperature", step.temperature),
        ("seconds", None if step.seconds is None else f"{step.seconds:.1f}"),
        ("concept", step.concept),
        (
            "outcome",
            reason_of_refusal(step)
            or outcome_of(step)
            or ("" if step.score is None else f"scored {step.score:.3g}"),
        ),
    ]
    return Flow([Text.assemble((f"{name} ", "bold"), shown) for name, value in facts if (shown := plain(value))])


def clean_lines(text: str) -> Text:
    """Clean each line of a text."""
    return Text("\n".join(plain(line) for line in text.split("\n")))
