"""The command ``line audit``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from line_neurons.agent.settings import load_settings
from line_neurons.tui.cli import options as opt
from line_neurons.tui.cli.eval import options as shared

app = typer.Typer()

# --top is here the number of features.
_SETTINGS = tuple(name for name in (*opt.BATCH, *opt.RUN) if name != "top")


@opt.command(
    app,
    "audit",
    _SETTINGS,
    defaults=opt.BATCH_DEFAULTS,
    examples=(
        "line audit torchvision:resnet50 'bathing cap' jeep --control ~/imagenet/val",
        "line audit torchvision:mobilenet_v2 ox 345-350 --generator bank --llm embedded --control bank -o audit",
        "line audit resnet50-avgpool-1 --answers discover_spurious_features.csv --other dexter=words.csv",
    ),
)
def audit(
    source: Annotated[
        str,
        typer.Argument(
            metavar="MODEL|RUN",
            help="A classifier, the features of which are labelled first; or a run over its features layer.",
        ),
    ],
    classes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CLASS",
            help="Classes by name or number: 7, 10-20, all; of a run by default those with all features in it.",
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, max=100, help="Features of each class.")] = 5,
    answers: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="People's answers, such as Salient ImageNet's; gives the agreement."),
    ] = None,
    other: Annotated[
        list[str] | None,
        typer.Option(metavar="METHOD=FILE", help="Another method's words: class, feature, label; repeatable."),
    ] = None,
    editor: Annotated[
        str | None,
        typer.Option(help="As for line eval edits, or none; default: composed for an image bank, else cut."),
    ] = None,
    how: Annotated[
        str | None, typer.Option(metavar="KINDS", help="remove, insert; default: both, where the editor can.")
    ] = None,
    edited_images: Annotated[
        int, typer.Option(min=1, max=200, help="Edited images of each feature and class.")
    ] = 12,
    pictures: shared.Pictures = None,
    verify: Annotated[str | None, typer.Option(help="As for line eval edits: is the concept gone?")] = None,
    *,
    output: shared.Folder = None,
    config: opt.Config = None,
    trust: opt.Trust = False,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Audit classes of a classifier: which features they lean on, and whether these are the thing itself."""
    from line_neurons.tui.cli.eval import audit as work

    options = work.AuditOptions(
        tuple(classes or ()), top, answers, tuple(other or ()), editor, how, pictures or edited_images, verify
    )
    work.audit(source, load_settings(config, **flags), flags, options, output=output, as_json=json, trust=trust)
