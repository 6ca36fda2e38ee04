"""The flags that commands share; a flag that is not given leaves line.toml and the environment in force."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_METHOD, _PARTS, _FILES = "Method", "Parts", "Files and output"

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

Llm = Annotated[
    str | None,
    typer.Option("--llm", help="embedded, embedded:PACK or random.", rich_help_panel=_PARTS),
]
Temperature = Annotated[float | None, typer.Option(help="Sampling temperature.", rich_help_panel=_PARTS)]
Hints = Annotated[
    int | None,
    typer.Option(help="Drawable things named in the prompt; 0: none.", rich_help_panel=_PARTS),
]
Generator = Annotated[str | None, typer.Option(help="bank or bank:FOLDER.", rich_help_panel=_PARTS)]
Threshold = Annotated[
    float | None, typer.Option(help="Least similarity of a drawable concept.", rich_help_panel=_PARTS)
]
Control = Annotated[
    str | None,
    typer.Option(help="Control set: bank, or a folder of class folders.", rich_help_panel=_PARTS),
]
Weights = Annotated[Path | None, typer.Option(help="A checkpoint of your own.", rich_help_panel=_PARTS)]
Pooling = Annotated[str | None, typer.Option(help="Pooling of maps: mean or max.", rich_help_panel=_PARTS)]
Tokens = Annotated[str | None, typer.Option(help="Pooling of tokens: cls or mean.", rich_help_panel=_PARTS)]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda ...", rich_help_panel=_PARTS)]
BatchSize = Annotated[int | None, typer.Option(help="Pictures in a forward pass.", rich_help_panel=_PARTS)]
Download = Annotated[
    bool | None,
    typer.Option("--download", help="Let torchvision fetch official weights.", rich_help_panel=_PARTS),
]
