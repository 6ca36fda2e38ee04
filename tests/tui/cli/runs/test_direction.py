"""``line direction fit`` as a user types it, on a small model and image folders."""

import json

import numpy as np
import pytest
from PIL import Image

from support.command_checks import refused

NET = """
import torch
from torch import nn
from torchvision.transforms import v2

def net():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 4, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return model, v2.Compose([v2.PILToTensor(), v2.Resize((8, 8)), v2.ToDtype(torch.float32, scale=True)])
"""
COMMON = ("--control", "none", "--device", "cpu")


@pytest.fixture
def folders(tmp_path):
    """Folders of red, blue and twice twelve grey images, and a model."""
    rng = np.random.default_rng(0)
    (tmp_path / "net.py").write_text(NET)
    for name, colour in {"red": (200, 0, 0), "blue": (0, 0, 200), "grey": None, "other grey": None}.items():
        (tmp_path / name).mkdir()
        for number in range(12):
            noise = rng.integers(0, 50, (16, 16, 3))
            pixels = (noise + (np.array(colour) if colour else 90)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    return tmp_path


def fit(line, folders, of, against, output="d.npz", *options):
    sides = ("--of", folders / of, *(("--against", folders / against) if against else ()))
    return line("direction", "fit", f"{folders / 'net.py'}:net", "0", *sides, "-o", output, *COMMON, *options)


def test_a_direction_is_fitted_written_and_listed_as_a_unit(line, folders):
    status, out, err = fit(line, folders, "red", "blue", "d.npz", "--json")
    assert status == 0, err
    (row,) = json.loads(out)
    assert (row["name"], row["with"], row["without"], row["is_random"]) == ("red", 12, 12, False)
    assert row["auc"] == 1 and row["p"] == pytest.approx(1 / 21)
    with np.load("d.npz") as file:
        assert file["directions"].shape == (1, 6) and file["names"].tolist() == ["red"]
    listed = line(
        "units", f"{folders / 'net.py'}:net", "0", "--directions", "d.npz", "--control", folders, "--json"
    )
    assert listed[0] == 0, listed[2]
    (unit,) = json.loads(listed[1])
    assert (unit["name"], unit["state"]) == ("red", "alive")
    # What it was fitted against is last; of grey images it knows nothing.
    assert unit["strongest class"] != "blue"


def test_a_random_direction_is_marked_where_it_is_printed_and_listed(line, folders):
    status, out, err = fit(line, folders, "grey", "other grey")
    assert status == 0 and "RANDOM" in out
    assert "grey is no better than random" in err
    listed = line(
        "units", f"{folders / 'net.py'}:net", "0", "--directions", "d.npz", "--control", folders, "--json"
    )
    assert [unit["state"] for unit in json.loads(listed[1])] == ["random"]


@pytest.mark.parametrize(
    ("of", "against", "output", "words"),
    [
        ("read", "blue", "d.npz", ["no folder of images", "name a folder"]),
        ("red", None, "d.npz", ["no control set to compare with", "--against"]),
        ("red", "blue", "d.pt", ["'d.pt' does not end with .npz"]),
        ("red", "red", "d.npz", ["0 different images without it"]),
    ],
)
def test_what_cannot_be_fitted_is_refused_in_one_line(line, folders, of, against, output, words):
    result = fit(line, folders, of, against, output, "--quiet")
    refused(result, *words)
    assert not (folders / output).exists()


def test_an_existing_file_is_kept_unless_forced(line, folders):
    (folders / "d.npz").write_text("mine")
    refused(fit(line, folders, "red", "blue"), "'d.npz' exists already", "--force")
    assert (folders / "d.npz").read_text() == "mine"
    assert fit(line, folders, "red", "blue", "d.npz", "--force")[0] == 0
