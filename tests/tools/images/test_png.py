from io import BytesIO

import numpy as np
from PIL import Image

from line_neurons.agent.ports import DrawnImage
from line_neurons.tools.images.png import encode_png, with_file

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)


def test_a_file_has_the_bytes_that_stores_name_its_image_by():
    file = BytesIO()
    Image.fromarray(PIXELS).save(file, "PNG", compress_level=1)
    assert encode_png(PIXELS) == file.getvalue()
    with Image.open(BytesIO(encode_png(PIXELS))) as opened:
        assert (np.asarray(opened) == PIXELS).all()


def test_only_a_file_that_was_left_out_is_made():
    made = with_file(DrawnImage(b"", {"seed": 1}, PIXELS))
    assert made.png == encode_png(PIXELS)
    assert made.provenance == {"seed": 1}
    given = DrawnImage(b"given", {}, PIXELS)
    assert with_file(given) is given
    nothing = DrawnImage(b"")
    assert with_file(nothing) is nothing
