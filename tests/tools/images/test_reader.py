"""One reader of images: what each kind of file is read as, and what is refused."""

import io
import re
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageFile, ImageOps

import line_neurons.tools
from line_neurons.tools.images.reader import (
    PLAIN,
    ImageError,
    Traits,
    UnknownRangeError,
    plain_file,
    read_cutout,
    read_image,
    traits_of,
)

RAMP = np.tile(np.linspace(0, 1, 256), (16, 1))
GREY = Image.fromarray((RAMP * 255).astype(np.uint8))
HALF = (0.5, 0.5, 0.5)
RED = Image.new("RGB", (64, 64), (200, 40, 10))
RED_SHARE = (200 / 255, 40 / 255, 10 / 255)


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def of_values(values, kind="TIFF", **options):
    return encoded(Image.fromarray(values), kind, **options)


def in_16_bits(share=1.0):
    return (RAMP * 65535 * share).astype(np.uint16)


def lab(image):
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    return ImageCms.profileToProfile(image, *profiles, outputMode="LAB")


def with_alpha(image, alpha):
    image = image.convert("RGBA")
    image.putalpha(alpha)
    return image


def logo():
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (16, 16, 48, 48))
    return image


def png(width, height, bits, colour_type, rows):
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0),
        b"IDAT": zlib.compress(rows),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks.items()
    )


def colours_of_16_bits():
    """A PNG of 16-bit colours, which Pillow reads and does not write: the bytes of one of 8, each twice."""
    row = struct.pack(">3H", *(257 * share for share in (200, 40, 10))) * 8
    return png(8, 8, 16, 2, (b"\0" + row) * 8)


UPSIDE_DOWN = Image.Exif()
UPSIDE_DOWN[0x112] = 3
BOMB = png(16000, 12000, 1, 0, b"")


def packed_12_bits():
    """A TIFF of 12 bits a value, which Pillow reads and does not write: two values in three bytes."""
    values = (RAMP * 4095).astype(np.uint16)
    first, second = values[:, ::2].astype(np.uint32), values[:, 1::2].astype(np.uint32)
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], -1).astype(np.uint8).tobytes()
    fields = [(256, 256), (257, 16), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 16),
              (279, len(packed))]  # fmt: skip
    directory = struct.pack("<H", len(fields))
    for number, value in fields:
        directory += struct.pack("<HHII", number, 4, 1, value)
    return b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed + directory + struct.pack("<I", 0)


def animated():
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "lime")]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


def adobe_cmyk():
    """A JPEG as Photoshop writes it: CMYK with the marker that says its values are inverted."""
    content = encoded(RED.convert("CMYK"), "JPEG", quality=95)
    assert b"Adobe" in content
    return content


