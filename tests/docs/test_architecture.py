"""The map of the code names files that exist and every folder, and its tables are whole."""

import re
import tomllib

import pytest

from support.doc_commands import ROOT, pages

TEXT = (ROOT / "ARCHITECTURE.md").read_text()
FOLDERS = ("agent", "tools", "graphs", "eval", "tui")
PATHS = sorted(set(re.findall(r"`((?:agent|tools|graphs|eval|tui|tests|docs|examples)/[\w./]*)`", TEXT)))
PACKAGES = sorted(
    {f"{path.parent.relative_to(ROOT)}/" for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
)


def section(heading):
    return TEXT.partition(f"## {heading}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("path", PATHS)
def test_a_file_that_the_map_names_exists(path):
    assert (ROOT / path).exists()


@pytest.mark.parametrize("folder", PACKAGES)
def test_the_map_names_every_folder(folder):
    assert f"`{folder}`" in section("Map")


def test_a_step_is_followed_from_the_command_to_the_checkpoint_by_file():
    named = re.findall(r"`((?:agent|tools|graphs|tui)/[\w/]+\.py)`", section("Follow one step"))
    assert named[0] == "tui/cli/main.py"
    assert {"graphs/loop/nodes.py", "tools/store/checkpoints.py"} <= set(named)


def test_what_to_edit_is_told_for_twenty_changes_by_file():
    rows = section("To change X, edit Y")
    assert sum("`" in line for line in rows.splitlines() if line.startswith("| ")) >= 20


@pytest.mark.parametrize(
    "name",
    [
        "COMMANDS = tui/cli/commands.py",
        "SCORERS = tools/scorers.py",
        "SOURCES = tools/target_specs.py",
        "BINDINGS = tui/app/unit/screen.py",
    ],
)
def test_a_table_that_the_map_names_is_in_its_file(name):
    table, _, file = name.partition(" = ")
    assert f"`{table}`" in TEXT
    assert re.search(rf"^ *{table}\b.*=", (ROOT / file).read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    "page",
    [
        "ARCHITECTURE.md",
        "README.md",
        "CONTRIBUTING.md",
        *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
    ],
)
def test_no_row_of_a_table_lost_its_bar(page):
    lines = (ROOT / page).read_text().splitlines()
    torn = [line for line in lines if line.rstrip().endswith(" |") and not line.lstrip().startswith("|")]
    assert torn == []


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", *map(str, pages())])
def test_files_of_the_repository_that_a_page_names_exist(page):
    named = re.findall(r"`((?:agent|tools|graphs|eval|tui|tests|examples)/[\w./-]*)`", (ROOT / page).read_text())
    assert [path for path in named if not (ROOT / path).exists()] == []


PACKAGES = [
    path.parent
    for top in ("agent", "tools", "graphs", "eval", "tui")
    for path in (ROOT / top).rglob("__init__.py")
]


def test_a_wheel_has_every_package():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    names = {".".join(["line_neurons", *folder.relative_to(ROOT).parts]) for folder in PACKAGES}
    assert names <= set(listed)
    assert len(set(listed)) == len(listed)


def test_no_folder_has_more_than_twenty_modules():
    modules = {folder: {*folder.glob("*.py")} - {folder / "__init__.py"} for folder in PACKAGES}
    assert {folder.name: len(found) for folder, found in modules.items() if len(found) > 20} == {}


def test_no_module_has_more_than_450_lines():
    lengths = {path: len(path.read_text().splitlines()) for folder in PACKAGES for path in folder.glob("*.py")}
    assert {str(path.relative_to(ROOT)): length for path, length in lengths.items() if length > 450} == {}
