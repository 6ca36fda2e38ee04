"""One page of the documentation, followed from its top to its end in a folder and a store of its own."""

from __future__ import annotations

import argparse
import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from PIL import Image

from line_neurons.agent.settings import load_settings
from line_neurons.tools.assets.packs import PACKS
from line_neurons.tools.image_bank.folder import open_bank
from line_neurons.tools.store.runs import RunStore
from line_neurons.tui.cli import jobs as labelling
from line_neurons.tui.cli.main import app
from support.doc_commands import ROOT, SHELL, Block, Command
from support.doc_stand_ins import HERE, THINGS, Painter
from support.store_factory import at_work

FINISHED, OTHER, UNFINISHED, FAILED = "resnet50-fc-1", "resnet50-fc-2", "resnet50-layer4-1", "resnet50-avgpool-1"
"""The runs that every page's store has: all units labelled (two runs), stopped amid its search, a failed unit."""

STANDS = {
    "...": "torchvision:mobilenet_v2 classifier.1 tiger",
    "UNIT": "tabby",
    "PATH": "store",
    "FOLDER": "folder",
    "INVERT/resnet18-avgpool.csv": "assets/explanations/INVERT/resnet18-avgpool.csv",
    "~/imagenet-val": "imagenet-val",
    "~/imagenet/val": "imagenet/val",
    "~/archives": "archives",
    "~/numbered": "numbered",
    "~/flowers": "captioned",
    "~/photos": "photos",
    "~/photos/control": "photos/control",
    "photos:~/photos": "photos:photos",
    "bank:/path/to/folder": "bank:captioned",
    "sdxl=/models/sdxl": "sdxl=sdxl",
    "hf:ILSVRC/imagenet-1k@validation": "hf:imagenet",
    "http://gpu1:11434": "SERVER",
    "http://gpu1:11434,http://gpu2:11434": "SERVER",
    "http://gpu1:11434,http://gpu2:11434,gpu3": "SERVER",
    "http://gpu1:8000/v1": "OPENAI",
    "http://gpu1:8000/v1,http://gpu2:8000/v1": "OPENAI",
    "langchain:package.module.Class": "langchain:chat_model.Chat",
}
"""What a word of a command is replaced by; ``RUN`` and ``OTHER`` are the runs that suit the command."""
PYTHON = {"activations": np.zeros((4, 2048), np.float32), "labels": np.array([0, 1, 0, 1])}
"""What Python snippets take for granted."""
STATUS = {"doctor": {0, 1}, "assets verify": {0, 1}, "explain": {0, 3}, "batch": {0, 3}}
"""What else than 0 a command may end with: the asset packs are not here, and small banks image few concepts."""
NOT_EXECUTED = {
    "langgraph dev --no-browser": "a server; tests/graphs starts it on a free port",
    "ollama serve": "a server of its own; tests/ollama runs a real one",
    "hf download stabilityai/stable-diffusion-xl-base-1.0 --local-dir sdxl --include *.json --include *.txt"
    " --include *.fp16.safetensors": "asks a model hub",
}
"""Commands that no test can carry out, with the reason; ``test_commands`` counts them."""
_PLACEHOLDER = re.compile(r"[A-Z][A-Z_-]{2,}")


class UnknownCommandError(AssertionError):
    """The documentation says something that the test does not know how to follow."""


