"""The folder of the asset packs, and whether a pack is installed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from line_neurons.agent.errors import MissingPartError
from line_neurons.tools.assets import manifest
from line_neurons.tools.assets.packs import Pack, find

State = Literal["installed", "missing", "damaged", "outdated"]


def assets_root() -> Path:
    """Return the folder of the packs: ``LINE_ASSETS``, or one in the user's cache."""
    configured = os.environ.get("LINE_ASSETS")
    if configured:
        return Path(configured).expanduser()

    import platformdirs

    return platformdirs.user_cache_path("line-neurons") / "assets"


def state(pack: Pack, root: Path | None = None) -> State:
    """Tell whether a pack is installed, from its manifest and the sizes of its files.

    Returns:
        ``outdated`` if the folder was installed from another version of the pack, ``damaged`` if the manifest is
        unreadable or a file is missing or has another size.
    """
    folder = (root or assets_root()) / pack.name
    if not folder.exists():
        return "missing"
    try:
        written = manifest.read(folder)
    except (OSError, ValueError):
        return "damaged"
    if written.tree_sha256 != pack.tree_sha256:
        return "outdated"
    for file in written.files:
        path = folder / file.path
        if not path.is_file() or path.stat().st_size != file.size:
            return "damaged"
    return "installed"


def asset_dir(name: str) -> Path:
    """Return the folder of an installed pack.

    Raises:
        UsageError: there is no such pack.
        MissingPartError: the pack is not installed, or not complete.
    """
    pack = find(name)
    found = state(pack)
    if found == "installed":
        return assets_root() / pack.name
    word = "not installed" if found == "missing" else found
    raise MissingPartError(f"the asset pack {name!r} is {word}", f"line assets install {name}")
