"""Whole runs from the command line on the backends that users run: Ollama, text-to-image, a model of one's own."""

import json
from pathlib import Path

import pytest

from line_neurons.tui.cli import jobs as labelling
from line_neurons.tui.cli.exit_codes import ALL_REFUSED
from support import tiny_pipelines
from support.command_checks import refused
from support.ollama_server import GOOD, SMALL

pytestmark = pytest.mark.usefixtures("few_control_images")

MODEL = "torchvision:mobilenet_v2"
LAYER = "classifier.1"
EXAMPLE = f"{Path(__file__).parents[3] / 'examples' / 'own_model.py'}:colours"
SHORT = ["--top", "2", "--random", "2", "--images", "2", "--iterations", "2", "--control-images", "1"]
BANK = ["--generator", "bank"]
WORDS = ["--llm", "random", "--init", "vocabulary"]


def explained(result):
    status, out, err = result
    # The small models of the tests may name nothing that the bank can image, which is no failure of the command.
    assert status in {0, ALL_REFUSED}, err
    return json.loads(out)


def history(line, run, unit):
    return json.loads(line("show", run["id"], str(unit), "--json")[1])["history"]


def interrupt(monkeypatch, node, action):
    """Do something with the run's drain once, when the first unit's first ``node`` ends."""
    real, left = labelling.work, [action]

    def work(components, run, watch, drain):
        def watch_for(progress):
            watch(progress)
            if progress.node == node and left:
                left.pop()(drain)

        return real(components, run, watch_for, drain)

    monkeypatch.setattr(labelling, "work", work)


def stop(drain):
    drain.request_drain("test")


@pytest.fixture(scope="session")
def tiny_sdxl(tmp_path_factory):
    """A folder with a whole SDXL pipeline of random weights, small enough for a CPU."""
    return tiny_pipelines.save(tiny_pipelines.sdxl(), tmp_path_factory.mktemp("models") / "sdxl")


@pytest.mark.e2e
def test_a_real_ollama_server_proposes_through_the_whole_loop(line, ollama):
    asked = ["--llm", f"ollama:{GOOD}", "--ollama", ollama.url, *BANK, *SHORT, "--iterations", "1"]
    run = explained(line("explain", MODEL, LAYER, "magpie", *asked, "--json"))
    assert run["fingerprints"]["language_model"].startswith(f"ollama:{GOOD} digest=")
    steps = [step for step in history(line, run, 18) if step["step"]]
    assert {step["model"] for step in steps} == {run["fingerprints"]["language_model"]}
    proposed = [step for step in steps if step["outcome"] == "scored"]
    assert proposed
    assert all(step["reasoning"] and step["origin"] in {"proposed", "summary"} for step in proposed)
    # The kept replies make a second run of the same question the same, whatever the server would say now.
    again = explained(line("explain", MODEL, LAYER, "magpie", *asked, "--json"))
    assert [step["reply"] for step in history(line, again, 18) if step["step"]] == [
        step["reply"] for step in steps
    ]


@pytest.mark.e2e
def test_a_run_whose_server_dies_is_finished_by_another_model_and_says_so(
    line, ollama, ollama_servers, short_waits, monkeypatch
):
    mortal = ollama_servers()
    interrupt(monkeypatch, "init", lambda drain: mortal.kill())
    asked = ["--llm", f"ollama:{GOOD}", "--ollama", mortal.url, *BANK, *SHORT, "--retries", "1"]
    err = refused(
        _only_the_error(line("explain", MODEL, LAYER, "magpie", *asked, "--json")),
        mortal.host,
        "line resume mobilenet_v2-classifier.1-1",
    )
    assert "ollama serve" in err
    (left,) = json.loads(line("runs", "--json")[1])
    assert left["status"] == "failed"
    other = ["--llm", f"ollama:{SMALL}", "--ollama", ollama.url]
    run = explained(line("resume", left["id"], *other, "--json"))
    assert (run["status"], run["settings"]["llm"]) == ("finished", f"ollama:{SMALL}")
    models = {step["model"] for step in history(line, run, 18) if step["step"]}
    assert {model.partition(" ")[0] for model in models} == {f"ollama:{SMALL}"}


@pytest.mark.e2e
def test_a_model_that_was_not_pulled_is_one_line_that_says_how(line, ollama, tmp_path):
    asked = ["--llm", "ollama:llama3.1:8b", "--ollama", ollama.url, *BANK]
    refused(line("explain", MODEL, LAYER, "magpie", *asked), "llama3.1:8b", "line pull llama3.1:8b")
    assert not (tmp_path / "store" / "runs.db").exists()


@pytest.mark.e2e
def test_the_model_is_swapped_between_two_steps(line, ollama, monkeypatch):
    interrupt(monkeypatch, "update", stop)
    status, _, err = line("explain", MODEL, LAYER, "magpie", "--llm", "random", *BANK, *SHORT, "--retries", "1")
    assert status == 130
    assert "line resume" in err
    run = explained(line("resume", "--llm", f"ollama:{SMALL}", "--ollama", ollama.url, "--json"))
    asked = {step["step"]: step["model"].partition(" ")[0] for step in history(line, run, 18) if step["step"]}
    assert asked == {1: "random", 2: f"ollama:{SMALL}", 3: f"ollama:{SMALL}"}
    shown = line("show", run["id"], "18")[1]
    assert "random" in shown
    assert f"ollama:{SMALL}" in shown


