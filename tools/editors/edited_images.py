"""Edited images in the cache: each edit is made once, and again only where its file is corrupt."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence

from line_neurons.agent.errors import BackendError
from line_neurons.agent.ports import DrawnImage, Editor, EditRequest, ImageRequest, Progress
from line_neurons.tools.cache.image_cache import ImageCache
from line_neurons.tools.editors.canvas import check_size, to_canvas

_CANVAS = "canvas:1"


class EditedImages:
    """Images of an editor in a cache, and the canvases that they were made from.

    Args:
        cache: keeps the images; the key of an edit is the editor's fingerprint, the SHA-256 of the image, the kind
            of edit, its words and its seed.
    """

    def __init__(self, cache: ImageCache, editor: Editor) -> None:
        self._cache = cache
        self.editor = editor

    def canvas(self, image: bytes) -> str:
        """Bring an image to the editor's canvas, and keep it.

        Returns:
            its id.

        Raises:
            BackendError: it cannot be decoded.
        """
        return keep_canvas(self._cache, image, self.editor.side)

    def file(self, image_id: str) -> bytes:
        """Return the PNG file of an image; see ``ImageCache.image_bytes``."""
        return self._cache.image_bytes(image_id)

    def edit(self, request: EditRequest) -> str:
        """Return the id of an edited image; it is made if the cache does not have it.

        Raises:
            UneditableError: see ``Editor.edit``.
            BackendError: the editor failed, or returned an image of another size.
        """

        def make() -> DrawnImage:
            edited = self.editor.edit(request)
            check_size(edited.png, self.editor.side, self.editor.fingerprint.partition(" ")[0])
            # What an edit shows is checked later: an image of one colour is its result, too.
            return DrawnImage(edited.png, edited.provenance, composed=True)

        words = [request.kind, request.concept, *([request.other] if request.other else [])]
        key = f"{json.dumps(words, ensure_ascii=False)} in {hashlib.sha256(request.image).hexdigest()}"
        return keep_image(self._cache, self.editor.fingerprint, key, request.concept, request.seed, make)

    def derived(self, kind: str, image_id: str, concept: str, make: Callable[[], bytes]) -> str:
        """Keep an image that is computed from another one, such as one that was shifted back."""
        return keep_image(
            self._cache, f"{kind}:1", f"{kind} {image_id}", concept, 0,
            lambda: DrawnImage(make(), composed=True),
        )  # fmt: skip


def keep_canvas(cache: ImageCache, image: bytes, side: int) -> str:
    """Bring an image to a canvas, and keep it in a cache; return its id.

    Raises:
        ImageError: it cannot be decoded.
    """
    made = to_canvas(image, side)
    key = f"canvas of {hashlib.sha256(image).hexdigest()}"
    return keep_image(cache, f"{_CANVAS}:{side}", key, "", 0, lambda: DrawnImage(made, composed=True))


def keep_image(
    cache: ImageCache, fingerprint: str, key: str, concept: str, seed: int, make: Callable[[], DrawnImage]
) -> str:
    """Return the id of an image that no search generates; it is made if a cache does not have it.

    Args:
        fingerprint: of what makes it.
        concept: what it shows; may be empty.
    """
    # No angle: such images are none of a search.
    request = ImageRequest(concept, "", "", seed, key)
    (image,) = cache.images([request], _Maker(fingerprint, make))
    return image


class _Maker:
    """One image as a generator, for the cache."""

    batch_size = 1

    def __init__(self, fingerprint: str, make: Callable[[], DrawnImage]) -> None:
        self.fingerprint = fingerprint
        self._make = make

    def synthesize(self, requests: Sequence[ImageRequest], progress: Progress | None = None) -> list[DrawnImage]:
        if len(requests) != 1:
            raise BackendError(f"one edit at a time, not {len(requests)}")
        return [self._make()]

    def suggest(self, concepts: Sequence[str], limit: int) -> list[str]:
        return []