@pytest.mark.parametrize(
    ("content", "right", "traits"),
    [
        pytest.param(encoded(GREY, "PNG"), HALF, PLAIN, id="8-bit grey"),
        pytest.param(encoded(GREY.convert("1"), "PNG"), HALF, PLAIN, id="1-bit"),
        pytest.param(of_values(in_16_bits(), "PNG"), HALF, Traits("16-bit", high=65535), id="16-bit PNG"),
        pytest.param(of_values(in_16_bits()), HALF, Traits("16-bit", high=65535), id="16-bit TIFF"),
        pytest.param(
            of_values(in_16_bits().astype(">u2")), HALF, Traits("16-bit", high=65535), id="16-bit TIFF, big-endian"
        ),
        pytest.param(
            of_values(in_16_bits(0.5), tiffinfo={262: 0}), (0.75,) * 3, Traits("16-bit", high=32767),
            id="16-bit TIFF whose least value is white",
        ),
        pytest.param(packed_12_bits(), HALF, Traits("16-bit", bits=12, high=4095), id="12-bit TIFF"),
        pytest.param(colours_of_16_bits(), RED_SHARE, Traits("16-bit colour", low=2570, high=51400), id="48-bit"),
        pytest.param(of_values(RAMP.astype(np.float32)), HALF, Traits("floating-point", high=1), id="float"),
        pytest.param(encoded(RED.convert("P"), "PNG"), RED_SHARE, PLAIN, id="palette"),
        pytest.param(encoded(RED.convert("CMYK"), "TIFF"), RED_SHARE, PLAIN, id="CMYK TIFF"),
        pytest.param(adobe_cmyk(), RED_SHARE, PLAIN, id="CMYK JPEG of Adobe"),
        pytest.param(encoded(lab(RED), "TIFF"), RED_SHARE, PLAIN, id="LAB"),
        pytest.param(encoded(RED, "JPEG"), RED_SHARE, PLAIN, id="YCbCr JPEG"),
        pytest.param(encoded(RED, "WEBP", lossless=True), RED_SHARE, PLAIN, id="WebP"),
        pytest.param(encoded(with_alpha(RED, 0), "PNG"), (1, 1, 1), Traits(transparent=True), id="clear"),
        pytest.param(encoded(with_alpha(RED, 255), "PNG"), RED_SHARE, PLAIN, id="alpha that hides nothing"),
        pytest.param(encoded(logo(), "PNG"), (0.75,) * 3, Traits(transparent=True), id="black logo"),
        pytest.param(
            encoded(Image.new("P", (8, 8)), "PNG", transparency=0), (1, 1, 1), Traits(transparent=True),
            id="palette with transparency",
        ),
        pytest.param(animated(), (1, 0, 0), Traits(frames=True), id="animated"),
    ],
)  # fmt: skip
def test_a_file_is_read_as_what_it_shows(content, right, traits):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = read_image(content)
        assert image.mode == "RGB"
        assert np.asarray(image).mean((0, 1)) / 255 == pytest.approx(right, abs=0.02)
        assert traits_of(content) == traits


def test_16_bits_are_the_8_that_they_were_made_of():
    values = np.arange(256, dtype=np.uint16).reshape(16, 16)
    assert (np.asarray(read_image(of_values(values * 257, "PNG")))[..., 0] == values).all()


@settings(max_examples=30)
@given(low=st.integers(0, 60_000), width=st.integers(1, 5_000))
def test_a_stated_range_is_the_same_for_every_image_and_what_lies_beyond_is_black_or_white(low, width):
    values = np.array([[0, low, low + width, 65535]], np.uint16)
    content = of_values(values, "PNG")
    read = np.asarray(read_image(content, value_range=(low, low + width)))[0, :, 0]
    assert read.tolist() == [0, 0, 255, 255 if low + width <= 65535 else 0]


@pytest.mark.parametrize(
    ("content", "said", "example"),
    [
        (of_values((RAMP * 65535).astype(np.int32)), "integer values go from 0 to 65535", "0,65535"),
        (of_values((RAMP * 255).astype(np.float32)), "floating-point values go from 0 to 255", "0,255"),
        (of_values((RAMP * 3000 - 1000).astype(np.float32)), "go from -1000 to 2000", "-1024,2047"),
    ],
)
def test_values_without_a_range_are_refused_with_what_to_state(content, said, example):
    with pytest.raises(UnknownRangeError, match=said) as caught:
        read_image(content)
    assert f"--image-range LOW,HIGH, such as {example}" in caught.value.remedy
    low, high = map(float, example.split(","))
    assert np.asarray(read_image(content, value_range=(low, high))).mean() == pytest.approx(127, abs=6)


def test_values_that_are_no_numbers_are_refused_whatever_is_stated():
    values = RAMP.astype(np.float32)
    values[0, 0] = np.nan
    for value_range in (None, (0, 1)):
        with pytest.raises(UnknownRangeError, match="not finite numbers"):
            read_image(of_values(values), value_range=value_range)


