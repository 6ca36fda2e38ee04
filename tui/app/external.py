"""Open a file or folder with the desktop's own program, where there is a desktop."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path


def open_outside(path: Path) -> bool:
    """Show a file or folder in another window; False where nothing can, as over SSH."""
    if sys.platform == "darwin":
        opener = shutil.which("open")
    else:
        seen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        opener = shutil.which("xdg-open") if seen else None
    if opener is None:
        return False
    try:
        subprocess.Popen(  # noqa: S603 - a path is one argument, and no shell reads it
            [opener, str(path.absolute())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return False
    return True
