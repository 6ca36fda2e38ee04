"""Export images to be edited elsewhere, with the table of the edits to make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from line_neurons.agent.ports import EditKind, EditRequest
from line_neurons.eval.edits.runner import EditTask
from line_neurons.eval.edits.subjects import Subject
from line_neurons.eval.labels.labels import Label
from line_neurons.tools.editors.folder import CanvasFolder
from line_neurons.tools.editors.instructions import instruction, instructions_of

_WORDS = {
    "unchanged": "Change nothing, by the same program.",
    "elsewhere": "Change as much of the image, of the same shape, where no {concept} is.",
}


def export_canvases(
    task: EditTask,
    folder: CanvasFolder,
    labels: Sequence[Label],
    subjects: Mapping[int, Sequence[Subject]],
    others: Mapping[int, str],
    words: Mapping[str, str],
) -> None:
    """Write the images of labels, brought to the canvas, and a row for each edit and control edit.

    Args:
        others: what takes the concept's place, or is added in the control edit, by unit.
        words: a user's instructions, by kind of edit.
    """
    told = {**instructions_of(words), **_WORDS}
    for label in labels:
        other = others.get(label.unit, "")
        for subject in subjects[label.unit]:
            image = task.images.file(task.images.canvas(subject.image))
            for kind, concept, instead, needed in _edits(task.how, label.concept, other):
                request = EditRequest(image, kind, concept, instead, name=subject.name)
                folder.add(request, instruction(told, request), needed=needed)


def _edits(how: EditKind, concept: str, other: str) -> list[tuple[EditKind, str, str, bool]]:
    """Return kind, concept, what takes its place, and whether it is needed, as the evaluation asks for them."""
    if how == "insert":
        control: list[tuple[EditKind, str, str, bool]] = [("insert", other, "", False)] if other else []
    else:
        control = [("elsewhere", concept, "", False)]
    edit = (how, concept, other if how == "replace" else "", True)
    return [edit, *control, ("unchanged", concept, "", False)]
