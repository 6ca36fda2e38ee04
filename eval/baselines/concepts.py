"""Which probe images are of which concept: the classes, and the wider groups that they belong to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from line_neurons.agent.concepts import class_concept
from line_neurons.eval.baselines.task import Task
from line_neurons.eval.labels.imagenet import imagenet_table
from line_neurons.eval.labels.wordnet import WordNet

if TYPE_CHECKING:
    from numpy.typing import NDArray


def concepts_of(task: Task, *, hypernyms: bool) -> tuple[tuple[str, ...], NDArray[np.bool_]]:
    """The concepts of the probe images and whether each image is one of them.

    Args:
        task: has the probe images.
        hypernyms: also groups of classes: of the image bank its own, of other sets WordNet's hypernyms.

    Returns:
        the names, classes first, and bool [n_images, n_concepts].

    Raises:
        UsageError: the images have no classes.
        MissingPartError: WordNet is wanted and not here.
    """
    captions = task.captions
    classes: dict[str, set[int]] = defaultdict(set)
    for index, caption in enumerate(captions):
        if caption:
            classes[caption].add(index)
    if hypernyms:
        groups: dict[str, set[int]] = defaultdict(set)
        for index, wider in _wider(task).items():
            for name in wider:
                groups[name].add(index)
        for name, own in sorted(groups.items()):
            # What is a class' alone tells nothing that the class does not; a class may be a group of others too.
            if name in classes or len(own) > 1:
                classes[name] |= own
    labels = task.control.labels
    members = np.stack([np.isin(labels, sorted(own)) for own in classes.values()], 1)
    return tuple(classes), members


def _wider(task: Task) -> Mapping[int, set[str]]:
    """The groups of each class, by its index."""
    if task.components.settings.control == "bank":
        broader: dict[str, set[str]] = defaultdict(set)
        for entry in task.components.images.select("search"):
            broader[entry.caption].update(entry.broader)
        return {index: broader[name] for index, name in enumerate(task.control.classes)}
    words = WordNet(task.components.assets / "wordnet")
    known = {one.name: one.synset for one in imagenet_table()}
    found = {}
    for index, (name, caption) in enumerate(zip(task.control.classes, task.captions, strict=True)):
        synset = known.get(name) or next(iter(words.senses(caption)), None)
        above = words.hypernyms(synset) if synset is not None else ()
        found[index] = {class_concept(words.lemmas[one][0]) for one in above}
    return found
