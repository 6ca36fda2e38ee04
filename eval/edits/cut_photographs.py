"""Cut what stands out from labelled photographs: does the unit of the true class notice?

``python -m line_neurons.eval.edits.cut_photographs -n 12`` edits every second photograph of the pack
``imagenet-samples``, with the true class as the label of its unit, and prints the tables of ``line eval edits``.
A verifier is calibrated on all photographs of the pack. The same command continues where it stopped.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from line_neurons.agent.presets import SEARCH_SHARE
from line_neurons.agent.settings import load_settings
from line_neurons.eval.cosy.runner import EvaluatedLayer
from line_neurons.eval.edits.report import edits_report
from line_neurons.eval.edits.runner import EditTask, evaluate_edits
from line_neurons.eval.edits.subjects import RankedImages, Subject
from line_neurons.eval.edits.verifiers import NONE, open_verifier
from line_neurons.eval.labels.labels import Label, Labels
from line_neurons.eval.reports.table import as_markdown, write_report
from line_neurons.graphs.runs.components import Components
from line_neurons.tools.assets.location import assets_root
from line_neurons.tools.control_sets.image_list import ImageList
from line_neurons.tools.editors.registry import EditorParts, open_editor
from line_neurons.tools.images.folders import images_below
from line_neurons.tools.images.skipped import Remarks
from line_neurons.tools.store.results.edits import EditResults
from line_neurons.tools.store.results.evaluations import Evaluations
from line_neurons.tools.vocabulary import imagenet_classes

MODEL, LAYER = "torchvision:mobilenet_v2", "classifier.1"


def labelled_photographs(folder: Path) -> list[tuple[int, Subject]]:
    """Return the photographs of a folder with their classes; they are named ``<class index>_<name>``."""
    files = {file: file.name.partition("_")[0] for file in images_below(folder, Remarks(folder))}
    return [
        (int(number), Subject(file.read_bytes(), file.name)) for file, number in files.items() if number.isdigit()
    ]


def main() -> int:
    """Edit the photographs, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", "--photographs", type=int, default=12)
    parser.add_argument("--verify", default=NONE, help="as for line eval edits")
    parser.add_argument("--store", type=Path, default=Path("cut-photographs"))
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    settings = load_settings(
        generator="bank",
        control="bank",
        control_images=1,
        vocabulary_share=SEARCH_SHARE,
        llm="random",
        store=given.store,
    )
    components = Components(MODEL, settings)
    photographs = labelled_photographs(assets_root() / "imagenet-samples")
    subjects: dict[int, list[Subject]] = {}
    for number, subject in photographs[::2][: given.photographs]:
        subjects.setdefault(number, []).append(subject)
    names = imagenet_classes()
    labels = Labels(
        "true class", components.shown_model, LAYER, tuple(Label(unit, names[unit].lower()) for unit in subjects),
        "imagenet-samples",
    )  # fmt: skip
    evaluated = EvaluatedLayer(components, LAYER, (labels,))
    editor = open_editor("cut", EditorParts(settings, components.assets, lambda: components.generator))
    classes = tuple(names[number].lower() for number, _ in photographs)
    images = ImageList(tuple(subject.image for _, subject in photographs), "imagenet-samples", classes)
    control = RankedImages(components, LAYER, images, "imagenet-samples")
    verifier = open_verifier(given.verify, components, imagenet_classes, 0)
    task = EditTask(
        evaluated, editor, "cut", verifier, "imagenet-samples", "remove", given.photographs, 0,
        components.control(LAYER), control,
    )  # fmt: skip
    opened = Evaluations(components.store)
    try:
        result = evaluate_edits(task, labels, labels.labels, subjects, {}, EditResults(opened), _progress)
    finally:
        opened.close()
    report = edits_report([result], components.store)
    sys.stdout.write(as_markdown(report))
    if given.output:
        write_report(report, given.output)
    return 0


def _progress(what: str, done: int, total: int) -> None:
    sys.stderr.write(f"{what}: {done} of {total}\n")


if __name__ == "__main__":
    sys.exit(main())
