"""Commands for servers of language models: ``line models`` and ``line pull``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Annotated, Any

import typer
from rich.progress import TaskID

from line_neurons.agent.errors import BackendError, LineError
from line_neurons.agent.presets import SERVERS
from line_neurons.agent.settings import Settings, load_settings
from line_neurons.tools.language_models.ollama.address import server_urls
from line_neurons.tools.language_models.ollama.models import PullStep, ServerModels, installed
from line_neurons.tools.language_models.ollama.models import pull as pull_model
from line_neurons.tools.language_models.openai.address import configured
from line_neurons.tools.language_models.openai.address import server_urls as openai_urls
from line_neurons.tools.language_models.openai.models import ServedModels, served
from line_neurons.tui.cli import options as opt
from line_neurons.tui.cli import output as terminal
from line_neurons.tui.cli.progress import download_bars
from line_neurons.tui.formatting import gigabytes

app = typer.Typer()


@opt.command(
    app, "pull", ("ollama",), examples=("line pull llama3.1:8b", "line pull qwen3:8b --ollama gpu1:11434")
)
def pull(
    model: Annotated[str, typer.Argument(help="Model of Ollama's library, e.g. llama3.1:8b.")],
    *,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Download a model to the Ollama servers.

    With several servers, one after the other; an error of one does not keep the others from it.
    """
    name = model.removeprefix("ollama:")
    urls = server_urls(load_settings(**flags).ollama)
    failed: list[LineError] = []
    for url in urls:
        try:
            _pull(name, url)
        except LineError as error:
            failed.append(error)
        except KeyboardInterrupt:
            terminal.note("Interrupted; downloaded data is kept. The same command continues.")
            raise typer.Exit(130) from None
    for earlier in failed[:-1]:
        terminal.complain(earlier)
    if failed:
        raise failed[-1]
    if json:
        print_models(installed(urls), as_json=True)


@opt.command(
    app,
    "models",
    SERVERS,
    examples=(
        "line models", "line models --ollama gpu1:11434,gpu2:11434", "line models --base-url http://gpu1:8000/v1",
    ),
)  # fmt: skip
def models(*, json: opt.Json = False, **flags: Any) -> None:
    """List the models of the Ollama and OpenAI-compatible servers.

    Without an option, those of the servers that are configured.
    """
    settings = load_settings(**flags)
    named = [name for name in SERVERS if name in flags]
    of_openai = "base_url" in named if named else configured(settings.base_url) or _uses_openai(settings)
    of_ollama = "ollama" in named if named else bool(settings.ollama) or not _uses_openai(settings)
    found: list[ServerModels | ServedModels] = []
    if of_ollama:
        found += installed(server_urls(settings.ollama))
    if of_openai:
        found += served(openai_urls(settings.base_url))
    if not print_models(found, as_json=json):
        raise typer.Exit(1)


def _uses_openai(settings: Settings) -> bool:
    return settings.llm.startswith("openai:")


def print_models(found: Sequence[ServerModels | ServedModels], *, as_json: bool) -> bool:
    """Print the models of every server; False if one did not answer."""
    if as_json:
        terminal.dump(found)
        return not any(server.error for server in found)
    for server in found:
        if server.error:
            terminal.complain(BackendError(server.error, server.remedy))
            continue
        if isinstance(server, ServedModels):
            _print_served(server)
            continue
        if not server.models:
            terminal.line(
                f"{server.server} (Ollama {server.version}) has no model yet; download one with `line pull NAME`"
            )
            continue
        terminal.table(
            ["model", "size", "parameters", "weights", "digest"],
            [
                [
                    model.name,
                    gigabytes(model.size),
                    model.parameters,
                    model.quantisation,
                    model.digest[:16],
                ]
                for model in server.models
            ],
            title=f"{server.server} (Ollama {server.version})",
            drop=("digest", "parameters"),
        )
    return not any(server.error for server in found)


def _print_served(server: ServedModels) -> None:
    """Print the models of an OpenAI-compatible server, with what it reports of them."""
    if not server.models:
        terminal.line(f"{server.server} (OpenAI API) serves no model")
        return
    terminal.table(
        ["model", "context", "parameters", "owner"],
        [
            [f"openai:{model.id}", *(model.details.get(what, "") for what in ("context", "parameters", "owner"))]
            for model in server.models
        ],
        title=f"{server.server} (OpenAI API)",
    )


def _pull(name: str, url: str) -> None:
    """Download a model with one bar per layer or, without a terminal, one line per step."""
    bars = download_bars()
    tasks: dict[str, TaskID] = {}
    reported: set[str] = set()

    def report(step: PullStep) -> None:
        if not terminal.err.is_terminal:
            # One line per step; a server reports its progress thousands of times.
            if step.status not in reported:
                terminal.note(f"{step.server}: {step.status}")
                reported.add(step.status)
            return
        key = step.layer or step.status
        if key not in tasks:
            tasks[key] = bars.add_task(step.status, total=step.total or None)
        bars.update(tasks[key], completed=step.done, total=step.total or None)

    with bars if terminal.err.is_terminal else nullcontext():
        pull_model(name, url, report)
