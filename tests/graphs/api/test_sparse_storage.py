"""Whole runs on latents end alike, whether activations are stored sparse or dense."""

import sqlite3
from contextlib import closing

import numpy as np
import torch
from torch import nn
from torchvision.transforms import v2

from line_neurons.agent import activations
from line_neurons.eval.exchange.export import export
from line_neurons.graphs import explain
from line_neurons.graphs.runs.components import Components
from line_neurons.tools.cache import vectors
from support.fakes import ScriptedControl, ScriptedGenerator, ScriptedModel

K = 40
TRANSFORM = v2.Compose([v2.PILToTensor(), v2.Resize((8, 8)), v2.ToDtype(torch.float32, scale=True)])


class Latents(nn.Module):
    """TopK latents of three values."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, K, generator=torch.Generator().manual_seed(0)))

    def encode(self, tokens):
        values = tokens @ self.weight
        largest = values.topk(4)
        return torch.zeros_like(values).scatter(1, largest.indices, largest.values.relu())


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 3, 4, 4)

    def forward(self, images):
        return self.conv(images).mean((2, 3))


def whole_run(store, sparse_units, monkeypatch):
    """Label units in a store of its own; return the run, its labels and its histories."""
    for module in (activations, vectors):
        monkeypatch.setattr(module, "SPARSE_UNITS", sparse_units)
    words = ("cat", "bus", "dog", "sea", "oak", "cup", "sun", "hat")
    model = ScriptedModel(lambda prompt, seed, temperature: f"thing {np.base_repr(seed, 36)}")
    monkeypatch.setattr(Components, "language_model", model)
    monkeypatch.setattr(Components, "generator", ScriptedGenerator())
    monkeypatch.setattr(Components, "control_set", ScriptedControl(words))
    small = {"iterations": 3, "images": 3, "top": 2, "random": 1, "scorer": "auc"}
    result = explain(
        Net(), "conv", "strongest:6", sae=Latents(), transform=TRANSFORM, store=store, progress=False, **small
    )
    found = [(unit.unit, unit.label, unit.score, unit.auc, unit.mad, unit.board) for unit in result]
    return result.run.id, found, [[(step.concept, step.score) for step in unit.history] for unit in result]


def test_sparse_and_dense_storage_give_the_same_label_files(tmp_path, monkeypatch):
    files, found, sizes = [], [], []
    for name, units in (("sparse", K), ("dense", K + 1)):
        run, *numbers = whole_run(tmp_path / name, units, monkeypatch)
        found.append(numbers)
        with closing(sqlite3.connect(tmp_path / name / "bank.db")) as db:
            sizes.append(
                db.execute("SELECT count(units), count(*), sum(length(vector)) FROM activations").fetchone()
            )
        for form in ("invert", "clip-dissect"):
            export(tmp_path / name, run, form, tmp_path / f"{name}.{form}")
            files.append((form, (tmp_path / f"{name}.{form}").read_bytes()))
    assert files[:2] == files[2:]
    assert found[0] == found[1] and len(found[0][0]) == 6
    (sparse, images, bytes_sparse), (dense, _, bytes_dense) = sizes
    assert (sparse, dense) == (images, 0) and bytes_sparse < bytes_dense / 2
