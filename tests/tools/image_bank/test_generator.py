"""The image bank behind the generator port."""

import io
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from line_neurons.agent.errors import BackendError, NotDrawableError, UsageError
from line_neurons.agent.ports import ImageRequest
from line_neurons.tools.image_bank.folder import folder_bank
from line_neurons.tools.image_bank.generator import BankSettings, ImageBankGenerator
from line_neurons.tools.image_bank.plans import NotComposableError

ANGLES = ("extreme close-up", "wide angle shot", "aerial view", "low angle")
LIGHTINGS = ("cinematic lighting", "natural sunlight", "studio lighting")
TEMPLATE = "A realistic photo of a {concept}, {angle}, {lighting}"


def ask(concept, seed=0, angle=ANGLES[0], lighting=LIGHTINGS[0]):
    return ImageRequest(concept, angle, lighting, seed, TEMPLATE)


def pixels(image):
    return np.asarray(Image.open(io.BytesIO(image.png)), np.float32)


@pytest.fixture
def generator(bank, encoder):
    return ImageBankGenerator(bank, encoder, settings=BankSettings(size=64))


@given(
    concept=st.sampled_from(["dog", "cat", "red ball", "dog and ball", "dog in snow", "forest", "cat at night"]),
    angle=st.sampled_from((*ANGLES, "", "from behind")),
    lighting=st.sampled_from((*LIGHTINGS, "", "disco")),
    seed=st.integers(0, 2**31 - 1),
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_same_request_gives_the_same_square_rgb_image(
    generator, bank, encoder, concept, angle, lighting, seed
):
    request = ask(concept, seed, angle, lighting)
    (first,) = generator.synthesize([request])
    (again,) = ImageBankGenerator(bank, encoder, settings=BankSettings(size=64)).synthesize([request])
    assert first == again
    image = Image.open(io.BytesIO(first.png))
    assert (image.format, image.mode, image.size) == ("PNG", "RGB", (64, 64))
    json.dumps(dict(first.provenance))


@pytest.mark.parametrize("concept", ["dog", "cat", "beach"])
def test_different_seeds_give_different_images(generator, concept):
    drawn = generator.synthesize([ask(concept, seed) for seed in range(6)])
    assert len({image.png for image in drawn}) == 6


def test_a_image_does_not_depend_on_what_was_asked_with_it(generator):
    alone = generator.synthesize([ask("dog", 3)])
    assert generator.synthesize([ask("ball", 1), ask("dog", 3)])[1:] == alone


def test_consecutive_seeds_use_every_source_image(generator):
    drawn = generator.synthesize([ask("dog", seed) for seed in (7, 8)])
    assert {image.provenance["subjects"][0]["file"] for image in drawn} == {"dog1.png", "dog2.png"}


def test_a_broader_term_is_drawn_as_several_things(generator):
    drawn = generator.synthesize([ask("animal", seed) for seed in range(4)])
    assert {image.provenance["subjects"][0]["caption"] for image in drawn} == {"cat", "dog"}


def test_search_and_held_out_images_are_never_mixed(bank, encoder):
    for split, allowed in (("search", {"dog1.png", "dog2.png"}), ("heldout", {"dog3.png"})):
        generator = ImageBankGenerator(bank, encoder, split, BankSettings(size=64))
        drawn = generator.synthesize([ask("dog", seed) for seed in range(12)])
        assert {image.provenance["subjects"][0]["file"] for image in drawn} == allowed
        backgrounds = {image.provenance["background"].get("file") for image in drawn}
        assert split == "search" or "shore.jpg" not in backgrounds


def test_the_provenance_tells_what_was_used_and_done(generator, bank):
    (image,) = generator.synthesize([ask("red dog on the beach", 1, "low angle")])
    account = image.provenance
    (subject,) = account["subjects"]
    assert subject["phrase"] == "dog"
    assert (subject["caption"], subject["matched"], subject["similarity"]) == ("dog", "dog", 1.0)
    assert len(subject["sha256"]) == 64
    assert account["background"]["file"] == "shore.jpg"
    assert account["scene"] == ["beach"]
    assert account["colour"] == ["red"]
    assert account["angle"] == "low angle: low"
    assert "cinematic" in account["lighting"]
    assert any("recoloured red" in operation for operation in account["operations"])
    assert account["bank"] == bank.fingerprint


def test_words_that_were_not_drawn_are_reported(bank, encoder):
    generator = ImageBankGenerator(bank, encoder, settings=BankSettings(size=64, threshold=0.4))
    (image,) = generator.synthesize([ask("wooden ball")])
    assert image.provenance["ignored"] == ["wooden"]


def test_an_unknown_angle_or_light_is_drawn_neutral_and_said(generator):
    (image,) = generator.synthesize([ask("dog", 0, "from behind", "disco")])
    assert image.provenance["angle"] == "from behind: neutral"
    assert "not known" in image.provenance["lighting"]


def test_a_recoloured_thing_has_the_colour(generator):
    red, blue = (
        pixels(generator.synthesize([ask(f"{c} ball on white background", 2)])[0]) for c in ("red", "blue")
    )
    assert red[32, 32, 0] > red[32, 32, 2] + 60
    assert blue[32, 32, 2] > blue[32, 32, 0] + 60


def test_night_is_darker_and_snow_is_lighter(generator):
    plain, night, snow = (
        pixels(generator.synthesize([ask(c, 5, "wide angle shot", "studio lighting")])[0]).mean()
        for c in ("forest", "forest at night", "snowy forest")
    )
    assert night < plain < snow


def test_close_up_shows_the_thing_larger_than_a_wide_angle(generator):
    def area(angle):
        image = pixels(generator.synthesize([ask("red ball on white background", 3, angle, "studio lighting")])[0])
        return (image[..., 0] > image[..., 2] + 40).mean()

    assert area("extreme close-up") > 1.8 * area("wide angle shot")


def test_one_undrawable_concept_refuses_the_batch_before_drawing(generator):
    done = []
    with pytest.raises(NotDrawableError, match="democracy"):
        generator.synthesize([ask("dog"), ask("democracy")], lambda *progress: done.append(progress))
    assert done == []


@pytest.mark.parametrize(
    ("concept", "reason"),
    [
        ("cat on the beach", "whole photographs"),
        ("red cat", "whole photographs"),
        ("dog on the street", "no background of 'road'"),
        ("dog in a storm", "no background of 'storm'"),
    ],
)
def test_what_cannot_be_put_together_is_refused_with_the_reason(generator, concept, reason):
    with pytest.raises(NotComposableError, match=reason) as caught:
        generator.synthesize([ask(concept)])
    assert caught.value.concept == concept
    assert caught.value.nearest[0][1] == 1


def test_progress_is_told_and_can_cancel(generator):
    told = []
    generator.synthesize([ask("dog", seed) for seed in range(3)], lambda *progress: told.append(progress))
    assert told == [(1, 3), (2, 3), (3, 3)]

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generator.synthesize([ask("dog")], stop)


def test_a_image_that_vanished_is_a_backend_error(tmp_path, encoder, cutout_file):
    cutout_file(tmp_path / "dog.png", (9, 99, 9))
    generator = ImageBankGenerator(folder_bank(tmp_path), encoder, "all")
    (tmp_path / "dog.png").unlink()
    with pytest.raises(BackendError, match=r"dog\.png"):
        generator.synthesize([ask("dog")])


def test_the_fingerprint_follows_bank_split_and_settings(bank, encoder, tmp_path, cutout_file):
    cutout_file(tmp_path / "dog.png", (9, 99, 9))
    generators = [
        ImageBankGenerator(bank, encoder),
        ImageBankGenerator(bank, encoder, "heldout"),
        ImageBankGenerator(bank, encoder, settings=BankSettings(threshold=0.6)),
        ImageBankGenerator(folder_bank(tmp_path), encoder),
    ]
    assert len({generator.fingerprint for generator in generators}) == 4
    assert ImageBankGenerator(bank, encoder).fingerprint == generators[0].fingerprint


def test_match_gives_captions_best_first(generator):
    assert generator.match("animals") == [("cat", 1.0), ("dog", 1.0)]
    with pytest.raises(NotDrawableError):
        generator.match("democracy")


@pytest.mark.parametrize(("name", "value"), [("size", 8), ("threshold", 0), ("margin", -1), ("max_captions", 0)])
def test_a_setting_out_of_range_is_refused(name, value):
    with pytest.raises(UsageError, match=name):
        BankSettings(**{name: value})


def test_an_empty_split_is_refused(tmp_path, encoder, cutout_file):
    cutout_file(tmp_path / "dog.png", (9, 99, 9))
    with pytest.raises(UsageError, match="heldout"):
        ImageBankGenerator(folder_bank(tmp_path), encoder, "heldout")


@given(
    width=st.integers(1, 200),
    height=st.integers(1, 200),
    mode=st.sampled_from(["RGBA", "LA", "P", "RGB", "L", "1", "I;16", "CMYK"]),
    transparent=st.floats(0, 0.99),
    angle=st.sampled_from((*ANGLES, "")),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_image_gives_a_square_rgb_image(tmp_path_factory, encoder, width, height, mode, transparent, angle):
    folder = tmp_path_factory.mktemp("odd")
    if mode in ("RGBA", "LA"):
        image = Image.new(mode, (width, height), 255 if mode == "LA" else "white")
        clear = Image.new("L", (width, height), 255)
        clear.paste(0, (0, 0, int(width * transparent), height))
        image.putalpha(clear)
    else:
        image = Image.new(mode, (width, height))
    image.save(folder / ("dog.tif" if mode in ("CMYK", "I;16") else "dog.png"))
    generator = ImageBankGenerator(folder_bank(folder, (0, 65535)), encoder, "all", BankSettings(size=48))
    (drawn,) = generator.synthesize([ask("dog", width, angle)])
    result = Image.open(io.BytesIO(drawn.png))
    assert (result.mode, result.size) == ("RGB", (48, 48))