class Session:
    """Follows a page.

    Args:
        folder: where its commands are typed; holds the laid out files and ``store``.
        server: address of the Ollama server.
        capture: gives what was printed since it was last called.
        patch: changes the environment for the page.
    """

    def __init__(self, folder: Path, server: str, capture: Callable[[], str], patch: pytest.MonkeyPatch) -> None:
        self.folder, self.server, self.capture, self.patch = folder, server, capture, patch
        self.printed = ""
        self.unexecuted: list[str] = []
        self._names: dict[str, object] = dict(PYTHON)
        self._programs: dict[str, Callable[[Command], None]] = {
            "line": self._line, "make": self._make, "pip": self._pip, "python": self._python,
            "apt-get": self._pinned, "for": self._pinned, "cd": self._nothing, "git": self._nothing,
        }  # fmt: skip
        HERE.clear()
        HERE.update({"torchvision:mobilenet_v2@IMAGENET1K_V1", "planted:mobilenet_v2"})
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        patch.setenv("LINE_STORE", str(folder / "store"))

    def follow(self, block: Block) -> None:
        """Do what a block says.

        Raises:
            UnknownCommandError: it is nothing that the test knows.
        """
        languages = {
            "python": self._snippet,
            "toml": self._settings,
            "csv": self._captions,
            "tree": self._tree,
            "text": self._output,
            "bibtex": self._citation,
        }
        if block.language in SHELL:
            for command in block.commands():
                self.type(command)
        elif block.language in languages:
            languages[block.language](block)
        else:
            raise UnknownCommandError(f"{block.place}: a block of {block.language!r}")

    def type(self, command: Command) -> None:
        """Carry out one command."""
        words = tuple(
            re.sub(r"^\.venv/bin/", "", word) if at == 0 else word for at, word in enumerate(command.words)
        )
        command = Command(command.place, words, command.variables)
        if command.text in NOT_EXECUTED:
            self.unexecuted.append(command.text)
            return
        if words[0] not in self._programs:
            raise UnknownCommandError(f"{command.place}: {command.text}")
        with pytest.MonkeyPatch.context() as patch:
            for variable in command.variables:
                patch.setenv(*variable.split("=", maxsplit=1))
            self._programs[words[0]](command)

    def _nothing(self, command: Command) -> None:
        """What comes before the first command: a clone, and the way into its folder."""

    def _line(self, command: Command) -> None:
        arguments = self._bound(command.words[1:], command)
        self.patch.setattr(sys, "argv", ["line", *arguments])
        with self._prepared(arguments):
            try:
                status = app(arguments, standalone_mode=False) or 0
            except Exception as error:
                told = getattr(error, "format_message", None)
                said = told() if told else error
                raise AssertionError(f"{command.place}: {command.text}: {said}") from error
        printed = self.capture()
        self.printed += printed
        allowed = STATUS.get(arguments[0]) or STATUS.get(" ".join(arguments[:2]), {0})
        assert status in allowed, f"{command.place}: {command.text} ended with {status}:\n{printed[-2000:]}"

    def _bound(self, words: Sequence[str], command: Command) -> list[str]:
        if words[0] == "resume":
            runs = cycle([self._unfinished()])
        else:
            first = {"stop": UNFINISHED, "retry": FAILED}.get(words[0], FINISHED)
            runs = cycle([first, OTHER])
        bound: list[str] = []
        for word in words:
            stands = STANDS.get(word, word)
            if word in {"RUN", "OTHER"}:
                stands = next(runs)
            elif word == "..." and words[0] == "batch":
                stands = "torchvision:mobilenet_v2 classifier.1 --units tiger"
            stands = {"SERVER": self.server, "OPENAI": os.environ["OPENAI_BASE_URL"]}.get(stands, stands)
            bound += stands.split() if word == "..." else [stands]
        for word in bound:
            if _PLACEHOLDER.fullmatch(word) or word.startswith(("~", "/path")):
                raise UnknownCommandError(f"{command.place}: {word} in {command.text!r} stands for nothing")
        return bound

    def _unfinished(self) -> str:
        """A run that ``line resume`` finds something to do on."""
        with closing(RunStore(self.folder / "store", read_only=True)) as runs:
            if runs.run(UNFINISHED).status != "finished":
                return UNFINISHED
        app(["steer", FINISHED, "tabby", "--again"], standalone_mode=False)
        return FINISHED

    @contextmanager
    def _prepared(self, arguments: Sequence[str]) -> Iterator[None]:
        """What has to be the case while a command works."""
        if "--from-folder" in arguments:
            self._edit(self.folder / arguments[arguments.index("--from-folder") + 1])
        if arguments[0] != "stop":
            yield
            return
        at_work(self.folder / "store", UNFINISHED)
        yield
        with closing(RunStore(self.folder / "store")) as runs:
            with runs.atomic() as db:
                db.execute("DELETE FROM leases")
            runs.update_run(UNFINISHED, status="interrupted")

    def _edit(self, folder: Path) -> None:
        """Edit the images that were exported, as a reader would."""
        originals = list(folder.glob("*/original.png"))
        assert originals, f"nothing was exported to {folder}"
        for original in originals:
            edited = Image.open(original)
            edited.paste((90, 90, 90), (300, 300, 700, 700))
            edited.save(original.with_name("remove.png"))

    def _make(self, command: Command) -> None:
        """What the target would do; its own ``line`` commands are carried out."""
        dry = subprocess.run(
            ["make", "-n", *command.words[1:]], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert dry.returncode == 0, f"{command.place}: {dry.stderr}"
        for line in dry.stdout.splitlines():
            if line.startswith(".venv/bin/line "):
                self._line(Command(f"{command.place}, {command.text}", tuple(line.split())))

    def _pip(self, command: Command) -> None:
        """Packages to install are this one, with extras that it has; archives to fetch are those of the packs."""
        if command.words[1] == "download":
            self._pinned(command)
            return
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        for word in command.words[2:]:
            if word.startswith("-"):
                continue
            assert word.startswith(".["), f"{command.place}: {word} is on no index, or a package of others"
            wanted = Requirement(word.replace(".[", "line-neurons[", 1))
            assert wanted.extras <= extras.keys(), f"{command.place}: no extra {wanted.extras - extras.keys()}"

    def _pinned(self, command: Command) -> None:
        """Archives that are to be fetched by hand are those that the asset packs pin."""
        pins = {(one.package, one.version) for pack in PACKS for one in pack.artifacts}
        named = re.findall(r"([\w.$-]+)={1,2}([\w.:+~-]+)", command.text)
        assert named, f"{command.place}: {command.text} names no archive"
        for package, version in named:
            numbers = range(1, 23) if "$n" in package else (0,)
            for number in numbers:
                pin = (package.replace("$n", str(number)), version)
                assert pin in pins, f"{command.place}: no pack has {pin}"

    def _python(self, command: Command) -> None:
        """A benchmark or evaluation: only its options are read, by its own parser; it takes minutes to days."""

        class Parsed(Exception):
            pass

        def parse(parser, arguments=None, namespace=None, real=argparse.ArgumentParser.parse_args):
            real(parser, arguments, namespace)
            raise Parsed

        is_module = command.words[1] == "-m"
        program, arguments = command.words[2 if is_module else 1], command.words[3 if is_module else 2 :]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(argparse.ArgumentParser, "parse_args", parse)
            patch.setattr(sys, "argv", [program, *arguments])
            # A test has imported the module already; run here, it is another one.
            patch.delitem(sys.modules, program, raising=False)
            try:
                if program.endswith(".speed"):
                    assert not arguments
                    runpy.run_module(program, run_name="looked at", alter_sys=True)
                elif is_module:
                    runpy.run_module(program, run_name="__main__", alter_sys=True)
                else:
                    runpy.run_path(str(ROOT / program), run_name="__main__")
            except Parsed:
                pass
            except SystemExit as end:
                assert not end.code, f"{command.place}: {command.text}: {self.capture()}"
        self.capture()

    def _snippet(self, block: Block) -> None:
        """Python: a file if its first line names one, else carried out."""
        if name := re.match(r"# (\w+\.py)\n", block.text):
            (self.folder / name[1]).write_text(block.text)
            compile(block.text, block.place, "exec")
            return
        exec(compile(block.text, block.place, "exec"), self._names)
        self.printed += self.capture()

    def _settings(self, block: Block) -> None:
        """Settings that exist and fit; they hold for what follows if the block says that it is line.toml."""
        text = block.text
        for word, stands in STANDS.items():
            text = text.replace(f'"{word}"', f'"{stands}"')
        file = self.folder / "snippet.toml"
        file.write_text(text)
        with pytest.MonkeyPatch.context() as patch:
            for name in [one for one in os.environ if one.startswith("LINE_")]:
                patch.delenv(name)
            load_settings(file)
        if block.text.startswith("# line.toml"):
            file.rename(self.folder / "line.toml")

    def _captions(self, block: Block) -> None:
        """A table of captions: an image bank reads it."""
        folder = self.folder / f"bank of line {block.line}"
        for row in block.text.splitlines()[1:]:
            image = folder / row.split(",")[0]
            image.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.folder / "cat.jpg", image)
        (folder / "captions.csv").write_text(block.text)
        bank = open_bank(str(folder))
        assert len(bank.entries) == len(block.text.splitlines()) - 1

    def _tree(self, block: Block) -> None:
        """Files that a reader has: images by their names."""
        for name in block.text.splitlines():
            file = self.folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.folder / "cat.jpg", file)

    def _citation(self, block: Block) -> None:
        """Check that a BibTeX entry names the paper and the authors of CITATION.cff."""
        cited = (ROOT / "CITATION.cff").read_text().partition("preferred-citation:")[2]
        plain = re.sub(r"[{}\\]", "", block.text)
        for field in ("title", "journal"):
            value = re.search(rf"  {field}: \"?([^\"\n]+)", cited)
            assert value is not None
            assert value[1] in plain
        assert re.findall(r"(\w+), \w+(?: and|,\n)", plain) == re.findall(r"family-names: (\w+)", cited)

    def _output(self, block: Block) -> None:
        """What a page shows of a command has the form of what the commands before it printed."""
        printed = {_form(line) for line in self.printed.splitlines()}
        for line in block.text.splitlines():
            assert not line.strip() or _form(line) in printed, (
                f"{block.place}: no command printed anything of the form of {line.strip()!r}; "
                f"known: {sorted(printed)}"
            )


