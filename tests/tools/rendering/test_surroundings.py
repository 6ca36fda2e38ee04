"""Grounds, panoramas and lights."""

import numpy as np
import pytest

from line_neurons.tools.image_bank.phrases import CONDITIONS as NAMED_CONDITIONS
from line_neurons.tools.image_bank.phrases import PLACES as NAMED_PLACES
from line_neurons.tools.rendering.surroundings import (
    ASKED,
    CONDITIONS,
    GROUNDS,
    INDOORS,
    NEUTRAL,
    NIGHT,
    PLACES,
    lighting_of,
    read_ground,
    read_panorama,
)


def test_every_place_has_a_ground_and_panoramas_that_exist(pack):
    for place in PLACES.values():
        assert place.ground in {*GROUNDS, ""}
        assert all(read_panorama(pack, name) for name in place.panoramas)
    assert all(read_panorama(pack, name) for names in CONDITIONS.values() for name in names)
    assert set(INDOORS) <= set(GROUNDS)
    assert set(CONDITIONS) <= set(NAMED_CONDITIONS)
    assert ASKED - {"sand", "city"} <= set(NAMED_PLACES)


@pytest.mark.parametrize("name", GROUNDS)
def test_grounds_are_textures_that_repeat_without_seams(pack, name):
    texture = read_ground(pack, GROUNDS[name], np.random.default_rng(0))
    assert np.isfinite(texture).all()
    if name != "water":
        assert texture.shape[2] == 3 and 0 <= texture.min() <= texture.max() <= 1
    if GROUNDS[name].make is not None:
        inside = np.abs(np.diff(texture, axis=0)).max()
        assert np.abs(texture[0] - texture[-1]).max() <= 1.2 * inside


def test_the_hour_decides_over_the_words_of_the_prompt():
    assert lighting_of("natural sunlight", ("night",)) is NIGHT
    assert lighting_of("natural sunlight").name == "sunlight"
    assert lighting_of("disco") is NEUTRAL


def test_a_broken_panorama_is_an_error(pack, tmp_path):
    (tmp_path / "hdri").mkdir()
    (tmp_path / "hdri" / "park.exr.js").write_text("export default 1")
    with pytest.raises(ValueError, match=r"park\.exr\.js has no panorama"):
        read_panorama(tmp_path, "park")
