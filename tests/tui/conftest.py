import sys

import pytest

from line_neurons.tui.cli import main


@pytest.fixture
def line(capsys, monkeypatch, tmp_path):
    """Run the command in an empty folder; gives status, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LINE_STORE", str(tmp_path / "store"))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["line", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        written = capsys.readouterr()
        return end.value.code, written.out, written.err

    return run