_ROW = re.compile(
    r"(?P<unit>\d+) (?P<name>[a-z' -]+? )?(?P<label>[a-z' -]+?) (?P<score>[\d.e-]+)(?: ± (?:[\d.e-]+|\?))?"
    r" (?P<margin>[\d.e-]+)"
    r" (predefined|(discovered|proposed), (step \d+|summary)) (?P<steps>\d+)"
    r"(?: [\d.]+)?(?: [a-z ,]+)?"  # Few images of small stand-ins speak for a label: it is marked.
)


def _form(line: str) -> str:
    """A printed line without what differs from run to run: of a row of labels, that it is one."""
    words = " ".join(line.split())
    if words.startswith("unit "):
        # Columns that a table has where a label is marked.
        words = words.removesuffix(" marked").removesuffix(" AUC")
    return "a unit's row" if _ROW.fullmatch(words) else re.sub(r"\d+(\.\d+)?", "0", words)


def record(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Make the runs that every page's store has, in ``store`` of a folder."""
    patch.chdir(folder)
    patch.setenv("LINE_STORE", str(folder / "store"))
    patch.setenv("LINE_VOCABULARY_SHARE", "1")
    batch = ["batch", "torchvision:resnet50"]
    parts = ["--download", "--generator", "bank", "--llm", "ollama:llama3.1:8b", "--top", "5"]
    whole = [*parts, "--random", str(len(THINGS)), "-N", "4"]
    units = ["--units", "tabby", "--units", "tiger"]
    assert not app([*batch, "fc", *units, *whole], standalone_mode=False)
    assert not app([*batch, "fc", *units, *parts, "--seed", "1"], standalone_mode=False)
    patch.setattr(Painter, "out_of_order", True)
    failing = ["--generator", "sdxl", "--max-concurrent-units", "1", "--download"]
    assert app([*batch, "avgpool", "--units", "3", *failing], standalone_mode=False) == 1
    patch.setattr(Painter, "out_of_order", False)
    real = labelling.work

    def work(parts, run, watch, drain):
        return real(
            parts, run, lambda progress: (watch(progress), drain.request_drain("the page's reader")), drain
        )

    patch.setattr(labelling, "work", work)
    assert app([*batch, "layer4", "--units", "252", *parts, "--init", "vocabulary", "--vocabulary", "words.txt"],
               standalone_mode=False) == 130  # fmt: skip
