"""The notebooks of examples/ run from beginning to end, without a network, and are kept with what they put out."""

import re
from pathlib import Path

import nbformat
import pytest
from jupyter_client import AsyncKernelManager
from jupyter_core.utils import run_sync
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parents[3] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
SIZES = {
    "LINE_CONTROL_IMAGES": "1", "LINE_VOCABULARY_SHARE": "0.03",
    "LINE_IMAGES": "2", "LINE_TOP": "2", "LINE_RANDOM": "2",
}  # fmt: skip
"""How large a run is where a notebook does not say."""


def executed(name, kernel):
    notebook = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)
    for cell in notebook.cells:
        # Other tests ask the embedded model, which takes five seconds a question.
        cell.source = re.sub("""(llm"?[=:] ?)"embedded\"""", r'\1"random"', cell.source)
        cell.source = re.sub("""(vocabulary_share"?[=:] ?)1 / 3""", r"\1 0.03", cell.source)
    # It has no name that another notebook defined.
    notebook.cells.insert(0, nbformat.v4.new_code_cell("%reset -f"))
    NotebookClient(notebook, km=kernel, timeout=300).execute()
    return notebook


def shown(notebook, kind):
    """What the cells put out, of one MIME type."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return ["".join(output["data"][kind]) for output in outputs if kind in output.get("data", {})]


@pytest.fixture(scope="module")
def kernel(assets, tmp_path_factory):
    """One process for all notebooks, so that torch is imported once, with a folder and a store of its own.

    Where a network would be asked for, nothing answers.
    """
    folder = tmp_path_factory.mktemp("notebooks")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**SIZES, "LINE_STORE": str(folder / "store")}.items():
            patch.setenv(name, value)
        for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            patch.setenv(proxy, "http://127.0.0.1:9")
        manager = AsyncKernelManager(kernel_name="python3")
        run_sync(manager.start_kernel)(cwd=folder, extra_arguments=["--HistoryManager.hist_file=:memory:"])
        yield manager
        run_sync(manager.shutdown_kernel)(now=True)


@pytest.mark.e2e
def test_a_first_look_labels_a_unit_and_shows_its_evidence(kernel):
    notebook = executed("1-first-look", kernel)
    run, unit = (page for page in shown(notebook, "text/html") if "data:image/jpeg" in page)
    assert "violin" in run and "reasoning" in unit
    assert any("1 of 1 units done" in line for line in shown(notebook, "text/plain"))


@pytest.mark.e2e
def test_a_model_of_ones_own_in_memory_is_explained_on_ones_own_images(kernel):
    notebook = executed("2-your-own-model", kernel)
    assert "blueberry" in "".join(shown(notebook, "text/html"))


@pytest.mark.e2e
def test_runs_are_read_and_compared(kernel):
    notebook = executed("3-reading-and-comparing-runs", kernel)
    assert len(shown(notebook, "image/png")) == 1


def kept(path):
    """The code cells of a notebook as it is kept, and all texts in their outputs."""
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    texts = []
    for output in (output for cell in cells for output in cell.outputs):
        texts += [output.text] if output.output_type == "stream" else []
        texts += [text for kind, text in output.get("data", {}).items() if kind.startswith("text/")]
    return cells, texts


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_as_it_ran_from_top_to_bottom(path):
    cells, _ = kept(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert any(cell.outputs for cell in cells)
    assert path.stat().st_size < 1_500_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_a_notebook_put_out_has_no_warning_no_error_and_no_path_of_a_machine(path):
    cells, texts = kept(path)
    kinds = {output.output_type for cell in cells for output in cell.outputs}
    assert kinds <= {"execute_result", "display_data", "stream"}
    assert not any(output.get("name") == "stderr" for cell in cells for output in cell.outputs)
    shown_texts = re.sub(r"data:image/\w+;base64,[\w+/=]+", "", "\n".join(texts))
    assert not re.search(r"(?i)warning|traceback", shown_texts)
    assert not re.search(r"/(tmp|root|work|home|Users)/", shown_texts)


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("1-first-look", {"violin": "violin"}),
        ("2-your-own-model", {"red": "tomato", "green": "cucumber", "blue": "blueberry"}),
        ("3-reading-and-comparing-runs", {"castle": "castle", "violin": "violin"}),
    ],
)
def test_the_labels_that_a_notebook_shows_are_right(name, labels):
    _, texts = kept(EXAMPLES / f"{name}.ipynb")
    words = re.sub(r"<[^>]*>|\s+", " ", "\n".join(texts))
    for unit, label in labels.items():
        assert re.search(rf"\b{unit}\b.{{1,40}}\b{label}\b", words), unit
