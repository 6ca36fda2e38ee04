from pathlib import Path

import pytest

from line_neurons.agent.settings import Settings
from line_neurons.tui.cli.runs.disk import disk_line, image_bytes

GB = 10**9


@pytest.mark.parametrize(
    ("generator", "units", "low", "high"),
    [("sdxl", 2048, 40, 82), ("sdxl-turbo", 2048, 10, 21), ("bank", 2048, 2, 6), ("sdxl", 1, 0.1, 0.2)],
)
def test_the_images_of_a_layer_take_tens_of_gigabytes(generator, units, low, high):
    least, most = image_bytes(Settings(generator=generator), units)
    assert low * GB <= least <= most <= high * GB


def test_more_units_and_larger_images_take_more():
    of = [image_bytes(Settings(generator="sdxl"), units) for units in (1, 49, 50, 51, 200, 1592, 5000)]
    assert of == sorted(of)
    small = image_bytes(Settings(generator="sdxl", diffusion={"size": 512}), 200)
    assert 4 * small[0] == pytest.approx(of[4][0], abs=4)
    assert image_bytes(Settings(generator="own/model"), 200) is None


def test_a_disk_that_may_be_too_small_is_named_with_what_to_do():
    store = Path("/data/store")
    assert disk_line((3 * GB, 6 * GB), 50 * GB, 50, store) == (
        "the images of 50 units take about 3.0 GB to 6.0 GB; 50.0 GB are free"
    )
    line = disk_line((30 * GB, 60 * GB), 50 * GB, 2048, store)
    assert line.endswith("50.0 GB are free in /data/store: name a larger disk with --store, or choose smaller"
                         " images or fewer units")  # fmt: skip
