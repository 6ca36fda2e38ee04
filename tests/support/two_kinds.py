"""A target with a unit that responds to two kinds of images, and classes of either kind."""

from __future__ import annotations

import numpy as np

from line_neurons.agent.ports import LayerInfo
from support.fakes import LAYER, ScriptedTarget, said_by

KINDS = 24
CLASSES = [f"class {letter}" for letter in "abcdefghijklmnopqrstuvwx"]
BIRDS, FOXES = 0, 12
OF_KIND = {
    "owl": (BIRDS, 9), "eagle": (BIRDS, 8), "wren": (BIRDS, 7), "fox": (FOXES, 6.5), "vixen": (FOXES, 7.5),
    "cub": (FOXES, 5),
}  # fmt: skip


class TwoKinds(ScriptedTarget):
    """Unit 0 responds to the first and the thirteenth kind of images and those near them, unit 1 to the first."""

    def layers(self):
        return [LayerInfo(LAYER, "Linear", (2 + KINDS,), 2 + KINDS)]

    def activate(self, images, layers, progress=None):
        rows = np.zeros((len(images), 2 + KINDS), np.float32)
        for row, image in zip(rows, images, strict=True):
            concept = said_by(image)[0]
            place = CLASSES.index(concept) if concept in CLASSES else KINDS - 1
            kind, score = OF_KIND.get(concept, (place, max(0.0, 6 - place % 12)))
            row[0], row[1] = score, score if kind < FOXES else 0.1
            group = kind // 12
            row[2 + 12 * group : 2 + 12 * group + 6] = 1
            row[2 + kind] += 0.5
        return dict.fromkeys(layers, rows)
