"""The options that commands share, declared once.

One that is not given leaves line.toml and the environment in force. An option is called like the setting that it
sets; ``diffusion__steps`` is ``steps`` in the table ``[diffusion]``.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any

import typer

from line_neurons.eval.exchange.output_files import output_path

Options = dict[str, Any]
"""Annotations of options by setting."""

_FILES = "Files and output"


def _panel(panel: str, rows: Mapping[str, tuple[Any, str, *tuple[str, ...]]]) -> Options:
    """Options with their type, help text and, where these do not follow from the setting, names."""
    return {
        setting: Annotated[kind | None, typer.Option(*names, help=text, rich_help_panel=panel)]
        for setting, (kind, text, *names) in rows.items()
    }


Config = Annotated[
    Path | None, typer.Option(help="Settings file; default: line.toml in this folder.", rich_help_panel=_FILES)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.", rich_help_panel=_FILES)]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Run the code of one's own that the record names, though you did not begin the run.",
        rich_help_panel=_FILES,
    ),
]

UnitsFrom = Annotated[
    int | None,
    typer.Option(min=0, max=1, help="What a file of labels counts units from, 0 or 1; default: 0."),
]


def output(metavar: str, text: str) -> Any:
    """The option ``-o`` of a command, which knows a folder by the slash at its end."""
    return typer.Option("--output", "-o", parser=output_path, metavar=metavar, help=text)


FILES = _panel(
    _FILES,
    {
        "store": (Path, "Folder of runs, images and checkpoints."),
        "assets": (Path, "Folder of installed asset packs."),
    },
)

BATCH = _panel(
    "Batch",
    {
        "max_concurrent_units": (int, "Units worked on at the same time."),
        "llm_parallel": (int, "Questions to the language model at the same time."),
        "batch_timeout": (float, "Seconds that images wait for others to fill a batch."),
        "max_consecutive_failures": (int, "Stop when so many units in a row have failed."),
        "revisit": (bool, "At the end, try every unit on every concept that any found.", "--revisit/--no-revisit"),
    },
)

METHOD = _panel(
    "Method",
    {
        "preset": (str, "paper: the method of the paper, whatever line.toml and the environment say."),
        "seed": (int, "Run seed."),
        "iterations": (int, "Refinement iterations.", "--iterations", "-N"),
        "summary": (bool, "Summary step.", "--summary/--no-summary"),
        "images": (int, "Images per concept.", "--images", "-n"),
        "patience": (int, "End a search after so many iterations without a better concept; 0: never."),
        "max_iterations": (int, "With patience: go on up to so many iterations while a unit still improves."),
        "restarts": (int, "Search so often again from a new board, for something else."),
        "init": (str, "First board from: control, vocabulary, bank or model."),
        "vocabulary": (Path, "Word list for --init vocabulary; default: ImageNet's class names."),
        "top": (int, "Best classes on the first board."),
        "random": (int, "Random others on the first board."),
        "random_pool": (int, "Draw the random others from so many classes that all units share; 0: from all."),
        "scorer": (str, "mean, auc or mad."),
        "modifiers": (str, "Draw angle and light per-image or per-concept."),
        "duplicates": (str, "refuse a repeated concept, accept it, or overwrite its score."),
        "forbidden": (str, "What questions forbid: off-board or proposed."),
        "retries": (int, "How often to ask again in a step."),
        "label_dead": (
            bool,
            "Label units that nothing could be the label of, too.",
            "--label-dead/--no-label-dead",
        ),
        "exclude": (list[str], "Keep a concept out of the initial vocabulary; repeatable."),
    },
)

LANGUAGE_MODEL = _panel(
    "Language model",
    {
        "llm": (str, "ollama:NAME, langchain:package.module.Class, embedded, embedded:PACK or random."),
        "ollama": (str, "Ollama servers, with commas between; default: OLLAMA_HOST."),
        "temperature": (float, "Sampling temperature."),
        "top_p": (float, "Nucleus sampling."),
        "top_k": (int, "Ollama: sample from so many of the likeliest tokens; 0: from all."),
        "min_p": (float, "Ollama: least share of the likeliest token's probability."),
        "typical_p": (float, "Ollama: locally typical sampling; 1: off."),
        "repeat_penalty": (float, "Ollama: penalty of repeated tokens; 1: none."),
        "repeat_last_n": (int, "Ollama: tokens in which repetitions are looked for; -1: the whole context."),
        "presence_penalty": (float, "Ollama: penalty of tokens that are there already."),
        "frequency_penalty": (float, "Ollama: penalty of tokens by how often they are there."),
        "context": (int, "Context length in tokens."),
        "reply_tokens": (int, "Longest answer in tokens."),
        "timeout": (float, "Seconds to wait for an answer."),
        "think": (str, "Let the model think: auto, on or off."),
    },
)
HINTS = _panel(
    "Language model", {"hints": (int, "Drawable things of an image bank named in the prompt; 0: none.")}
)

IMAGES = _panel(
    "Images",
    {
        "generator": (str, "sdxl or another preset, a folder or hub id, bank or bank:FOLDER."),
        "diffusion__steps": (int, "Denoising steps.", "--steps"),
        "diffusion__guidance": (float, "Guidance scale.", "--guidance"),
        "diffusion__size": (int, "Width and height in pixels.", "--size"),
        "diffusion__dtype": (str, "float16, bfloat16 or float32 weights.", "--dtype"),
        "diffusion__revision": (str, "Revision of the hub repository.", "--revision"),
        "diffusion__lora": (list[str], "LoRA file or hub id, PATH or PATH=WEIGHT; repeatable.", "--lora"),
        "diffusion__scheduler": (str, "Name of a diffusers scheduler class.", "--scheduler"),
        "diffusion__vae_tiling": (bool, "Decode in tiles.", "--vae-tiling"),
        "threshold": (float, "Least similarity of a bank's drawable concept."),
    },
)
DRAWING = _panel(
    "Images",
    {
        "diffusion__offload": (str, "Keep weights in CPU memory: none, model, sequential.", "--offload"),
        "diffusion__vae_slicing": (bool, "Decode image by image.", "--vae-slicing/--no-vae-slicing"),
        "diffusion__compile": (bool, "torch.compile the denoiser.", "--compile"),
        "diffusion__batch": (int, "Images drawn in one batch.", "--draw-batch"),
    },
)

TARGET = _panel(
    "Target and control set",
    {
        "control": (str, "Control set: FOLDER, hf:DATASET, FILE.npz, bank or none."),
        "control_images": (int, "Control images of each class, or in all."),
        "class_names": (Path, "File of names for the class folders of the control set."),
        "image_range": (str, "Values of 16-bit or float images that are black and white: LOW,HIGH."),
        "weights": (Path, "A checkpoint of your own, FILE or FILE#NETWORK."),
        "pool": (str, "Pooling: auto, mean or max of maps, cls or mean-tokens."),
        "layout": (
            list[str],
            "Layout, if not known: [LAYER=]channels-first, channels-last or tokens.",
        ),
        "precision": (str, "float32, float16 or bfloat16 forward passes."),
        "channels_last": (bool, "Memory layout of maps.", "--channels-last"),
    },
)
MACHINE = _panel(
    "Target and control set",
    {
        "device": (str, "auto, cpu, cuda ..."),
        "batch_size": (int, "Images in a forward pass."),
        "download": (bool, "Fetch weights and data that are not here.", "--download"),
    },
)

RUN = METHOD | LANGUAGE_MODEL | HINTS | IMAGES | DRAWING | TARGET | MACHINE | FILES
"""What a new run is told."""
CHANGES = BATCH | LANGUAGE_MODEL | DRAWING | MACHINE
"""What may be other when a run goes on."""

PLACES = _panel(
    "Where the run's parts are now, if they were moved",
    {
        "generator": (str, "bank:FOLDER or a folder, with the same content."),
        "control": (str, "Control set, with the same content."),
        "weights": (Path, "The checkpoint, with the same content."),
        "class_names": (Path, "File of names for the class folders, with the same content."),
    },
)
"""What may be elsewhere when a run goes on; a part that is another one is refused."""


def only(*settings: str) -> Options:
    """Some of the options."""
    return {setting: (RUN | CHANGES)[setting] for setting in settings}


def takes(options: Options) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command options; those that were given on the command line arrive in its ``**flags``, by setting.

    In the help the options stand where ``**flags`` does not: before the command's keyword-only parameters.
    """

    def give(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True).parameters.values()
        shared = [
            Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=options[name]) for name in options
        ]
        parameters = sorted(
            [*(one for one in own if one.kind is not Parameter.VAR_KEYWORD), *shared],
            key=lambda one: one.kind + (one.kind is Parameter.KEYWORD_ONLY and one.name not in options),
        )

        @functools.wraps(command)
        def run(**values: Any) -> None:
            flags = _settings((name, values.pop(name)) for name in options)
            command(**values, **flags)

        run.__annotations__ = {one.name: one.annotation for one in parameters}
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return run

    return give


def _settings(values: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """The options that were given, as settings."""
    settings: dict[str, Any] = {}
    for name, value in values:
        if value is not None:
            *table, setting = name.split("__")
            (settings.setdefault(table[0], {}) if table else settings)[setting] = value
    return settings
