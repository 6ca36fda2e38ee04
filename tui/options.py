"""The flags that commands share; a flag that is not given leaves line.toml and the environment in force."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_METHOD, _LLM, _PICTURES, _TARGET, _FILES = (
    "Method",
    "Language model",
    "Pictures",
    "Target and control set",
    "Files and output",
)

Store = Annotated[
    Path | None, typer.Option(help="Folder of runs, pictures and checkpoints.", rich_help_panel=_FILES)
]
Assets = Annotated[Path | None, typer.Option(help="Folder of installed asset packs.", rich_help_panel=_FILES)]
Config = Annotated[
    Path | None,
    typer.Option(help="Settings file; default: line.toml in this folder.", rich_help_panel=_FILES),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.", rich_help_panel=_FILES)]

Seed = Annotated[int | None, typer.Option(help="Run seed.", rich_help_panel=_METHOD)]
Iterations = Annotated[
    int | None, typer.Option("--iterations", "-N", help="Refinement iterations.", rich_help_panel=_METHOD)
]
Summary = Annotated[
    bool | None, typer.Option("--summary/--no-summary", help="Summary step.", rich_help_panel=_METHOD)
]
Images = Annotated[
    int | None, typer.Option("--images", "-n", help="Pictures per concept.", rich_help_panel=_METHOD)
]
Top = Annotated[int | None, typer.Option(help="Best classes on the first board.", rich_help_panel=_METHOD)]
RandomOthers = Annotated[
    int | None, typer.Option("--random", help="Random others on the first board.", rich_help_panel=_METHOD)
]
Scorer = Annotated[str | None, typer.Option(help="mean, auc or mad.", rich_help_panel=_METHOD)]
Modifiers = Annotated[
    str | None,
    typer.Option(help="Draw angle and light per-image or per-concept.", rich_help_panel=_METHOD),
]
Duplicates = Annotated[
    str | None,
    typer.Option(help="refuse a repeated concept, or accept it.", rich_help_panel=_METHOD),
]
Retries = Annotated[int | None, typer.Option(help="How often to ask again in a step.", rich_help_panel=_METHOD)]
Exclude = Annotated[
    list[str] | None,
    typer.Option(help="Keep a concept out of the initial vocabulary; repeatable.", rich_help_panel=_METHOD),
]

Init = Annotated[
    str | None,
    typer.Option(help="First board from: control, vocabulary, bank or model.", rich_help_panel=_METHOD),
]
Vocabulary = Annotated[
    Path | None,
    typer.Option(
        help="Word list for --init vocabulary; default: ImageNet's class names.", rich_help_panel=_METHOD
    ),
]

Llm = Annotated[
    str | None,
    typer.Option(
        "--llm",
        help="ollama:NAME, langchain:package.module.Class, embedded, embedded:PACK or random.",
        rich_help_panel=_LLM,
    ),
]
Ollama = Annotated[
    str | None,
    typer.Option(help="Ollama servers, with commas between; default: OLLAMA_HOST.", rich_help_panel=_LLM),
]
Temperature = Annotated[float | None, typer.Option(help="Sampling temperature.", rich_help_panel=_LLM)]
TopP = Annotated[float | None, typer.Option(help="Nucleus sampling.", rich_help_panel=_LLM)]
Context = Annotated[int | None, typer.Option(help="Context length in tokens.", rich_help_panel=_LLM)]
ReplyTokens = Annotated[int | None, typer.Option(help="Longest answer in tokens.", rich_help_panel=_LLM)]
Timeout = Annotated[float | None, typer.Option(help="Seconds to wait for an answer.", rich_help_panel=_LLM)]
Think = Annotated[str | None, typer.Option(help="Let the model think: auto, on or off.", rich_help_panel=_LLM)]
Hints = Annotated[
    int | None,
    typer.Option(help="Drawable things of an image bank named in the prompt; 0: none.", rich_help_panel=_LLM),
]

Generator = Annotated[
    str | None,
    typer.Option(
        help="sdxl or another preset, a folder or hub id, bank or bank:FOLDER.", rich_help_panel=_PICTURES
    ),
]
Steps = Annotated[int | None, typer.Option(help="Denoising steps.", rich_help_panel=_PICTURES)]
Guidance = Annotated[float | None, typer.Option(help="Guidance scale.", rich_help_panel=_PICTURES)]
Size = Annotated[int | None, typer.Option(help="Width and height in pixels.", rich_help_panel=_PICTURES)]
Dtype = Annotated[
    str | None, typer.Option(help="float16, bfloat16 or float32 weights.", rich_help_panel=_PICTURES)
]
Revision = Annotated[str | None, typer.Option(help="Revision of the hub repository.", rich_help_panel=_PICTURES)]
Lora = Annotated[
    list[str] | None,
    typer.Option(help="LoRA file or hub id, PATH or PATH=WEIGHT; repeatable.", rich_help_panel=_PICTURES),
]
Scheduler = Annotated[
    str | None, typer.Option(help="Name of a diffusers scheduler class.", rich_help_panel=_PICTURES)
]
Offload = Annotated[
    str | None,
    typer.Option(help="Keep weights in CPU memory: none, model, sequential.", rich_help_panel=_PICTURES),
]
VaeSlicing = Annotated[
    bool | None,
    typer.Option("--vae-slicing/--no-vae-slicing", help="Decode picture by picture.", rich_help_panel=_PICTURES),
]
VaeTiling = Annotated[
    bool | None, typer.Option("--vae-tiling", help="Decode in tiles.", rich_help_panel=_PICTURES)
]
Compile = Annotated[
    bool | None, typer.Option("--compile", help="torch.compile the denoiser.", rich_help_panel=_PICTURES)
]
DrawBatch = Annotated[int | None, typer.Option(help="Pictures drawn in one batch.", rich_help_panel=_PICTURES)]
Threshold = Annotated[
    float | None, typer.Option(help="Least similarity of a bank's drawable concept.", rich_help_panel=_PICTURES)
]

Control = Annotated[
    str | None,
    typer.Option(help="Control set: FOLDER, hf:DATASET, FILE.npz, bank or none.", rich_help_panel=_TARGET),
]
ControlImages = Annotated[
    int | None, typer.Option(help="Control pictures of each class, or in all.", rich_help_panel=_TARGET)
]
Weights = Annotated[Path | None, typer.Option(help="A checkpoint of your own.", rich_help_panel=_TARGET)]
Pool = Annotated[
    str | None,
    typer.Option(help="Pooling: auto, mean or max of maps, cls or mean-tokens.", rich_help_panel=_TARGET),
]
Precision = Annotated[
    str | None, typer.Option(help="float32, float16 or bfloat16 forward passes.", rich_help_panel=_TARGET)
]
ChannelsLast = Annotated[
    bool | None, typer.Option("--channels-last", help="Memory layout of maps.", rich_help_panel=_TARGET)
]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda ...", rich_help_panel=_TARGET)]
BatchSize = Annotated[int | None, typer.Option(help="Pictures in a forward pass.", rich_help_panel=_TARGET)]
Download = Annotated[
    bool | None,
    typer.Option("--download", help="Fetch weights and data that are not here.", rich_help_panel=_TARGET),
]
