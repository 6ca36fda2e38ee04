"""The documentation site: it builds, its links lead somewhere, and it fetches nothing."""

import re
import shutil

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


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome is installed")
def test_the_search_works_on_files(site):
    from playwright.sync_api import expect, sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        failed = []
        page.on("requestfailed", lambda request: failed.append(request.url))
        page.goto((site / "index.html").as_uri())
        results = page.locator(".md-search-result__item")
        # What is typed before the page's script has started is lost.
        for _ in range(20):
            page.locator(".md-search__input").click()
            page.keyboard.press("Control+A")
            page.keyboard.type("lease", delay=50)
            page.wait_for_timeout(1000)
            if results.first.is_visible():
                break
        expect(page.locator(".md-search-result__meta")).to_contain_text("matching document")
        results.first.locator("a").first.click()
        assert failed == []
        assert page.url.startswith("file:")
        assert "index.html" not in page.url
        browser.close()


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
