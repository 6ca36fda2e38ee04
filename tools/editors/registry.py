"""The editors by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from line_neurons.agent.errors import UsageError
from line_neurons.agent.near_names import choices
from line_neurons.agent.ports import Editor, Generator
from line_neurons.agent.settings import Settings
from line_neurons.tools.editors.presets import EDIT_PRESETS


@dataclass(frozen=True)
class EditorParts:
    """What editors are opened from.

    Args:
        settings: device, precision, permission to download.
        assets: folder of asset packs.
        generator: opens the generator of the images.
        spec: the editor as the user named it.
    """

    settings: Settings
    assets: Path
    generator: Callable[[], Generator]
    spec: str = ""


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


def _cut(parts: EditorParts) -> Editor:
    from line_neurons.tools.editors.cut import CutEditor

    return CutEditor(parts.assets)


def _diffusion(parts: EditorParts) -> Editor:
    from line_neurons.tools.editors.diffusion import DiffusionEditor

    settings = parts.settings
    return DiffusionEditor(
        parts.spec,
        settings.diffusion,
        parts.assets,
        device=settings.generator_device or settings.device,
        download=settings.download,
    )


EDITORS: Mapping[str, Callable[[EditorParts], Editor]] = {
    "composed": _composed,
    "cut": _cut,
    **dict.fromkeys(EDIT_PRESETS, _diffusion),
}
"""Opens each editor."""


def check_editor(spec: str) -> str:
    """Return the name of an editor, which a folder or hub id may follow after ``=``.

    Raises:
        UsageError: there is none, or it takes no model.
    """
    name, equals, _ = spec.partition("=")
    if name not in EDITORS:
        raise UsageError(f"there is no editor {spec!r:.60}", choices(name, EDITORS))
    if equals and name not in EDIT_PRESETS:
        raise UsageError(f"the editor {name} takes no model, and {spec!r:.80} names one", f"name {name} alone")
    return name


def open_editor(spec: str, parts: EditorParts) -> Editor:
    """Open an editor.

    Raises:
        UsageError: there is no such editor, or it does not fit the generator.
        MissingPartError: a package or its weights are missing.
    """
    return EDITORS[check_editor(spec)](replace(parts, spec=spec))
