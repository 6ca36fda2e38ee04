"""Completion in fish and zsh, where typer's own leaves something out."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress

_FIRST_TAB = """
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
  %(complete_func)s "$@"
fi
"""
"""End of zsh's script: what is loaded at the first Tab of a session is also called then."""


@contextmanager
def fish_and_zsh() -> Iterator[None]:
    """Let fish and zsh complete the value in ``--scorer=m``, which they replace as a whole word.

    The body prints the completions, or the script of a shell.
    """
    shell = os.environ.get("_LINE_COMPLETE", "")
    if {"--install-completion", "--show-completion"} & {*sys.argv[1:]}:
        _call_at_first_tab()
    if shell not in {"complete_fish", "complete_zsh"}:
        yield
        return
    word = os.environ.get("_TYPER_COMPLETE_ARGS", "").rpartition(" ")[2]
    before = word[: word.find("=") + 1] if word.startswith("--") else ""
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            yield
    finally:
        sys.stdout.write((_fish if shell == "complete_fish" else _zsh)(printed.getvalue(), before))


def _fish(printed: str, before: str) -> str:
    return "".join(f"{before}{line}" for line in printed.splitlines(keepends=True))


def _zsh(printed: str, before: str) -> str:
    """Return the arguments of zsh's ``_arguments``, in which typer's quotes of an apostrophe vanish."""
    quoted = printed.replace("''", "'\\''")
    return re.sub(r"^(_arguments '\*: :\(\()?\"", lambda found: f"{found[0]}{before}", quoted, flags=re.MULTILINE)


def _call_at_first_tab() -> None:
    """Complete zsh's script; without this the first Tab of each session does nothing."""
    # The scripts are no part of typer's interface.
    with suppress(ImportError, AttributeError, KeyError):
        from typer import _completion_shared

        _completion_shared._completion_scripts["zsh"] = f"{_completion_shared.COMPLETION_SCRIPT_ZSH}\n{_FIRST_TAB}"
