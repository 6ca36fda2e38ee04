"""What ``line pull`` and ``line models`` do."""

from __future__ import annotations

from contextlib import nullcontext

import typer
from rich.progress import TaskID

from line_neurons.agent.errors import BackendError, LineError
from line_neurons.tools.language_models.ollama.address import server_urls
from line_neurons.tools.language_models.ollama.models import PullStep, installed
from line_neurons.tools.language_models.ollama.models import pull as pull_model
from line_neurons.tui.cli import output as terminal
from line_neurons.tui.cli.progress import download_bars


def pull(name: str, servers: str, *, as_json: bool) -> None:
    """Let every server fetch a model, one after the other.

    Args:
        name: the model, with or without ``ollama:`` before it.
        servers: addresses with commas between; empty: OLLAMA_HOST's, or this machine's.
        as_json: print what the servers then have of it as JSON.

    Raises:
        LineError: a server did not get it; the others were asked all the same.
        typer.Exit: with status 130 after Ctrl-C.
    """
    name = name.removeprefix("ollama:")
    urls = server_urls(servers)
    failed: list[LineError] = []
    for url in urls:
        try:
            _pull(name, url)
        except LineError as error:
            failed.append(error)
        except KeyboardInterrupt:
            terminal.note("Interrupted; what has arrived is kept. The same command goes on from there.")
            raise typer.Exit(130) from None
    for earlier in failed[:-1]:
        terminal.complain(earlier)
    if failed:
        raise failed[-1]
    if as_json:
        models(servers, as_json=True)


def models(servers: str, *, as_json: bool) -> bool:
    """Print the models of every server; True if all servers could be asked.

    Args:
        servers: addresses with commas between; empty: OLLAMA_HOST's, or this machine's.
        as_json: print JSON.
    """
    found = installed(server_urls(servers))
    if as_json:
        terminal.dump(found)
        return not any(one.error for one in found)
    for one in found:
        if one.error:
            terminal.complain(BackendError(one.error, one.remedy))
            continue
        if not one.models:
            terminal.line(f"{one.server} (Ollama {one.version}) has no model yet; `line pull NAME` fetches one")
            continue
        terminal.table(
            ["model", "size", "parameters", "weights", "digest"],
            [
                [
                    model.name,
                    f"{model.size / 1e9:,.1f} GB",
                    model.parameters,
                    model.quantisation,
                    model.digest[:16],
                ]
                for model in one.models
            ],
            title=f"{one.server} (Ollama {one.version})",
        )
    return not any(one.error for one in found)


def _pull(name: str, url: str) -> None:
    """Fetch a model with one bar for each of its layers, or a line for each step where nobody watches."""
    bars = download_bars()
    tasks: dict[str, TaskID] = {}
    told: set[str] = set()

    def report(step: PullStep) -> None:
        if not terminal.err.is_terminal:
            # A line for each step, not for each of the thousands of times that a server says how far it is.
            if step.status not in told:
                terminal.note(f"{step.server}: {step.status}")
                told.add(step.status)
            return
        key = step.layer or step.status
        if key not in tasks:
            tasks[key] = bars.add_task(step.status, total=step.total or None)
        bars.update(tasks[key], completed=step.done, total=step.total or None)

    with bars if terminal.err.is_terminal else nullcontext():
        pull_model(name, url, report)
