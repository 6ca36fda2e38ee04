"""The text encoders of tiny text-to-image models with random weights embed concepts."""

import numpy as np
import pytest

from line_neurons.agent.errors import UsageError
from line_neurons.agent.settings import Settings
from line_neurons.tools.guidance.text_encoders import open_text_encoder


def opened(folder, **given):
    return open_text_encoder(Settings(generator=str(folder), text_encoder="generator", **given), folder)


def test_both_encoders_of_sdxl_embed_a_concept(folders):
    encoder = opened(folders["sdxl"])
    found = encoder.encode(["cat", "dog", "cat"])
    single = opened(folders["sd15"]).encode(["cat"])
    assert found.dtype == np.float32
    assert found.shape[1] > single.shape[1]
    assert np.linalg.norm(found, axis=1) == pytest.approx([1, 1, 1], abs=1e-6)
    assert np.array_equal(found[0], found[2])
    assert not np.allclose(found[0], found[1])
    # What else is embedded beside it makes no difference.
    assert np.array_equal(encoder.encode(["dog"])[0], found[1])
    assert encoder.encode([]).shape == (0, found.shape[1])


def test_the_t5_of_flux_is_left_out_and_its_clip_is_not(folders):
    assert np.linalg.norm(opened(folders["flux"]).encode(["cat"])) == pytest.approx(1, abs=1e-6)


def test_the_fingerprint_is_that_of_the_text_encoders_alone(folders):
    sdxl = opened(folders["sdxl"]).fingerprint
    assert sdxl == opened(folders["sdxl"], diffusion={"steps": 3, "guidance": 2.0}).fingerprint
    assert sdxl != opened(folders["sd15"]).fingerprint


def test_an_image_bank_has_no_text_encoder():
    with pytest.raises(UsageError, match="the generator bank has no text encoder of its own"):
        open_text_encoder(Settings(generator="bank", text_encoder="generator"), None)
