"""The ``line`` command."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from line_neurons.agent.errors import LineError, UsageError
from line_neurons.tui import options as opt

app = typer.Typer(
    name="line",
    help="Name what the units of a vision model respond to, with the evidence.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
assets_app = typer.Typer(help="Weights and pictures that install from package registries.", no_args_is_help=True)
app.add_typer(assets_app, name="assets")

INTERRUPTED = 130


def main() -> None:
    """Run the command: status 0, 2 after an error of the user's, 130 after Ctrl-C."""
    debug = "--debug" in sys.argv[1:]
    try:
        status = app(standalone_mode=False)
    except LineError as error:
        if debug:
            raise
        from line_neurons.tui.terminal import complain

        complain(error)
        status = 2
    except KeyboardInterrupt:
        status = INTERRUPTED
    except Exception as error:
        show = getattr(error, "show", None)
        if show is None:
            if type(error).__name__ != "Abort":
                raise
            status = INTERRUPTED
        else:
            show()
            status = getattr(error, "exit_code", 2)
    sys.exit(status or 0)


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


@app.command()
def explain(
    model: Annotated[
        str, typer.Argument(help="The target: torchvision:NAME, timm:NAME, hf:NAME, module:function.")
    ],
    layer: Annotated[
        str, typer.Argument(help="Dotted path of a layer, or several with commas; see `line layers MODEL`.")
    ],
    unit: Annotated[list[str], typer.Argument(help="Units: 7, 10-20, or names of output classes.")],
    seed: opt.Seed = None,
    iterations: opt.Iterations = None,
    summary: opt.Summary = None,
    images: opt.Images = None,
    init: opt.Init = None,
    vocabulary: opt.Vocabulary = None,
    top: opt.Top = None,
    random: opt.RandomOthers = None,
    scorer: opt.Scorer = None,
    modifiers: opt.Modifiers = None,
    duplicates: opt.Duplicates = None,
    retries: opt.Retries = None,
    exclude: opt.Exclude = None,
    llm: opt.Llm = None,
    ollama: opt.Ollama = None,
    temperature: opt.Temperature = None,
    top_p: opt.TopP = None,
    context: opt.Context = None,
    reply_tokens: opt.ReplyTokens = None,
    timeout: opt.Timeout = None,
    think: opt.Think = None,
    hints: opt.Hints = None,
    generator: opt.Generator = None,
    steps: opt.Steps = None,
    guidance: opt.Guidance = None,
    size: opt.Size = None,
    dtype: opt.Dtype = None,
    revision: opt.Revision = None,
    lora: opt.Lora = None,
    scheduler: opt.Scheduler = None,
    offload: opt.Offload = None,
    vae_slicing: opt.VaeSlicing = None,
    vae_tiling: opt.VaeTiling = None,
    compile_: opt.Compile = None,
    draw_batch: opt.DrawBatch = None,
    threshold: opt.Threshold = None,
    control: opt.Control = None,
    control_images: opt.ControlImages = None,
    weights: opt.Weights = None,
    pool: opt.Pool = None,
    precision: opt.Precision = None,
    channels_last: opt.ChannelsLast = None,
    device: opt.Device = None,
    batch_size: opt.BatchSize = None,
    download: opt.Download = None,
    store: opt.Store = None,
    assets: opt.Assets = None,
    config: opt.Config = None,
    json: opt.Json = False,
) -> None:
    """Label units of a layer."""
    flags = _settings_of({name: value for name, value in locals().items() if name not in _NOT_SETTINGS})
    from line_neurons.agent.settings import load_settings
    from line_neurons.tui import labelling

    settings = load_settings(config, **flags)
    labelling.explain(model, layer.split(","), unit, settings, as_json=json)


_NOT_SETTINGS = {"model", "layer", "unit", "run", "config", "json"}

# Flags of the settings' table [diffusion], by the name that they have there.
_DIFFUSION = {
    "steps": "steps",
    "guidance": "guidance",
    "size": "size",
    "dtype": "dtype",
    "revision": "revision",
    "lora": "lora",
    "scheduler": "scheduler",
    "offload": "offload",
    "vae_slicing": "vae_slicing",
    "vae_tiling": "vae_tiling",
    "compile_": "compile",
    "draw_batch": "batch",
}


