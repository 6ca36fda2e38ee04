"""The map of the code names files that exist, and its tables are whole."""

import re

import pytest

from support.doc_commands import ROOT

TEXT = (ROOT / "ARCHITECTURE.md").read_text()
PATHS = sorted(set(re.findall(r"`((?:agent|tools|graphs|eval|evidence|tui|tests|docs|examples)/[\w./]*)`", TEXT)))


@pytest.mark.parametrize("path", PATHS)
def test_a_file_that_the_map_names_exists(path):
    assert (ROOT / path).exists()


def test_what_to_edit_is_told_for_twenty_changes_by_file():
    rows = TEXT.partition("## To change X, edit Y")[2].partition("\n## ")[0]
    assert sum("`" in line for line in rows.splitlines() if line.startswith("| ")) >= 20


@pytest.mark.parametrize(
    "page", ["ARCHITECTURE.md", "README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
)
def test_no_row_of_a_table_lost_its_bar(page):
    lines = (ROOT / page).read_text().splitlines()
    torn = [line for line in lines if line.rstrip().endswith(" |") and not line.lstrip().startswith("|")]
    assert torn == []
