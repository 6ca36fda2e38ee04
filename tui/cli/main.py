"""The ``line`` command."""

from __future__ import annotations

import io
import logging
import sys
from contextlib import redirect_stderr
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from line_neurons.agent.errors import LineError, UsageError, system_limit
from line_neurons.tui.cli import options as opt
from line_neurons.tui.cli.eval.commands import eval_app
from line_neurons.tui.cli.exit_codes import INTERRUPTED
from line_neurons.tui.cli.standard_streams import open_standard_streams

if TYPE_CHECKING:
    from line_neurons.agent.settings import Settings

app = typer.Typer(
    name="line",
    help="Name what the units of a vision model respond to, with the evidence.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
assets_app = typer.Typer(help="Weights and images that install from package registries.", no_args_is_help=True)
app.add_typer(assets_app, name="assets")
app.add_typer(eval_app, name="eval")


def main() -> None:
    """Run the command: status 0, 2 after an error of the user's, 130 after Ctrl-C."""
    open_standard_streams()
    # A character that the terminal's encoding lacks is no reason to fail.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = app(standalone_mode=False)
    except (LineError, OSError) as error:
        from line_neurons.tui.cli import output as terminal

        if "--debug" in sys.argv[1:]:
            terminal.trace(error)
        terminal.complain(
            error if isinstance(error, LineError) else system_limit(error) or _refused_by_the_system(error)
        )
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
        else:
            # What was mistyped is quoted, and may have been pasted.
            shown = io.StringIO()
            with redirect_stderr(shown):
                show()
            terminal.notes(shown.getvalue())
            status = getattr(error, "exit_code", 2)
    sys.exit(status or 0)


def _refused_by_the_system(error: OSError) -> LineError:
    """What no part of the program explained: a name that is too long, a disk that went away."""
    place = f": {error.filename!r:.200}" if error.filename else ""
    return LineError(f"{error.strerror or error}{place}", "name another file or folder")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"line-neurons {version('line-neurons')}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    _debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    pass


_MODEL = typer.Argument(help="The target: torchvision:NAME, timm:NAME, hf:NAME, module:function.")
_LAYERS = typer.Argument(help="Dotted path of a layer, or several with commas; see `line layers MODEL`.")
_UNITS = "7, 10-20, names of output classes, all, random:50, cosy, or @FILE"
_RUN = typer.Argument(help="A run, or the beginning of its name.")


@app.command()
@opt.takes(opt.RUN)
def explain(
    model: Annotated[str, _MODEL],
    layer: Annotated[str, _LAYERS],
    unit: Annotated[list[str], typer.Argument(help=f"Units: {_UNITS}.")],
    *,
    config: opt.Config = None,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Label units of a layer."""
    from line_neurons.agent.settings import load_settings
    from line_neurons.tui.cli import run as labelling

    settings = load_settings(config, **flags)
    labelling.explain(model, layer.split(","), unit, settings, as_json=json)


@app.command()
@opt.takes(opt.BATCH | opt.RUN)
def batch(
    model: Annotated[str, _MODEL],
    layer: Annotated[str, _LAYERS],
    units: Annotated[list[str], typer.Option(help=f"{_UNITS}; repeatable.", rich_help_panel="Batch")],
    *,
    config: opt.Config = None,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Label many units of a layer at once; what one of them paid for is free for all."""
    from line_neurons.agent.settings import load_settings
    from line_neurons.tui.cli import run as labelling

    settings = labelling.batch_settings(load_settings(config, **flags))
    labelling.explain(model, layer.split(","), units, settings, as_json=json)


@app.command()
@opt.takes(opt.only("llm", "ollama", "store", "assets", "seed"))
def demo(*, json: opt.Json = False, **flags: Any) -> None:
    """Label units of MobileNetV2 with embedded parts only: no GPU, no Ollama, no model hub."""
    from line_neurons.agent.settings import load_settings
    from line_neurons.tui.cli import run as labelling

    labelling.demo(load_settings(**{**labelling.DEMO_PARTS, **flags}), as_json=json)


@app.command()
@opt.takes(opt.CHANGES | opt.PLACES | opt.FILES)
def resume(
    run: Annotated[str | None, typer.Argument(help="A run; default: every unfinished one.")] = None,
    *,
    config: opt.Config = None,
    trust: opt.Trust = False,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Finish what is not finished, each unit from its last checkpoint; another language model may take over."""
    from line_neurons.tui.cli import run as labelling

    labelling.resume(run, *_reopening(config, flags), as_json=json, trust=trust)


@app.command()
@opt.takes(opt.only("store"))
def stop(
    run: Annotated[str, _RUN],
    *,
    wait: Annotated[bool, typer.Option("--wait", help="Come back when it has stopped.")] = False,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Let the process that works on a run finish the steps in hand and stop, as Ctrl-C there does."""
    from line_neurons.tui.cli import stop as stopping

    stopping.stop(_store(**flags), run, wait=wait, as_json=json)


@app.command()
@opt.takes(opt.CHANGES | opt.PLACES | opt.FILES)
def retry(
    run: Annotated[str, _RUN],
    *,
    config: opt.Config = None,
    trust: opt.Trust = False,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Take the failed units of a run again, each from its last checkpoint, and finish what is not finished."""
    from line_neurons.tui.cli import run as labelling

    labelling.retry(run, *_reopening(config, flags), as_json=json, trust=trust)


_UNIT = typer.Argument(help="A unit of it: its number or class name.")


@app.command()
@opt.takes(opt.only("store"))
def steer(
    run: Annotated[str, _RUN],
    unit: Annotated[str, _UNIT],
    *,
    pin: Annotated[list[str] | None, typer.Option(help="Keep this concept on the board; repeatable.")] = None,
    unpin: Annotated[list[str] | None, typer.Option(help="Keep it no longer; repeatable.")] = None,
    ban: Annotated[
        list[str] | None, typer.Option(help="Off the board for good, and never the label; repeatable.")
    ] = None,
    try_: Annotated[
        list[str] | None, typer.Option("--try", help="Propose this concept of your own next; repeatable.")
    ] = None,
    again: Annotated[
        bool,
        typer.Option("--again", help="Give up the proposal in hand and ask anew; of a finished unit: go on."),
    ] = False,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Ask something of a unit; it is taken before its next node, or when the run is resumed."""
    from line_neurons.agent.steering import SteeringKind
    from line_neurons.tui.cli import steer as steering

    given: dict[SteeringKind, list[str] | None] = {"unpin": unpin, "pin": pin, "ban": ban, "try": try_}
    given["again"] = [""] if again else None
    asked = [(kind, concept) for kind, concepts in given.items() for concept in concepts or ()]
    steering.steer(_store(**flags), run, unit, asked, as_json=json)


@app.command()
@opt.takes(opt.only("seed", "iterations", "summary", "patience", "max_iterations") | opt.CHANGES | opt.FILES)
def fork(
    run: Annotated[str, _RUN],
    unit: Annotated[str, _UNIT],
    step: Annotated[int, typer.Option(min=0, help="The last step that is kept; 0: the first board.")],
    *,
    concept: Annotated[str, typer.Option(help="A concept of your own that comes next.")] = "",
    work: Annotated[bool, typer.Option("--work/--no-work", help="Work on the new run at once.")] = True,
    config: opt.Config = None,
    trust: opt.Trust = False,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Start a new run from what a unit had after a step: another seed, language model or concept of your own."""
    from line_neurons.tui.cli import steer as steering

    settings, changes = _reopening(config, flags)
    steering.fork(run, unit, step, concept, settings, changes, working=work, as_json=json, trust=trust)


@app.command()
@opt.takes(opt.only("ollama", "timeout", "max_concurrent_units", "llm_parallel") | opt.MACHINE | opt.FILES)
def replay(
    run: Annotated[str, _RUN],
    unit: Annotated[
        list[str] | None, typer.Argument(help="Units of it: numbers or class names; default: all.")
    ] = None,
    *,
    into: Annotated[
        Path | None,
        typer.Option(help="Folder of the replay's own store; default: a new one in the store's folder replays."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse where a part is not the one that the run had.")
    ] = False,
    tolerance: Annotated[float, typer.Option(min=0, help="Scores that differ by no more count as equal.")] = 0,
    config: opt.Config = None,
    trust: opt.Trust = False,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Do a recorded run again, nothing of it from a cache, and say what differs.

    First what the run was made with and what is here; then, unit by unit, the first step at which they part.
    Status 0 if all is the same, 1 if not, 2 if it cannot be done; 130 after Ctrl-C: the same command goes on.
    """
    from line_neurons.tui.cli import replay as replaying

    settings, changes = _reopening(config, flags)
    replaying.replay(
        run, unit or [], into, settings, changes, strict=strict, tolerance=tolerance, as_json=json, trust=trust
    )


@app.command()
@opt.takes(opt.MACHINE | opt.PLACES | opt.FILES)
def revisit(
    runs: Annotated[list[str], typer.Argument(help="Runs of one layer of one model.")],
    *,
    config: opt.Config = None,
    trust: opt.Trust = False,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Label every unit of the runs with the best concept that any of their units found."""
    from line_neurons.tui.cli import run as labelling

    labelling.revisit(runs, *_reopening(config, flags), as_json=json, trust=trust)


def _reopening(config: Path | None, flags: dict[str, Any]) -> tuple[Settings, dict[str, Any]]:
    """The settings of this machine, and what is to be other than recorded with a run."""
    from line_neurons.agent.settings import load_settings

    places = {name: flags.pop(name, None) for name in opt.FILES}
    return load_settings(config, **places), flags


@app.command()
@opt.takes(opt.only("ollama"))
def pull(
    model: Annotated[str, typer.Argument(help="A model of Ollama's library, e.g. llama3.1:8b.")],
    *,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Let the Ollama servers fetch a model."""
    from line_neurons.agent.settings import load_settings
    from line_neurons.tui.cli import models as model_commands

    model_commands.pull(model, load_settings(**flags).ollama, as_json=json)


@app.command()
@opt.takes(opt.only("ollama"))
def models(*, json: opt.Json = False, **flags: Any) -> None:
    """List the models that the Ollama servers have."""
    from line_neurons.agent.settings import load_settings
    from line_neurons.tui.cli import models as model_commands

    if not model_commands.models(load_settings(**flags).ollama, as_json=json):
        raise typer.Exit(1)


@app.command()
@opt.takes(opt.only("store"))
def results(
    run: Annotated[str, _RUN],
    *,
    format_: Annotated[str, typer.Option("--format", help="table, csv, jsonl or parquet.")] = "table",
    output: Annotated[
        Path | None, opt.output("FILE", "File to write, or a folder for it; default: standard output.")
    ] = None,
    **flags: Any,
) -> None:
    """Print or write a row for each unit of a run: label, score, evidence; also while the run goes on."""
    from line_neurons.tui.cli import results as printing

    printing.results(_store(**flags), run, format_, output)


@app.command()
@opt.takes(opt.FILES)
def report(
    run: Annotated[str, _RUN],
    units: Annotated[
        list[str] | None,
        typer.Argument(metavar="[UNIT]...", help="Units of it: numbers or class names; default: all."),
    ] = None,
    *,
    output: Annotated[
        Path | None,
        opt.output(
            "FILE|FOLDER",
            "NAME.html: one page with its images in it, to send or to print, for up to 100 units. Another "
            "name: a folder with a page for each unit, for whole layers. Default: RUN.html.",
        ),
    ] = None,
    one_page: Annotated[
        bool, typer.Option("--one-page", help="Write one page of more than 100 units too; it grows with them.")
    ] = False,
    control_images: Annotated[
        bool,
        typer.Option(
            "--control-pictures",
            help="Open the run's control set and show the images of it that excite each unit most; the store "
            "keeps activations on them only.",
        ),
    ] = False,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Write a run as an HTML report: labels, images, searches, settings and cost, to read without LINE."""
    from line_neurons.agent.settings import load_settings
    from line_neurons.tui.cli import report as reporting

    reporting.report(
        _store(**flags),
        load_settings(**flags).assets,
        run,
        units or [],
        output,
        one_page=one_page,
        control_images=control_images,
        as_json=json,
    )


@app.command()
@opt.takes(opt.only("store"))
def export(
    run: Annotated[str, typer.Argument(help="A run, or labels for the form of another method.")],
    *,
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            help="csv, jsonl, parquet; cosy, invert, clip-dissect, milan; hf-dataset; neuronpedia-json; bundle.",
        ),
    ],
    output: Annotated[Path, opt.output("FILE|FOLDER", "File or folder to write; NAME/: a file in it.")],
    table: Annotated[
        str, typer.Option(help="csv, jsonl, parquet: a row for each of units, steps or images.")
    ] = "units",
    layer: Annotated[str | None, typer.Option(help="Which of the layers of a file of labels.")] = None,
    units_from: opt.UnitsFrom = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Write a run to a file or folder that others read: tables, a data set, a bundle for another machine."""
    from line_neurons.tui.cli import export as exporting

    exporting.export(
        _store(**flags),
        run,
        format_,
        output,
        table=table,
        layer=layer,
        units_from=units_from,
        force=force,
        as_json=json,
    )


@app.command("import")
@opt.takes(opt.only("store"))
def import_(
    path: Annotated[Path, typer.Argument(help="A bundle of `line export`, or a file of labels.")],
    *,
    name: Annotated[str, typer.Option("--as", help="What imported labels are to be called.")] = "",
    model: Annotated[str | None, typer.Option(help="The target of labels whose file does not say it.")] = None,
    layer: Annotated[str | None, typer.Option(help="The layer likewise, or which of several.")] = None,
    units_from: opt.UnitsFrom = None,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Take another machine's run into the store, or another method's labels for the evaluation."""
    from line_neurons.tui.cli import export as exporting

    exporting.import_(
        _store(**flags), path, name=name, model=model, layer=layer, units_from=units_from, as_json=json
    )


@app.command()
@opt.takes(opt.only("store"))
def runs(*, json: opt.Json = False, **flags: Any) -> None:
    """List the runs of a store, newest first."""
    from line_neurons.tui.cli import show as showing

    showing.runs(_store(**flags), as_json=json)


@app.command()
@opt.takes(opt.only("store"))
def show(
    run: Annotated[str, _RUN],
    unit: Annotated[str | None, typer.Argument(help="A unit of it: its number or class name.")] = None,
    step: Annotated[
        str | None,
        typer.Option(help="Only the images of this step: a number, S for summaries, or R for a revisit."),
    ] = None,
    sheet: Annotated[Path | None, typer.Option(help="Where to write the contact sheet (PNG).")] = None,
    prompt: Annotated[
        bool, typer.Option("--prompt", help="Print what the step asked the language model, word for word.")
    ] = False,
    provenance: Annotated[
        bool,
        typer.Option(
            "--provenance", help="Print what decided the run's labels: versions, hashes, machine, seeds."
        ),
    ] = False,
    *,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Show a run's labels or, for one unit, its scoreboard, history, reasoning and images."""
    from line_neurons.tui.cli import show as showing

    if provenance:
        from line_neurons.tui.cli import provenance as telling

        if unit is not None or step or sheet or prompt:
            raise UsageError(
                "--provenance tells of a whole run, and goes with --json alone", "line show RUN --provenance"
            )
        telling.show(_store(**flags), run, as_json=json)
    elif unit is None:
        if step or sheet or prompt:
            raise UsageError("--step, --sheet and --prompt need a unit", "line show RUN UNIT --step 3")
        showing.run(_store(**flags), run, as_json=json)
    elif prompt:
        from line_neurons.tui.cli import steer as steering

        if not (step and step.isascii() and step.isdigit()):
            raise UsageError("--prompt needs the number of a step", "line show RUN UNIT --step 3 --prompt")
        steering.prompt(_store(**flags), run, unit, int(step), as_json=json)
    else:
        showing.unit(_store(**flags), run, unit, step, sheet, as_json=json)


@app.command()
@opt.takes(opt.only("store"))
def tui(
    run: Annotated[str | None, typer.Argument(help="A run to open, or the beginning of its name.")] = None,
    **flags: Any,
) -> None:
    """Watch, steer and resume runs in a terminal app; leaving it touches no run."""
    # While the app is imported the terminal is asked for the size of its cells. One that is slow to answer has the
    # usual size, which is no news for the user.
    logging.getLogger("textual_image").setLevel(logging.ERROR)
    from line_neurons.tui.app.app import open_app

    open_app(_store(**flags), run)


@app.command()
@opt.takes(opt.only("weights", "layout", "download", "assets"))
def layers(
    model: Annotated[str, _MODEL], *, config: opt.Config = None, json: opt.Json = False, **flags: Any
) -> None:
    """List the layers of a model: dotted path, kind, output shape and number of units."""
    from line_neurons.agent.settings import load_settings
    from line_neurons.tui.cli import show as showing

    showing.layers(model, load_settings(config, **flags), as_json=json)


@app.command()
@opt.takes(opt.only("ollama", "store"))
def doctor(
    deep: Annotated[
        bool, typer.Option("--deep", help="Also ask the embedded language model; check all that the store keeps.")
    ] = False,
    fix: Annotated[bool, typer.Option("--fix", help="Mend the store: only what can be made again goes.")] = False,
    *,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Say of each part whether it is present, which version, whether it works, and what to do if not.

    With --store or --fix only the store is looked at: its databases, images and checkpoints.
    """
    from line_neurons.agent.settings import load_settings
    from line_neurons.tui.cli import doctor as store_doctor
    from line_neurons.tui.cli import show as showing

    settings = load_settings(**flags)
    if fix or "store" in flags:
        if not store_doctor.examine(_store(**flags), fix=fix, deep=deep, as_json=json):
            raise typer.Exit(1)
        return
    if not showing.doctor(_store(**flags), _assets(), ollama=settings.ollama, deep=deep, as_json=json):
        raise typer.Exit(1)


@app.command()
@opt.takes(opt.only("store"))
def gc(json: opt.Json = False, **flags: Any) -> None:
    """Give back space on the disk: old checkpoints of finished units, and free pages of the store's databases.

    Nobody may work on the store meanwhile. Labels, histories, images and replies stay.
    """
    from line_neurons.tui.cli import disk_space as space

    space.give_back(_store(**flags), as_json=json)


@assets_app.command("list")
def assets_list(json: opt.Json = False) -> None:
    """List the asset packs: what they are, size, licence, and whether they are here."""
    from line_neurons.tui.cli import assets as asset_commands

    asset_commands.list_packs(_assets(), as_json=json)


@assets_app.command("install")
def assets_install(
    packs: Annotated[list[str], typer.Argument(help="Packs or groups (demo, test).")],
    source: Annotated[
        Path | None, typer.Option("--from", help="Take the archives from this folder, without a network.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Install anew even if it is there.")] = False,
    json: opt.Json = False,
) -> None:
    """Install asset packs; can be interrupted and run again."""
    from line_neurons.tui.cli import assets as asset_commands

    asset_commands.install_packs(packs, _assets(), source, force=force, as_json=json)


@assets_app.command("verify")
def assets_verify(
    packs: Annotated[list[str] | None, typer.Argument(help="Packs or groups; default: all installed.")] = None,
    json: opt.Json = False,
) -> None:
    """Hash every installed file and compare."""
    from line_neurons.tui.cli import assets as asset_commands

    if not asset_commands.verify_packs(packs, _assets(), as_json=json):
        raise typer.Exit(1)


def _store(**flags: Any) -> Path:
    from line_neurons.agent.settings import load_settings
    from line_neurons.tools.store.runs import default_store

    return load_settings(**flags).store or default_store()


def _assets() -> Path:
    from line_neurons.agent.settings import load_settings
    from line_neurons.tools.assets.location import assets_root

    return load_settings().assets or assets_root()
