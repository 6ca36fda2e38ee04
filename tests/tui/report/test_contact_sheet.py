import io

import pytest
from PIL import Image

from line_neurons.agent.errors import StoreError
from line_neurons.tui.report.contact_sheet import CAPTION, HEADING, MARGIN, TILE_SIDE, TITLE, SheetRow, write_sheet

ROW = TITLE + TILE_SIDE + CAPTION + MARGIN
HALF = TILE_SIDE // 2


def image(colour):
    encoded = io.BytesIO()
    Image.new("RGB", (300, 300), colour).save(encoded, format="PNG")
    return encoded.getvalue()


def part(sheet, *box):
    """How many colours a part of a sheet has: one where nothing is written."""
    return len(sheet.crop(box).getcolors(100_000))


def test_every_image_stands_in_its_row(tmp_path):
    rows = [SheetRow("1: fox  2.5", [image("red"), image("lime")]), SheetRow("2: owl  1", [image("blue")])]
    sheet = Image.open(write_sheet(rows, tmp_path / "sub" / "sheet.png"))
    left, first = MARGIN + HALF, HEADING + TITLE + HALF
    assert sheet.getpixel((left, first)) == (255, 0, 0)
    assert sheet.getpixel((left + TILE_SIDE + MARGIN, first)) == (0, 255, 0)
    assert sheet.getpixel((left, first + ROW)) == (0, 0, 255)


def test_a_sheet_says_what_it_shows_and_the_activation_under_each_image(tmp_path):
    rows = [SheetRow("1: fox, score 2.5", [image("red")] * 3, [1.5, None])]
    said = Image.open(write_sheet(rows, tmp_path / "a.png", ["unit 7: fox, score 2.5", "net head, run r-1"]))
    bare = Image.open(write_sheet(rows, tmp_path / "b.png"))
    assert part(said, 0, 0, said.width, HEADING) > part(bare, 0, 0, bare.width, HEADING) == 1
    top = HEADING + TITLE + TILE_SIDE
    written = [part(said, at, top, at + TILE_SIDE, top + CAPTION) for at in (12, 200, 388)]
    assert written[0] > 1 < written[1] and written[2] == 1


def test_the_row_of_the_label_has_a_word_and_a_frame(tmp_path):
    rows = [SheetRow("1: fox", [image("red")], is_label=won) for won in (True, False)]
    sheet = Image.open(write_sheet(rows, tmp_path / "sheet.png"))
    framed, plain = (sheet.getpixel((4, HEADING + place * ROW + ROW // 2)) for place in (0, 1))
    assert framed != (255, 255, 255) == plain
    word = (MARGIN, HEADING + 8, MARGIN + 50, HEADING + 28)
    assert (255, 255, 255) in [colour for _, colour in sheet.crop(word).getcolors(10_000)]
    assert sheet.crop(word).getpixel((2, 2)) == framed


def test_long_hostile_titles_and_rows_of_many_images_fit(tmp_path):
    hostile = "\x1b[31m" + "x" * 5000
    rows = [SheetRow(hostile, [image("red")] * 23, [1e30] * 23, is_label=True)]
    sheet = Image.open(write_sheet(rows, tmp_path / "sheet.png", [hostile, hostile]))
    assert sheet.width == 10 * (TILE_SIDE + MARGIN) + MARGIN
    assert sheet.height == HEADING + TITLE + 3 * (TILE_SIDE + CAPTION) + 2 * MARGIN


def test_a_missing_image_is_a_grey_tile(tmp_path):
    sheet = Image.open(write_sheet([SheetRow("1: fox", [None])], tmp_path / "sheet.png"))
    assert sheet.getpixel((MARGIN + HALF, HEADING + TITLE + 20)) == (238, 238, 238)


def test_a_sheet_that_cannot_be_written_is_one_line_and_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        write_sheet([SheetRow("a", [image("red")])], tmp_path / "file" / "sheet.png")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
