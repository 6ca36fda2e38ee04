"""Edits in the cache: made once, of the size of the canvas, made again where their file is corrupt."""

import io

import numpy as np
import pytest
from PIL import Image

from line_neurons.agent.errors import BackendError, UneditableError
from line_neurons.agent.ports import EditRequest
from line_neurons.tools.cache.image_cache import ImageCache
from line_neurons.tools.editors.canvas import to_canvas
from line_neurons.tools.editors.edited_images import EditedImages
from support.edit_parts import FaultyEditor


def file_of(width, height, kind="PNG"):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def request(images, image_id, **changes):
    return EditRequest(**{"image": images.file(image_id), "kind": "remove", "concept": "dog", **changes})


@pytest.mark.parametrize(("width", "height", "kind"), [(300, 200, "JPEG"), (64, 90, "PNG"), (128, 128, "JPEG")])
def test_a_canvas_is_the_central_square_at_the_side_of_the_editor(width, height, kind):
    canvas = Image.open(io.BytesIO(to_canvas(file_of(width, height, kind), 128)))
    assert (canvas.format, canvas.size) == ("PNG", (128, 128))


def test_an_image_that_is_a_canvas_stays_to_the_byte():
    image = file_of(128, 128)
    assert to_canvas(image, 128) is image


def test_an_edit_is_made_once_also_by_another_process(tmp_path):
    editor = FaultyEditor(lambda pixels: 255 - pixels)
    cache = ImageCache(tmp_path)
    images = EditedImages(cache, editor)
    original = images.canvas(file_of(200, 150))
    first = [images.edit(request(images, original)) for _ in range(3)]
    other = EditedImages(ImageCache(tmp_path), editor)
    assert {*first, other.edit(request(other, original))} == {first[0]} != {original}
    assert len(editor.edits) == 1
    assert images.edit(request(images, original, seed=1)) == first[0]
    images.edit(request(images, original, concept="cat"))
    assert len(editor.edits) == 3, "another seed or concept is another edit"


def test_a_corrupt_edit_is_made_again(tmp_path):
    editor = FaultyEditor(lambda pixels: 255 - pixels)
    cache = ImageCache(tmp_path)
    images = EditedImages(cache, editor)
    original = images.canvas(file_of(128, 128))
    edit = images.edit(request(images, original))
    cache.image_path(edit).unlink()
    assert images.edit(request(images, original)) == edit
    assert len(editor.edits) == 2
    assert cache.stats.regenerated == 1


def test_an_edit_of_another_size_is_refused_with_both_sizes(tmp_path):
    editor = FaultyEditor(lambda pixels: np.kron(pixels, np.ones((2, 2, 1))))
    images = EditedImages(ImageCache(tmp_path), editor)
    original = images.canvas(file_of(128, 128))
    with pytest.raises(BackendError, match="256 x 256 pixels for one of 128 x 128"):
        images.edit(request(images, original))


def test_an_edit_of_one_colour_is_kept_and_a_refused_one_is_not(tmp_path):
    images = EditedImages(ImageCache(tmp_path), FaultyEditor(lambda pixels: pixels * 0))
    original = images.canvas(file_of(128, 128))
    assert (
        Image.open(io.BytesIO(images.file(images.edit(request(images, original))))).getextrema() == ((0, 0),) * 3
    )
    images = EditedImages(ImageCache(tmp_path), FaultyEditor(lambda pixels: None, fingerprint="other"))
    with pytest.raises(UneditableError, match="no room"):
        images.edit(request(images, original))
