"""Table of the commands, each with the module that is imported when it is called."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

Table = Mapping[str, Mapping[str, tuple[str, str]]]
"""By panel and name of a command: its module, and the first sentence of its help."""

COMMANDS: Table = {
    "Label": {
        "explain": ("run", "Label units of a layer."),
        "batch": ("run", "Label many units of a layer; images and activations are shared between units."),
        "demo": ("run", "Label units of MobileNetV2 with embedded components: no GPU, no Ollama, no model hub."),
    },
    "Runs": {
        "resume": ("run", "Resume unfinished runs, each unit from its last checkpoint."),
        "retry": ("run", "Retry the failed units of a run, and finish the others."),
        "stop": ("steer", "Stop a running job after its current step."),
        "steer": ("steer", "Pin, ban or suggest concepts."),
        "fork": ("run", "Branch a run from a step, with another seed, language model or concept."),
        "revisit": ("run", "Relabel the units of finished runs with the best concept found by any of them."),
        "facets": (
            "eval.facets",
            "Find what else units respond to: groups of their strongest images, each with its own label.",
        ),
        "rm": ("runs.remove", "Delete runs: their units, histories, checkpoints and evaluations."),
    },
    "Look": {
        "runs": ("show", "List the runs of a store, newest first."),
        "show": ("show", "Show a run's labels or, for one unit, its scoreboard, history, reasoning and images."),
        "results": ("export", "Print or write one row per unit: label, score, evidence."),
        "tui": ("show", "Watch, steer and resume runs in a terminal app."),
        "units": (
            "runs.units",
            "List the units of a layer: how often and how strongly they respond on the control set.",
        ),
        "layers": ("show", "List the layers of a model: dotted path, kind, output shape and number of units."),
    },
    "Share": {
        "report": ("export", "Write an HTML report of runs: labels, images, searches, settings and cost."),
        "export": ("export", "Write a run to a file or folder: tables, a data set, a bundle for another machine."),
        "import": ("export", "Import another machine's run, or another method's labels for the evaluation."),
    },
    "Evaluate": {
        "replay": ("replay", "Repeat a recorded run without its cache, and report what differs."),
        "audit": (
            "eval.audit_command",
            "Audit classes of a classifier: which features they lean on, and whether these are the thing itself.",
        ),
    },
    "Set up": {
        "doctor": ("doctor", "Check the installation, or a store."),
        "config": ("config", "Show every setting in force, and where it comes from."),
        "init": ("config", "Write a commented line.toml with all settings, their defaults and choices."),
        "models": ("models", "List the models of the Ollama and OpenAI-compatible servers."),
        "pull": ("models", "Download a model to the Ollama servers."),
        "gc": (
            "doctor",
            "Free disk space: images that no run refers to, old checkpoints, unused database pages.",
        ),
    },
}

ASSETS: Table = {
    "": {
        "list": ("assets", "List the asset packs: contents, size, licence and state."),
        "install": ("assets", "Install asset packs; an interrupted installation continues where it stopped."),
        "verify": ("assets", "Check the hashes of installed files."),
        "cutouts": (
            "assets",
            "Cut out the subjects of the bundled bank's photographs, for bank+cutouts.",
        ),
    },
}

DIRECTION: Table = {
    "": {
        "fit": (
            "runs.direction",
            "Fit directions from images with and without a thing, and test them against random splits.",
        ),
    },
}

EVAL: Table = {
    "Labels": {
        "cosy": ("eval.commands", "Evaluate labels with CoSy: do units respond more to images of their labels?"),
        "captions": (
            "eval.commands",
            "Write captions.csv for photographs named by WordNet ids, like ImageNet's.",
        ),
        "export": ("eval.commands", "Write labels in the format of CoSy's own code."),
        "baseline": ("eval.commands", "Label units with another method: same units, images and words."),
        "edits": ("eval.edit_commands", "Take labels' things out of images: does the unit's activation fall?"),
        "visual": (
            "eval.visual_command",
            "Compare a label's images with the strongest images and with activation maximisation.",
        ),
        "maia": (
            "eval.maia",
            "Evaluate labels as MAIA does: images of prompts that should excite a unit, and of others.",
        ),
        "quality": ("eval.tables", "Compare labels with the classes that output units stand for."),
        "facets": (
            "eval.tables",
            "Compare several labels of a unit: their cosine, and the best AUC and MAD, as PRISM does.",
        ),
        "planted": ("eval.tables", "Compare labels with the truth of planted units."),
    },
    "Tables and figures": {
        "table1": ("eval.tables", "Compare methods by CoSy's scores, per model and layer (the paper's Table 1)."),
        "winners": ("eval.tables", "Count predefined against generated labels (Table 2)."),
        "trace": ("eval.tables", "Show a unit's search: boards, steps, reasoning, label (Tables 3, 6 and 7)."),
        "steps": ("eval.tables", "Show when labels appear, and the gain over a random proposer (Figure 5)."),
        "proposals": ("eval.tables", "Show how many proposals were usable, new, and better than the first board."),
        "compare": ("eval.tables", "Compare runs over the same units pair by pair (Figure 6, ablations)."),
    },
    "All at once": {
        "suite": (
            "eval.commands",
            "Evaluate a layer: searches, baselines, CoSy and tables; continues where it stopped.",
        ),
    },
}


class ImportedCommand(TyperCommand):
    """Command of a group's help that imports the real one to parse arguments."""

    def __init__(self, *, module: str, **attributes: Any) -> None:
        super().__init__(**attributes)
        self._module = module

    def imported(self) -> Any:
        """Import the module, and return the real command."""
        return _commands_of(self._module)[str(self.name)]

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Parse the arguments as the real command does."""
        return self.imported().make_context(info_name, args, parent, **extra)


@cache
def _commands_of(module: str) -> Mapping[str, Any]:
    """Import a module, and build its commands once: `line eval suite` runs dozens of commands."""
    commands: Mapping[str, Any] = get_group(import_module(f"line_neurons.tui.cli.{module}").app).commands
    return commands


class OrderedGroup(TyperGroup):
    """Group that lists its commands in the order of their panels."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands."""
        panels = list(COMMANDS)
        return sorted(self.commands, key=lambda name: panels.index(str(self.commands[name].rich_help_panel)))  # type: ignore[attr-defined]


def register(app: typer.Typer, table: Table) -> None:
    """Add the commands of a table to a group, in panels of the help."""
    for panel, commands in table.items():
        for name, (module, summary) in commands.items():
            command: Any = partial(ImportedCommand, module=module)
            app.command(name, cls=command, help=summary, rich_help_panel=panel or None)(_imported)


def _imported() -> None:
    """Nothing: the real command is in its module."""
