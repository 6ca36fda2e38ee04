"""Options that several commands of ``line eval`` have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from line_neurons.tui.cli.shell import completion

Units = Annotated[
    list[str] | None,
    typer.Option(help="Only these labelled units: 7, 10-20, random:50, cosy, @FILE; repeatable."),
]
Model = Annotated[str | None, typer.Option(help="Target, if the name of a file does not tell it.")]
Layer = Annotated[str | None, typer.Option(help="Layer, if a file names none or several.")]
Seed = Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Seed of all random choices.")]
Folder = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FOLDER", help="Write CSV, Markdown, PNG and SVG here."),
]
Runs = Annotated[
    list[str],
    typer.Argument(metavar="RUN", help="Names of runs, or their beginnings.", autocompletion=completion.RUNS),
]
Pictures = Annotated[int | None, typer.Option("--pictures", min=1, max=200, hidden=True)]
"""The earlier name of the number of images."""
