"""The editors by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from line_neurons.agent.errors import UsageError
from line_neurons.agent.near_names import choices
from line_neurons.agent.ports import Editor, Generator
from line_neurons.agent.settings import Settings


@dataclass(frozen=True)
class EditorParts:
    """What editors are opened from.

    Args:
        settings: device, precision, permission to download.
        assets: folder of asset packs.
        generator: opens the generator of the images.
        folder: folder of images that were edited elsewhere.
    """

    settings: Settings
    assets: Path
    generator: Callable[[], Generator]
    folder: Path | None = None


def _composed(parts: EditorParts) -> Editor:
    from line_neurons.tools.editors.composed import ComposedEditor
    from line_neurons.tools.image_bank.generator import ImageBankGenerator

    generator = parts.generator()
    if not isinstance(generator, ImageBankGenerator):
        raise UsageError(
            f"the editor composed needs an image bank, and the generator is {parts.settings.generator!r:.60}",
            "name another editor with --editor",
        )
    return ComposedEditor(generator)


EDITORS: Mapping[str, Callable[[EditorParts], Editor]] = {"composed": _composed}
"""Opens each editor."""


def check_editor(name: str) -> None:
    """Check that there is an editor of this name.

    Raises:
        UsageError: there is none.
    """
    if name not in EDITORS:
        raise UsageError(f"there is no editor {name!r:.60}", choices(name, EDITORS))


def open_editor(name: str, parts: EditorParts) -> Editor:
    """Open an editor.

    Raises:
        UsageError: there is no such editor, or it does not fit the generator.
        MissingPartError: a package or its weights are missing.
    """
    check_editor(name)
    return EDITORS[name](parts)