@pytest.mark.e2e
def test_another_model_under_the_same_name_is_not_taken_unasked(line, assets, tiny_sdxl, monkeypatch, tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("owl\nhammer\nrose\nboat\nviolin\n")
    interrupt(monkeypatch, "update", stop)
    drawn = ["--generator", tiny_sdxl, "--steps", "1", "--size", "64", *WORDS, "--vocabulary", words]
    assert line("explain", MODEL, LAYER, "magpie", *drawn, *SHORT)[0] == 130
    # The words are what this proposer is made of.
    words.write_text("owl\nhammer\nrose\nboat\nharp\n")
    refused(line("resume"), "the language model of run", "changed", "--llm")
    run = explained(line("resume", "--llm", "random", "--json"))
    models = [step["model"] for step in history(line, run, 18) if step["step"]]
    assert len(set(models)) == 2
    assert "violin" in run["vocabulary"]
    assert "harp" not in run["vocabulary"]


@pytest.mark.e2e
def test_a_text_to_image_model_draws_through_the_whole_loop(line, assets, tiny_sdxl, monkeypatch, tmp_path):
    drawn = ["--generator", tiny_sdxl, "--steps", "2", "--size", "64", *WORDS, *SHORT]
    whole = explained(line("explain", MODEL, LAYER, "889", *drawn, "--store", tmp_path / "whole", "--json"))
    interrupt(monkeypatch, "synthesize", stop)
    assert line("explain", MODEL, LAYER, "889", *drawn)[0] == 130
    resumed = explained(line("resume", "--json"))
    for key in ("label", "score", "initial_label"):
        assert resumed["units"][0][key] == whole["units"][0][key]
    assert resumed["fingerprints"] == whole["fingerprints"]
    shown = json.loads(line("show", resumed["id"], "889", "--json")[1])
    images = list(shown["pictures"].values())
    assert len(images) == 2 * (4 + 3)
    assert {image["prompt"].split(" photo of a ")[0] for image in images} == {"A realistic"}
    assert len({image["seed"] for image in images}) == len(images)


@pytest.mark.e2e
def test_a_model_of_ones_own_is_explained_without_a_change_of_the_source(line, assets):
    layers = {layer["path"]: layer["units"] for layer in json.loads(line("layers", EXAMPLE, "--json")[1])}
    assert layers["features"] == layers["pool"] == 5
    runs = explained(
        line("explain", EXAMPLE, "features,pool", "green", "1", "--llm", "random", *BANK, *SHORT, "--json")
    )
    assert [run["layer"] for run in runs] == ["features", "pool"]
    for run in runs:
        assert [unit["name"] for unit in run["units"]] == ["green", "red"]
        assert all(unit["status"] == "finished" for unit in run["units"])
    # The mean over the map is what the pooled layer puts out.
    first, second = ([unit["score"] for unit in run["units"]] for run in runs)
    assert first == pytest.approx(second)


@pytest.mark.e2e
def test_a_wrong_layer_among_several_leaves_nothing_behind(line, assets, tmp_path):
    refused(line("explain", EXAMPLE, "features,pol", "0", "--llm", "random", *BANK), "'pol'", "pool")
    assert not (tmp_path / "store" / "runs.db").exists()


@pytest.mark.e2e
def test_a_pool_that_does_not_fit_one_of_several_layers_leaves_nothing_behind(line, assets, tmp_path):
    refused(line("explain", EXAMPLE, "pool,features", "0", "--llm", "random", *BANK, "--pool", "cls"), "cls")
    assert not (tmp_path / "store" / "runs.db").exists()


@pytest.mark.e2e
def test_what_a_model_of_ones_own_prints_is_no_part_of_the_results_and_it_is_found_from_elsewhere(
    line, assets, tmp_path, monkeypatch
):
    (tmp_path / "loud.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "class Loud(nn.Sequential):\n"
        "    def forward(self, x):\n"
        "        print('forward!')\n"
        "        return super().forward(x)\n"
        "def net():\n"
        "    print('made!')\n"
        "    torch.manual_seed(0)\n"
        "    return Loud(nn.Conv2d(3, 4, 1), nn.ReLU())\n"
    )
    assert json.loads(line("layers", "loud:net", "--json")[1])
    interrupt(monkeypatch, "update", stop)
    assert line("explain", "loud:net", "1", "2", "--llm", "random", *BANK, *SHORT)[0] == 130
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    run = explained(line("resume", "--json"))
    assert (run["status"], run["id"]) == ("finished", "net-1-1")


@pytest.mark.e2e
def test_a_password_in_an_address_is_kept_nowhere(line, ollama, tmp_path):
    url = ollama.url.replace("http://", "http://joe:open-sesame@")
    asked = ["--llm", f"ollama:{SMALL}", "--ollama", url, *BANK, *SHORT, "--iterations", "0", "--retries", "0"]
    status, out, err = line("explain", MODEL, LAYER, "magpie", *asked, "--json")
    # What the small model replies depends on the machine; all of it may be refused.
    assert status in {0, ALL_REFUSED}
    assert "open-sesame" not in out + err
    kept = [path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert not any(b"open-sesame" in content for content in kept)


def _only_the_error(result):
    """The result with the progress lines before the error left out."""
    status, out, err = result
    return status, out, err.strip().splitlines()[-1] + "\n"
