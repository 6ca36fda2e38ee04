"""What hostile text must not bring about: files elsewhere, programs, connections."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_RUNS = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.connect")
_CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "os.chmod", "os.truncate")
_NAME = re.compile(r"[A-Za-z0-9_.@-]{1,200}")

_heard: list[list[tuple[str, str]]] = []
_installed: list[bool] = []


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if not _heard:
        return
    if event in _CHANGES or (event == "open" and _writes(arguments)):
        _heard[-1].append((event, os.fsdecode(arguments[0]) if isinstance(arguments[0], str | bytes) else ""))
    elif event in _RUNS:
        _heard[-1].append((event, repr(arguments)[:200]))


def _writes(arguments: tuple[object, ...]) -> bool:
    flags = arguments[2] if len(arguments) > 2 else 0
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))


@contextmanager
def confined(folder: Path) -> Iterator[None]:
    """Fail if the body writes beyond ``folder``, starts a program, connects, or gives a file a name of its own.

    What Python keeps of imported modules is not counted.
    """
    # Libraries ask for it, and the first answer comes from a program.
    platform.processor()
    # A hook cannot be taken off again.
    if not _installed:
        sys.addaudithook(_hook)
        _installed.append(True)
    heard: list[tuple[str, str]] = []
    _heard.append(heard)
    try:
        yield
    finally:
        _heard.remove(heard)
    # Beside the store the program keeps one file: the key of the stores' owner.
    places = (str(folder.resolve()), os.environ["XDG_CONFIG_HOME"])
    strange = [
        (event, what)
        for event, what in heard
        if event in _RUNS
        or not (str(Path(what).resolve()).startswith(places) or "__pycache__" in what or what in {"", "/dev/null"})
    ]
    assert strange == []
    names = [path.name for path in folder.rglob("*")]
    assert [name for name in names if not _NAME.fullmatch(name)] == []
