"""The notebooks of examples/ run from beginning to end, without a network, and are kept without outputs."""

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parents[3] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


def executed(path, folder):
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        # Other tests ask the embedded model, which takes five seconds a question.
        cell.source = cell.source.replace('llm="embedded"', 'llm="random"')
    resources = {"metadata": {"path": folder}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    return notebook


def shown(notebook, kind):
    """What the cells put out, of one MIME type."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return ["".join(output["data"][kind]) for output in outputs if kind in output.get("data", {})]


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """A folder to run in, and a store of its own; where a network would be asked for, nothing answers."""
    monkeypatch.setenv("LINE_STORE", str(tmp_path / "store"))
    for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")
    return tmp_path


@pytest.mark.e2e
def test_a_first_look_labels_a_unit_and_shows_its_evidence(assets, alone):
    notebook = executed(EXAMPLES / "1-first-look.ipynb", alone)
    run, unit = (page for page in shown(notebook, "text/html") if "data:image/jpeg" in page)
    assert "violin" in run and "reasoning" in unit
    assert any("1 of 1 units done" in line for line in shown(notebook, "text/plain"))


@pytest.mark.e2e
def test_a_model_of_ones_own_in_memory_is_explained_on_ones_own_images(assets, alone):
    notebook = executed(EXAMPLES / "2-your-own-model.ipynb", alone)
    assert "blueberry" in "".join(shown(notebook, "text/html"))


@pytest.mark.e2e
def test_runs_are_read_and_compared(assets, alone):
    notebook = executed(EXAMPLES / "3-reading-and-comparing-runs.ipynb", alone)
    assert len(shown(notebook, "image/png")) == 1


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
