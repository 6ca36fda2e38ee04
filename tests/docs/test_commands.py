"""Every command of the documentation is carried out as a reader would, page by page, from top to bottom."""

import shutil

import pytest

from doc_commands import ROOT, SHELL, Block, blocks, pages, spans
from doc_session import NOT_EXECUTED, Session, UnknownCommandError, record
from doc_stand_ins import stood_in

PAGES = [page for page in pages() if blocks(page)]


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    """The stand-ins, and a folder with what pages take for granted."""
    folder = tmp_path_factory.mktemp("docs")
    with stood_in(folder) as stood:
        with pytest.MonkeyPatch.context() as patch:
            record(folder / "laid out", stood, patch)
        stood.folder = folder / "laid out"
        yield stood


@pytest.fixture
def session(outside, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "page"
    shutil.copytree(outside.folder, folder, symlinks=True)

    def capture():
        said = capsys.readouterr()
        return said.out + said.err

    return Session(folder, outside.server, capture, monkeypatch)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_what_a_page_says_can_be_done(session, page):
    for block in blocks(page):
        session.follow(block)
