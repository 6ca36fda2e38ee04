"""Exact edits of the image bank: the same photograph without a thing, or with another in its place."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from line_neurons.agent.errors import AbsentConceptError, NotDrawableError, UneditableError
from line_neurons.agent.ports import DrawnImage, EditKind, EditRequest, ImageRequest
from line_neurons.tools.editors.canvas import pixels_of
from line_neurons.tools.editors.regions import moved_elsewhere
from line_neurons.tools.editors.salient import no_room
from line_neurons.tools.image_bank.backdrops import Scenery
from line_neurons.tools.images.png import encode_png

if TYPE_CHECKING:
    from line_neurons.tools.editors.canvas import Pixels
    from line_neurons.tools.editors.regions import Mask
    from line_neurons.tools.image_bank.generator import ImageBankGenerator

_VERSION = 1
_VISIBLE = 8
"""Difference of a pixel, of 255, from which it belongs to the thing or its shadow."""


def visible_change(image: Pixels, without: Pixels) -> Mask:
    """Return where an image differs visibly from the same one without a thing: the thing and its shadow.

    Args:
        image: uint8 [H, W, 3].
        without: of the same size.
    """
    visible: Mask = np.abs(image.astype(np.int16) - without).max(axis=-1) > _VISIBLE
    return visible


def where_thing_is(generator: ImageBankGenerator, request: ImageRequest) -> tuple[bytes, Mask]:
    """Return a composed image, and bool [H, W], where its first subject and the subject's shadow are.

    Raises:
        NotDrawableError: the subject is not a cut-out.
    """
    image, without = generator.compose(request), generator.compose(request, leave_out=frozenset({0}))
    return image.png, visible_change(pixels_of(image.png), pixels_of(without.png))


class ComposedEditor:
    """Composes the image of a request again, without the concept; implements the port ``Editor``.

    The same random draws are made, so backdrop, light and all other subjects are equal to the bit; where a place
    is taken out, all but the backdrop. Nothing is estimated: the bank knows what its images show.
    """

    exact = True
    kinds: frozenset[EditKind] = frozenset({"remove", "replace", "insert", "unchanged", "elsewhere"})

    def __init__(self, generator: ImageBankGenerator) -> None:
        self._generator = generator

    @cached_property
    def fingerprint(self) -> str:
        """The generator's fingerprint, and the version of this editor."""
        return f"composed:{_VERSION} {self._generator.fingerprint}"

    @property
    def side(self) -> int:
        """Side of the bank's images."""
        return self._generator.size

    def scene_of(self, concept: str) -> str:
        """Return the place that the concept names, such as ``meadow`` for grass; empty if it names none alone."""
        try:
            plan = self._generator.plan(concept)
        except NotDrawableError:
            return ""
        return "" if plan.things or plan.conditions else plan.place or ""

    def offers(self, concept: str) -> bool:
        """Return whether the bank has the concept as cut-outs."""
        try:
            things = self._generator.plan(concept).things
        except NotDrawableError:
            return False
        return bool(things) and all(source.entry.kind == "cutout" for source in things[0].sources)

    def edit(self, request: EditRequest) -> DrawnImage:
        """See ``Editor.edit``; the image must be one that the generator composed."""
        if request.source is None:
            raise UneditableError(request.concept, "the image was not composed by the image bank")
        return self._work[request.kind](request, request.source)

    @property
    def _work(self) -> dict[EditKind, Callable[[EditRequest, ImageRequest], DrawnImage]]:
        return {
            "remove": self._remove,
            "replace": self._replace,
            "insert": self._insert,
            "unchanged": lambda request, source: self._generator.compose(source),
            "elsewhere": self._elsewhere,
        }

    def _insert(self, request: EditRequest, source: ImageRequest) -> DrawnImage:
        if scene := self.scene_of(request.concept):
            return self._generator.compose(source, scenery=Scenery("scene", scene))
        return self._generator.compose(source, instead=request.concept)

    def _remove(self, request: EditRequest, source: ImageRequest) -> DrawnImage:
        if scene := self.scene_of(request.concept):
            return self._generator.compose(source, scenery=Scenery("plain", scene))
        return self._generator.compose(source, leave_out=self._shown(request.concept, source))

    def _replace(self, request: EditRequest, source: ImageRequest) -> DrawnImage:
        if self._shown(request.concept, source) != {0}:
            raise UneditableError(request.concept, f"{request.concept!r} is not the first subject of the image")
        return self._generator.compose(source, instead=request.other)

    def _elsewhere(self, request: EditRequest, source: ImageRequest) -> DrawnImage:
        """Change as much of the backdrop as the thing covers: there it is taken from the mirrored backdrop.

        Where a scene is taken out, all of the backdrop is mirrored: the scene stays.
        """
        if scene := self.scene_of(request.concept):
            return self._generator.compose(source, scenery=Scenery("mirrored", scene))
        without = self._remove(request, source)
        image, backdrop = pixels_of(request.image), pixels_of(without.png)
        changed = visible_change(image, backdrop)
        moved = moved_elsewhere(changed, request.seed)
        if moved is None:
            raise no_room(request.concept, float(changed.mean()))
        region, overlap = moved
        pixels = np.where(region[..., None], backdrop[:, ::-1], image)
        account = {
            "share": float(region.mean()),
            "overlap": overlap,
            "operations": ["mirrored backdrop elsewhere"],
        }
        return DrawnImage(encode_png(pixels), {**without.provenance, **account}, composed=True)

    def _shown(self, concept: str, source: ImageRequest) -> frozenset[int]:
        """Return the indices of the image's subjects that the concept names.

        Raises:
            AbsentConceptError: there are none.
            NotDrawableError: the bank does not know the concept.
        """
        plan = self._generator.plan(concept)
        if not plan.things:
            raise UneditableError(concept, f"{concept!r} is weather or an hour, and only a thing or place can go")
        captions = {found.entry.caption for thing in plan.things for found in thing.sources}
        sources = self._generator.sources(source)
        shown = frozenset(index for index, found in enumerate(sources) if found.entry.caption in captions)
        if not shown:
            captions_shown = " and ".join(repr(found.entry.caption) for found in sources) or "no thing"
            raise AbsentConceptError(concept, f"the image shows {captions_shown}, not {concept!r}")
        return shown
