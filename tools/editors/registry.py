"""The editors by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from line_neurons.agent.errors import UsageError
from line_neurons.agent.near_names import choices
from line_neurons.agent.ports import Editor, Generator
from line_neurons.agent.settings import Settings
from line_neurons.tools.editors.presets import EDIT_PRESETS
from line_neurons.tools.editors.salient import SALIENT, RegionModel, open_region

FOLDER = "folder"
"""The editor of edits that were made elsewhere; its folder follows after ``=``."""


@dataclass(frozen=True)
class EditorParts:
    """What editors are opened from.

    Args:
        settings: device, precision, permission to download.
        spec: the editor as the user named it.
        words: instructions in place of the usual ones, by kind of edit.
        region: what editors of a region take: ``salient``, or ``hf:`` and a CLIPSeg.
    """

    settings: Settings
    assets: Path
    generator: Callable[[], Generator]
    spec: str = ""
    words: Mapping[str, str] = field(default_factory=dict)
    region: str = SALIENT

    def open_region(self) -> RegionModel:
        """Open what finds the region; errors as of ``salient.open_region``."""
        return open_region(self.region, self.assets, self.settings.device, self.settings.download)


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

    return CutEditor(parts.assets, parts.open_region())


def _diffusion(parts: EditorParts) -> Editor:
    from line_neurons.tools.editors.diffusion import DiffusionEditor

    settings = parts.settings
    return DiffusionEditor(
        parts.spec,
        settings.diffusion,
        parts.open_region,
        device=settings.generator_device or settings.device,
        download=settings.download,
        words=parts.words,
    )


def _folder(parts: EditorParts) -> Editor:
    from line_neurons.tools.editors.folder import FolderEditor

    return FolderEditor(Path(parts.spec.partition("=")[2]))


EDITORS: Mapping[str, Callable[[EditorParts], Editor]] = {
    "composed": _composed,
    "cut": _cut,
    FOLDER: _folder,
    **dict.fromkeys(EDIT_PRESETS, _diffusion),
}
"""Opens each editor."""


def check_editor(spec: str, words: Mapping[str, str] | None = None, region: str = SALIENT) -> str:
    """Return the name of an editor, which a folder or hub id may follow after ``=``.

    Raises:
        UsageError: there is none, or it takes no model, no words or no region.
    """
    name, equals, place = spec.partition("=")
    if name not in EDITORS:
        raise UsageError(f"there is no editor {spec!r:.60}", choices(name, EDITORS))
    if words and name not in EDIT_PRESETS:
        raise UsageError(
            f"the editor {name} takes no words", f"leave --words out, or use {', '.join(EDIT_PRESETS)}"
        )
    fills = [name for name, preset in EDIT_PRESETS.items() if preset.fills]
    if region != SALIENT and name not in {"cut", *fills}:
        raise UsageError(
            f"the editor {name} takes no region", f"leave --region out, or use {', '.join(('cut', *fills))}"
        )
    if name == FOLDER and not place:
        raise UsageError("the editor folder needs a folder of edits", "name it with --from-folder")
    if equals and name not in {*EDIT_PRESETS, FOLDER}:
        raise UsageError(f"the editor {name} takes no model, and {spec!r:.80} names one", f"name {name} alone")
    return name


def open_editor(spec: str, parts: EditorParts) -> Editor:
    """Open an editor.

    Raises:
        UsageError: there is no such editor, or it does not fit the generator.
        MissingPartError: a package or its weights are missing.
    """
    return EDITORS[check_editor(spec, parts.words, parts.region)](replace(parts, spec=spec))
