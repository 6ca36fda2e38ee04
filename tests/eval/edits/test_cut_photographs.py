"""The packaged photographs with their true classes as labels: bounds of what is reported."""

import csv
import sys

import numpy as np
import pytest

from line_neurons.eval.edits import cut_photographs
from line_neurons.tools.assets.location import assets_root

PACKS = ("imagenet-samples", "u2netp", "migan")


@pytest.mark.e2e
def test_the_unit_of_the_true_class_notices_and_the_control_edit_costs_little(tmp_path, monkeypatch, capsys):
    if missing := [pack for pack in PACKS if not (assets_root() / pack).is_dir()]:
        pytest.skip(f"line assets install {' '.join(missing)}")
    arguments = ["cut", "-n", "6", "--store", str(tmp_path / "store"), "-o", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", arguments)
    # The control set only scales the effects in the exported table: a dozen images of it will do.
    monkeypatch.setattr(cut_photographs, "SEARCH_SHARE", 0.03)
    assert cut_photographs.main() == 0
    assert "0 of 6 edits verified" in capsys.readouterr().out
    (row,) = csv.DictReader((tmp_path / "out" / "edit-runs.csv").open())
    assert float(row["effect all"]) > 3
    # Of six pairs the smallest p-value is .03; one of these edits fails.
    assert float(row["p all"]) < 0.1
    values = {"original": {}, "elsewhere": {}}
    for arm in csv.DictReader((tmp_path / "out" / "edits.csv").open()):
        if arm["arm"] in values and arm["image"]:
            values[arm["arm"]][arm["unit"]] = float(arm["activation"])
    costs = [values["original"][unit] - value for unit, value in values["elsewhere"].items()]
    assert len(costs) >= 3 and abs(np.mean(costs)) < 3
