"""Commands that label units: ``explain``, ``batch``, ``demo``, ``resume``, ``retry``, ``revisit``, ``fork``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from line_neurons.agent.presets import SEARCH_SHARE, SERVERS
from line_neurons.agent.settings import Settings, load_settings
from line_neurons.tools.component_names import check_names
from line_neurons.tools.targets.latents.names import layer_of
from line_neurons.tui.cli import invocation
from line_neurons.tui.cli import options as opt
from line_neurons.tui.cli.runs.announce import announce, announce_demo, loading_new
from line_neurons.tui.cli.shell import completion

app = typer.Typer()

DEMO_COMPONENTS = {"llm": "embedded", "generator": "bank", "control": "bank", "init": "control"}
# A search that begins with every caption has nothing left to find.
_DEMO_SETTINGS = {**DEMO_COMPONENTS, "vocabulary_share": SEARCH_SHARE}
_RECORDED = "as recorded"


@opt.command(
    app,
    "explain",
    opt.RUN,
    examples=(
        "line explain torchvision:resnet50 layer4 7 10-12",
        "line explain torchvision:mobilenet_v2 classifier.1 castle --llm embedded --generator bank",
        "line explain model.py:build encoder.7 random:5 --control hf:imagenet-1k@validation --preset paper",
    ),
)
def explain(
    model: opt.Model,
    layer: opt.Layers,
    unit: Annotated[list[str], typer.Argument(help=f"Units: {opt.UNITS}.")],
    preset: opt.Preset = None,
    *,
    config: opt.Config = None,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Label units of a layer."""
    _label(model, layer, unit, load_settings(config, preset=preset, **flags), as_json=json)


@opt.command(
    app,
    "batch",
    (*opt.BATCH, *opt.RUN),
    defaults=opt.BATCH_DEFAULTS,
    examples=(
        "line batch torchvision:mobilenet_v2 features.18 --units all --llm embedded --generator bank",
        "line batch timm:vit_base_patch16_224 blocks.11 --units random:50 --max-concurrent-units 32",
        "line batch torchvision:resnet50 layer3,layer4 --units 0-99 --store runs",
    ),
)
def batch(
    model: opt.Model,
    layer: opt.Layers,
    units: Annotated[list[str], typer.Option(help=f"{opt.UNITS}; repeatable.", rich_help_panel="Batch")],
    preset: opt.Preset = None,
    *,
    config: opt.Config = None,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Label many units of a layer; images and activations are shared between units."""
    flags |= invocation.current().settings
    _label(model, layer, units, load_settings(config, preset=preset, **flags), as_json=json, in_batch=True)


def _label(
    model: str, layer: str, units: list[str], settings: Settings, *, as_json: bool, in_batch: bool = False
) -> None:
    """Label units of the layers that ``layer`` names, each once; those of an autoencoder have its name."""
    layers = list(dict.fromkeys(layer_of(settings, name.strip()) for name in layer.split(",")))
    check_names(settings, model)
    announced = announce(model, layers, settings)
    with loading_new(model, layers, announced, settings) as record:
        from line_neurons.tui.cli import jobs

        used = jobs.batch_settings(settings) if in_batch else settings
        jobs.explain(model, layers, units, used, announced, record, as_json=as_json)


@opt.command(
    app,
    "demo",
    ("llm", *SERVERS, "seed", *opt.FILES),
    defaults=DEMO_COMPONENTS,
    examples=("line demo", "line demo --llm ollama:llama3.1:8b --store demo"),
)
def demo(*, json: opt.Json = False, **flags: Any) -> None:
    """Label units of MobileNetV2 with embedded components: no GPU, no Ollama, no model hub."""
    settings = load_settings(**{**_DEMO_SETTINGS, **flags})
    check_names(settings)
    with announce_demo(settings) as record:
        from line_neurons.tui.cli.demo import demo as label

        label(settings, record, as_json=json)


@opt.command(
    app,
    "resume",
    (*opt.CHANGES, *opt.FILES),
    moved=True,
    defaults=_RECORDED,
    examples=("line resume", "line resume resnet50-layer4-1 --llm ollama:qwen3:8b --max-concurrent-units 4"),
)
def resume(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN",
            help="Name of a run; default: all unfinished runs.",
            autocompletion=completion.RUNS,
        ),
    ] = None,
    *,
    config: opt.Config = None,
    trust: opt.Trust = False,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Resume unfinished runs, each unit from its last checkpoint.

    Another language model may take over. Failed units are left to `line retry`.
    """
    from line_neurons.tui.cli import jobs

    jobs.resume(run, *opt.reopening(config, flags), as_json=json, trust=trust)


@opt.command(
    app,
    "retry",
    (*opt.CHANGES, *opt.FILES),
    moved=True,
    defaults=_RECORDED,
    examples=("line retry resnet50-layer4-1", "line retry resnet50-layer4-1 --batch-size 8"),
)
def retry(
    run: opt.RunName,
    *,
    config: opt.Config = None,
    trust: opt.Trust = False,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Retry the failed units of a run, and finish the others.

    Each unit continues from its last checkpoint.
    """
    from line_neurons.tui.cli import jobs

    jobs.retry(run, *opt.reopening(config, flags), as_json=json, trust=trust)


@opt.command(
    app,
    "revisit",
    (*opt.MACHINE, *opt.FILES),
    moved=True,
    defaults=_RECORDED,
    examples=(
        "line revisit resnet50-layer4-1",
        "line revisit resnet50-layer4-1 resnet50-layer4-2 --device cuda:1",
    ),
)
def revisit(
    runs: Annotated[
        list[str], typer.Argument(help="Runs of one layer of one model.", autocompletion=completion.RUNS)
    ],
    *,
    config: opt.Config = None,
    trust: opt.Trust = False,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Relabel the units of finished runs with the best concept found by any of them."""
    from line_neurons.tui.cli import jobs

    jobs.revisit(runs, *opt.reopening(config, flags), as_json=json, trust=trust)


@opt.command(
    app,
    "fork",
    ("seed", "iterations", "summary", "patience", "max_iterations", *opt.CHANGES, *opt.FILES),
    defaults=_RECORDED,
    examples=(
        "line fork resnet50-layer4-1 7 --step 3 --seed 1",
        "line fork resnet50-layer4-1 castle --step 0 --concept 'stone wall' --iterations 5",
    ),
)
def fork(
    run: opt.RunName,
    unit: opt.UnitName,
    step: Annotated[int, typer.Option(min=0, help="Last step to keep; 0: the initial scoreboard.")],
    *,
    concept: Annotated[str, typer.Option(help="Your own concept to score next.")] = "",
    work: Annotated[bool, typer.Option("--work/--no-work", help="Start the new run now.")] = True,
    config: opt.Config = None,
    trust: opt.Trust = False,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Branch a run from a step, with another seed, language model or concept."""
    from line_neurons.tui.cli import jobs

    settings, changes = opt.reopening(config, flags)
    jobs.fork(run, unit, step, concept, settings, changes, working=work, as_json=json, trust=trust)
