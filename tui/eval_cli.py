"""The commands of ``line eval``."""

from __future__ import annotations

import typer

eval_app = typer.Typer(help="Is the label right? Protocols, baselines, statistics, tables.", no_args_is_help=True)
