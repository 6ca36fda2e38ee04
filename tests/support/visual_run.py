"""A finished run over units of a small network, with a bank of coloured things and a second network."""

from __future__ import annotations

from line_neurons.eval.edits.subjects import RankedImages
from line_neurons.eval.visual.runner import VisualTask
from line_neurons.eval.visual.second import SecondNetwork
from line_neurons.eval.visual.sets import ImageSets
from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.tools.image_bank.control import BankControl
from line_neurons.tools.image_bank.generator import BankSettings, ImageBankGenerator
from support.edit_parts import COLOURS, SIZE, WordEncoder, edit_bank
from support.fakes import ScriptedModel, scripted_components
from support.networks import Colours, Random, target_of

LAYER = "flat"
CLASSES = ("red", "green", "dark")


def visual_run(root):
    """Search the units for redness and greenness; return the components and the run."""
    bank = edit_bank(root / "bank")
    components = scripted_components(
        root / "store",
        ScriptedModel(lambda prompt, seed, temperature: "garbage"),
        generator=ImageBankGenerator(bank, WordEncoder(), settings=BankSettings(size=SIZE)),
        target=target_of(Colours(), classes=CLASSES),
        iterations=0, images=3, top=2, random=1, revisit=False, summary=False, retries=0,
    ).with_(control_set=BankControl(bank, [*COLOURS, "sea"], m=6, size=SIZE))  # fmt: skip
    run = start(components, LAYER, ["0-1"])
    work(components, run)
    return components, components.runs.run(run.id)


def visual_task(components, run, *, count=3, second=True, **parts):
    """What the run's sets are made and measured with."""
    ranked = RankedImages(components, LAYER, components.control_set, "bank")
    sample = tuple(ranked.sample(16, 0)[0])
    sets = ImageSets(components, run, (0, 1), SIZE, count, 0, ranked, **parts)
    other = None
    if second:
        network = target_of(Random(), "own:random", classes=CLASSES)
        other = SecondNetwork(components.with_(target=network), "features", "head", sample)
    return VisualTask(sets, components.control(LAYER), sample, other)
