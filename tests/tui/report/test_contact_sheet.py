import io

import pytest
from PIL import Image

from line_neurons.agent.errors import StoreError
from line_neurons.tui.report.contact_sheet import TILE_SIDE, SheetRow, write_sheet


def image(colour):
    encoded = io.BytesIO()
    Image.new("RGB", (300, 300), colour).save(encoded, format="PNG")
    return encoded.getvalue()


def test_every_image_stands_in_its_row(tmp_path):
    rows = [SheetRow("1: fox  2.5", [image("red"), image("lime")]), SheetRow("2: owl  1", [image("blue")])]
    sheet = Image.open(write_sheet(rows, tmp_path / "sub" / "sheet.png"))
    assert [colour for _, colour in sheet.getcolors(100_000) if colour == (255, 0, 0)]
    assert sheet.getpixel((8 + TILE_SIDE // 2, 26 + TILE_SIDE // 2)) == (255, 0, 0)
    assert sheet.getpixel((16 + TILE_SIDE + TILE_SIDE // 2, 26 + TILE_SIDE // 2)) == (0, 255, 0)
    assert sheet.getpixel((8 + TILE_SIDE // 2, sheet.height - 16 - TILE_SIDE // 2)) == (0, 0, 255)


def test_long_hostile_titles_and_rows_of_many_images_fit(tmp_path):
    rows = [SheetRow("\x1b[31m" + "x" * 5000, [image("red")] * 23)]
    sheet = Image.open(write_sheet(rows, tmp_path / "sheet.png"))
    assert sheet.width == 10 * (TILE_SIDE + 8) + 8
    assert sheet.height == 26 + 3 * (TILE_SIDE + 8) + 8


def test_a_sheet_that_cannot_be_written_is_one_line_and_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        write_sheet([SheetRow("a", [image("red")])], tmp_path / "file" / "sheet.png")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