def test_16_bit_colours_are_read_by_their_full_range_only():
    content = colours_of_16_bits()
    assert read_image(content, value_range=(0, 65535)).getpixel((0, 0)) == (200, 40, 10)
    with pytest.raises(UnknownRangeError, match="not by 0 to 4095"):
        read_image(content, value_range=(0, 4095))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_as_its_exif_data_say(kind, orientation):
    corners = Image.new("RGB", (64, 32))
    corners.paste("red", (0, 0, 32, 16))
    corners.paste("lime", (32, 0, 64, 16))
    exif = Image.Exif()
    exif[0x112] = orientation
    content = encoded(corners, kind, exif=exif)
    with Image.open(io.BytesIO(content)) as opened:
        right = np.asarray(ImageOps.exif_transpose(opened).convert("RGB")).astype(int)
    assert abs(np.asarray(read_image(content)).astype(int) - right).max() == 0
    assert traits_of(content).turned == (orientation > 1)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_exif_data_that_cannot_be_read_say_nothing():
    content = encoded(RED, "PNG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12" * 40)
    assert read_image(content).size == (64, 64)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not an image"),
        (b"<html>404</html>", "not an image"),
        (b"version https://git-lfs.github.com/spec/v1", "not an image"),
        (encoded(GREY, "PNG")[:-40], "truncated"),
        (encoded(GREY, "JPEG")[:-30], "truncated"),
        (encoded(GREY, "JPEG", progressive=True)[:-30], "truncated"),
        (of_values(in_16_bits(), "PNG")[:-40], "truncated"),
        (BOMB, "decompression bomb"),
        (np.zeros((4, 4), np.uint8), r"uint8 \[4, 4\] is not uint8 \[H, W, 3\]"),
        (np.zeros((4, 4, 3), np.float32), "float32"),
    ],
)
def test_what_cannot_be_read_is_refused(content, said):
    with pytest.raises(ImageError, match=said):
        read_image(content)


def test_truncated_files_and_bombs_are_refused_whatever_other_code_has_switched_off(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(ImageError, match="truncated"):
        read_image(encoded(GREY, "JPEG")[:-30])
    with pytest.raises(ImageError, match="16000 x 12000 pixels are too many"):
        read_image(BOMB)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=60)
@given(st.binary(max_size=300), st.sampled_from(["PNG", "JPEG", "TIFF", "GIF", "WEBP"]), st.integers(0, 400))
def test_a_damaged_file_is_read_or_refused_and_raises_nothing_else(noise, kind, at):
    whole = encoded(RED, kind)
    content = whole[:at] + noise + whole[at + len(noise) :]
    for read in (read_image, read_cutout, traits_of):
        try:
            read(content)
        except ImageError as error:
            assert str(error)


@pytest.mark.parametrize(
    ("content", "same"),
    [
        (encoded(RED, "JPEG"), True),
        (encoded(RED.convert("CMYK"), "JPEG"), True),
        (encoded(with_alpha(RED, 255), "PNG"), True),
        (animated(), True),
        (encoded(logo(), "PNG"), False),
        (of_values(in_16_bits(), "PNG"), False),
        (
            encoded(RED, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x03\0\0\0\0\0\0"),
            False,
        ),
    ],
)
def test_what_any_decoder_reads_alike_is_handed_on_as_it_is_and_all_else_as_it_was_read(content, same):
    given_on = plain_file(content, traits_of(content))
    assert (given_on == content) == same
    with Image.open(io.BytesIO(given_on)) as opened:
        assert (np.asarray(opened.convert("RGB")) == np.asarray(read_image(content))).all()


def test_no_other_module_decodes_images():
    rooms = Path(line_neurons.tools.__path__[0]).resolve().parent
    decoding = re.compile(
        r"\bImage\.open\(|PIL\.Image\.open|\bexif_transpose|\.draft\(|torchvision\.io|decode_(image|jpeg|png)"
        r"|\bread_file\(.*decode|imageio|\bcv2\b|\bskimage\b|\btifffile\b|plt\.imread|from PIL\.Image import open"
    )
    found = {
        file.relative_to(rooms).as_posix()
        for room in ("agent", "tools", "graphs", "eval", "tui")
        for file in (rooms / room).rglob("*.py")
        if decoding.search(file.read_text("utf-8"))
    }
    assert found == {"tools/images/reader.py"}