def _settings_of(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The flags that were given, as settings."""
    given = {name: value for name, value in flags.items() if value is not None}
    diffusion = {_DIFFUSION[name]: given.pop(name) for name in list(given) if name in _DIFFUSION}
    return given | ({"diffusion": diffusion} if diffusion else {})


@app.command()
def demo(
    llm: opt.Llm = None,
    ollama: opt.Ollama = None,
    store: opt.Store = None,
    assets: opt.Assets = None,
    seed: opt.Seed = None,
    json: opt.Json = False,
) -> None:
    """Label units of MobileNetV2 with embedded parts only: no GPU, no Ollama, no model hub."""
    from line_neurons.agent.settings import load_settings
    from line_neurons.tui import labelling

    flags: dict[str, Any] = {
        **labelling.DEMO_PARTS,
        "ollama": ollama,
        "store": store,
        "assets": assets,
        "seed": seed,
    }
    settings = load_settings(**flags | ({"llm": llm} if llm else {}))
    labelling.demo(settings, as_json=json)


@app.command()
def resume(
    run: Annotated[str | None, typer.Argument(help="A run; default: every unfinished one.")] = None,
    llm: opt.Llm = None,
    ollama: opt.Ollama = None,
    temperature: opt.Temperature = None,
    top_p: opt.TopP = None,
    context: opt.Context = None,
    reply_tokens: opt.ReplyTokens = None,
    timeout: opt.Timeout = None,
    think: opt.Think = None,
    offload: opt.Offload = None,
    vae_slicing: opt.VaeSlicing = None,
    compile_: opt.Compile = None,
    draw_batch: opt.DrawBatch = None,
    device: opt.Device = None,
    batch_size: opt.BatchSize = None,
    download: opt.Download = None,
    store: opt.Store = None,
    assets: opt.Assets = None,
    config: opt.Config = None,
    json: opt.Json = False,
) -> None:
    """Finish what is not finished, each unit from its last checkpoint; another language model may take over."""
    given = {name: value for name, value in locals().items() if name not in {*_NOT_SETTINGS, "store", "assets"}}
    changes = _settings_of(given)
    from line_neurons.agent.settings import load_settings
    from line_neurons.tui import labelling

    labelling.resume(run, load_settings(config, store=store, assets=assets), changes, as_json=json)


@app.command()
def pull(
    model: Annotated[str, typer.Argument(help="A model of Ollama's library, e.g. llama3.1:8b.")],
    ollama: opt.Ollama = None,
    json: opt.Json = False,
) -> None:
    """Let the Ollama servers fetch a model."""
    from line_neurons.agent.settings import load_settings
    from line_neurons.tui import model_commands

    model_commands.pull(model, load_settings(ollama=ollama).ollama, as_json=json)


@app.command()
def models(ollama: opt.Ollama = None, json: opt.Json = False) -> None:
    """List the models that the Ollama servers have."""
    from line_neurons.agent.settings import load_settings
    from line_neurons.tui import model_commands

    if not model_commands.models(load_settings(ollama=ollama).ollama, as_json=json):
        raise typer.Exit(1)


@app.command()
def runs(store: opt.Store = None, json: opt.Json = False) -> None:
    """List the runs of a store, newest first."""
    from line_neurons.tui import showing

    showing.runs(_store(store), as_json=json)


@app.command()
def show(
    run: Annotated[str, typer.Argument(help="A run, or the beginning of its name.")],
    unit: Annotated[str | None, typer.Argument(help="A unit of it: its number or class name.")] = None,
    step: Annotated[
        str | None, typer.Option(help="Only the pictures of this step: 0 to N, or S for the summary.")
    ] = None,
    sheet: Annotated[Path | None, typer.Option(help="Where to write the contact sheet (PNG).")] = None,
    store: opt.Store = None,
    json: opt.Json = False,
) -> None:
    """Show a run's labels or, for one unit, its scoreboard, history, reasoning and pictures."""
    from line_neurons.tui import showing

    if unit is None:
        if step or sheet:
            raise UsageError("--step and --sheet need a unit", "line show RUN UNIT --step 3")
        showing.run(_store(store), run, as_json=json)
    else:
        showing.unit(_store(store), run, unit, step, sheet, as_json=json)


@app.command()
def layers(
    model: Annotated[
        str, typer.Argument(help="The target: torchvision:NAME, timm:NAME, hf:NAME, module:function.")
    ],
    weights: opt.Weights = None,
    download: opt.Download = None,
    assets: opt.Assets = None,
    config: opt.Config = None,
    json: opt.Json = False,
) -> None:
    """List the layers of a model: dotted path, kind, output shape and number of units."""
    from line_neurons.agent.settings import load_settings
    from line_neurons.tui import showing

    settings = load_settings(config, weights=weights, download=download, assets=assets)
    showing.layers(model, settings, as_json=json)


@app.command()
def doctor(
    deep: Annotated[bool, typer.Option("--deep", help="Also ask the embedded language model.")] = False,
    ollama: opt.Ollama = None,
    store: opt.Store = None,
    json: opt.Json = False,
) -> None:
    """Say of each part whether it is present, which version, whether it works, and what to do if not."""
    from line_neurons.agent.settings import load_settings
    from line_neurons.tui import showing

    servers = load_settings(ollama=ollama).ollama
    if not showing.doctor(_store(store), _assets(), ollama=servers, deep=deep, as_json=json):
        raise typer.Exit(1)


@assets_app.command("list")
def assets_list(json: opt.Json = False) -> None:
    """List the asset packs: what they are, size, licence, and whether they are here."""
    from line_neurons.tui import asset_commands

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
    from line_neurons.tui import asset_commands

    asset_commands.install_packs(packs, _assets(), source, force=force, as_json=json)


@assets_app.command("verify")
def assets_verify(
    packs: Annotated[list[str] | None, typer.Argument(help="Packs or groups; default: all installed.")] = None,
    json: opt.Json = False,
) -> None:
    """Hash every installed file and compare."""
    from line_neurons.tui import asset_commands

    if not asset_commands.verify_packs(packs, _assets(), as_json=json):
        raise typer.Exit(1)


def _store(store: Path | None) -> Path:
    from line_neurons.agent.settings import load_settings
    from line_neurons.tools.run_store import default_store

    return load_settings(store=store).store or default_store()


def _assets() -> Path:
    from line_neurons.agent.settings import load_settings
    from line_neurons.tools.assets.location import assets_root

    return load_settings().assets or assets_root()
