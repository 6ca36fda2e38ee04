"""The documentation site: it builds, its links lead somewhere, and it fetches nothing."""

import re

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config

from support.doc_commands import ROOT, pages

# What a page has a browser fetch, as opposed to links that a reader may follow.
_FETCHED = re.compile(
    r"""<(?:script|img|iframe|source)[^>]+src="?([^"\s>]+)|<link[^>]+href="?([^"\s>]+)|url\(["']?([^"')]+)"""
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built with every warning an error: links and anchors between pages are sound."""
    folder = tmp_path_factory.mktemp("site")
    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True))
    return folder


def test_every_page_has_its_place_in_the_navigation(site):
    navigation = (ROOT / "mkdocs.yml").read_text()
    for page in pages()[1:]:
        assert f": {page.name}\n" in navigation
        assert (site / page.name).with_suffix(".html").is_file()


def test_reading_it_fetches_nothing_from_elsewhere(site):
    for file in (*site.rglob("*.html"), *site.rglob("*.css")):
        for found in _FETCHED.findall(file.read_text()):
            place = "".join(found)
            assert not re.match(r"(https?:)?//", place), f"{file.name} fetches {place}"


def test_links_of_the_readme_lead_to_files():
    for target in re.findall(r"\]\(([^)#]+)", (ROOT / "README.md").read_text()):
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_the_architecture_is_the_repositorys_own(site):
    shown = (site / "architecture.html").read_text()
    assert "Follow one step" in shown
    assert "--8&lt;--" not in shown


def test_links_of_the_guide_for_contributors_lead_to_files():
    for target in re.findall(r"\]\(([^)#]+)", (ROOT / "CONTRIBUTING.md").read_text()):
        assert target.startswith("http") or (ROOT / target).exists(), target
