"""Image files that are harmed between two commands, on real parts: what the user sees, and how the run ends."""

import json
import shutil

import pytest

from line_neurons.graphs.loop import scoring

ARGUMENTS = [
    *("explain", "torchvision:mobilenet_v2", "classifier.1", "magpie", "castle", "--llm", "random"),
    *("--generator", "bank", "--top", "2", "--random", "2", "-n", "2", "-N", "1", "--no-summary"),
    *("--hints", "0", "--control-images", "1"),
]
RUN = "mobilenet_v2-classifier.1-1"


def evidence(line, unit):
    shown = json.loads(line("show", RUN, unit, "--json")[1])
    for step in shown["history"]:
        for varying in ("created", "seconds"):
            step.pop(varying)
    shown["unit"].pop("seconds")
    shown.pop("contact_sheet")
    return shown


@pytest.mark.e2e
def test_images_harmed_while_a_run_is_interrupted_are_drawn_anew_and_it_ends_as_undisturbed(
    line, assets, few_control_images, tmp_path, monkeypatch, caplog
):
    assert line(*ARGUMENTS)[0] == 0
    undisturbed = [evidence(line, unit) for unit in ("magpie", "castle")]
    shutil.rmtree(tmp_path / "store")

    real, calls = scoring.activate, []

    def interrupted(deps, unit, images):
        calls.append(unit)
        if len(calls) == 6:
            # The first unit has its label; the first board of the second is being filled.
            raise KeyboardInterrupt
        return real(deps, unit, images)

    with monkeypatch.context() as patched:
        patched.setattr(scoring, "activate", interrupted)
        assert line(*ARGUMENTS)[0] == 130
    files = sorted((tmp_path / "store" / "images").rglob("*.png"))
    for place, file in enumerate(files):
        content = file.read_bytes()
        file.unlink()
        if place % 3:
            file.write_bytes(content[:99] if place % 3 == 1 else bytes(len(content)))
    status, out, err = line("show", RUN, "magpie")
    assert status == 0
    assert "Scoreboard" in out
    assert "images of this unit cannot be shown:" in err
    assert "is damaged: its content has changed" in err

    status, _, err = line("resume")
    assert status == 0
    assert "was generated again" in caplog.text
    assert "missing or corrupt: generated again" in err
    assert "Traceback" not in err
    assert [evidence(line, unit) | {"missing": {}} for unit in ("magpie", "castle")] == undisturbed
