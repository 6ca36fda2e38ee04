"""How the images of control sets and banks are read: the same for all, identified, told, or refused."""

import hashlib
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from line_neurons.agent.errors import UsageError
from line_neurons.agent.ports import Control
from line_neurons.eval.baselines.image_text import _decoded
from line_neurons.eval.baselines.top_images import _cropped
from line_neurons.eval.cosy.photographs import Photographs
from line_neurons.tools.cache.reader import StoredImage, control_key
from line_neurons.tools.control_sets import control_activations, open_control_set
from line_neurons.tools.control_sets.class_scores import rank_classes
from line_neurons.tools.control_sets.sampling import CHUNK
from line_neurons.tools.image_bank.folder import folder_bank
from line_neurons.tools.image_bank.painter import Painter
from line_neurons.tools.image_bank.plans import ImageSource, Plan, PlannedSubject
from line_neurons.tools.images.reader import Traits, read_image
from line_neurons.tools.images.reading import TraitSummary
from line_neurons.tools.language_models.ollama.vision import as_png
from line_neurons.tools.targets.custom import bundle_from_module
from line_neurons.tools.targets.hooked_target import HookedTarget
from line_neurons.tui.app.unit.images import decode as shown_in_app
from line_neurons.tui.report.contact_sheet import HEADING, MARGIN, TILE_SIDE, TITLE, SheetRow, write_sheet
from line_neurons.tui.report.thumbnails import small_copy

TURNED = Image.Exif()
TURNED[0x112] = 6


def save(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def scan(seed, size=48):
    """A made-up X-ray as shares of white, in steps of 1/255."""
    draw = np.random.default_rng(seed)
    blobs = Image.fromarray(draw.integers(0, 256, (6, 6), np.uint8)).resize((size, size))
    return np.asarray(blobs)


@pytest.fixture
def copies(tmp_path):
    """The same scans of two classes as 8-bit and as 16-bit files, and as 12 bits kept in 16."""
    for label, name in enumerate(("clear lung", "pneumonia")):
        for number in range(3):
            values = scan(10 * label + number)
            where = f"{name}/{number}.png"
            save(tmp_path / "8" / where, Image.fromarray(values))
            save(tmp_path / "16" / where, Image.fromarray(values.astype(np.uint16) * 257))
            save(tmp_path / "12" / where, Image.fromarray((values * (4095 / 255) + 0.5).astype(np.uint16)))
    return tmp_path


@pytest.fixture
def network():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 6, 5), nn.ReLU(), nn.Conv2d(6, 4, 5), nn.ReLU())
    return HookedTarget(bundle_from_module(module, prepare), device="cpu")


def prepare(image):
    from torchvision.transforms import functional

    return functional.to_tensor(image.resize((32, 32)))


def notes(control):
    return list(control.image_notes)


class TestTheSameImagesInMoreBits:
    def test_give_the_activations_and_the_ranking_of_their_8_bit_copies(self, copies, network, bank):
        sets = {
            kind: open_control_set(str(copies / kind), value_range=stated)
            for kind, stated in {"8": None, "16": None, "12": (0, 4095)}.items()
        }
        found = {kind: control_activations(bank, network, ["2"], control) for kind, control in sets.items()}
        eight, sixteen, twelve = (found[kind]["2"] for kind in ("8", "16", "12"))
        assert (sixteen.activations == eight.activations).all()
        assert np.allclose(twelve.activations, eight.activations, atol=0.02)
        assert len(np.unique(eight.activations.round(3), axis=0)) == 6
        for unit in range(4):
            first = rank_classes(eight, unit, "mean")
            assert rank_classes(sixteen, unit, "mean") == rank_classes(twelve, unit, "mean") == first

    def test_are_drawn_by_a_bank_as_the_8_bit_copies_are(self, copies):
        def drawn(folder, value_range=None):
            bank = folder_bank(folder, value_range)
            entries = tuple(
                ImageSource(one, "pneumonia", 1.0) for one in bank.entries if one.caption == "pneumonia"
            )
            painter = Painter(bank, "all", 64)
            plan = painter.prepare(Plan("pneumonia", (PlannedSubject("pneumonia", entries),)))
            return [painter.paint(plan, "", "", key="key", turn=turn).png for turn in range(3)]

        assert drawn(copies / "16") == drawn(copies / "8")
        pairs = zip(drawn(copies / "12", (0, 4095)), drawn(copies / "8"), strict=True)
        for twelve, eight in pairs:
            assert abs(np.asarray(read_image(twelve)).astype(int) - read_image(eight)).max() <= 3

    def test_are_told_with_their_number_and_range(self, copies):
        save(copies / "16" / "pneumonia" / "9.png", Image.fromarray(scan(9)))
        assert notes(open_control_set(str(copies / "16"))) == [
            "6 of 7 images: 16-bit, values read by the range 0 to 65535"
        ]
        stated = open_control_set(str(copies / "12"), value_range=(0, 4095))
        assert notes(stated) == ["6 of 6 images: 16-bit, values read by the range 0 to 4095"]
        assert notes(folder_bank(copies / "16")) == notes(open_control_set(str(copies / "16")))
        assert notes(open_control_set(str(copies / "8"))) == []

    def test_are_refused_where_no_image_uses_the_upper_half_of_the_range(self, copies):
        said = r"no value of the 16-bit images of .*12 \(6\) is above 40\d\d of 65535: they may hold 12 bits"
        with pytest.raises(UsageError, match=said) as caught:
            _ = open_control_set(str(copies / "12")).fingerprint
        assert "--image-range 0,4095, or 0,65535" in caught.value.remedy
        with pytest.raises(UsageError, match="no value of the 16-bit images of the image bank 12"):
            folder_bank(copies / "12")
        assert open_control_set(str(copies / "12"), value_range=(0, 65535)).fingerprint

    def test_are_another_set_for_every_range(self, copies):
        sets = [open_control_set(str(copies / "12"), value_range=one) for one in ((0, 4095), (0, 4000), (0, 4095))]
        first, other, again = (control.fingerprint for control in sets)
        assert first == again != other
        banks = [folder_bank(copies / "12", one).fingerprint for one in ((0, 4095), (0, 4000), (0, 4095))]
        assert banks[0] == banks[2] != banks[1]


@pytest.mark.parametrize("values", [np.float32(300) * np.eye(20, dtype=np.float32), np.eye(20, dtype=np.int32)])
def test_a_set_whose_values_have_no_known_range_is_refused_before_anything_is_measured(tmp_path, values):
    save(tmp_path / "set" / "a.tif", Image.fromarray(values))
    save(tmp_path / "set" / "b.png", Image.fromarray(scan(1)))
    with pytest.raises(UsageError, match=r"a\.tif of .*cannot be read: its .* values go from 0 to") as caught:
        _ = open_control_set(str(tmp_path / "set")).fingerprint
    assert "--image-range" in caught.value.remedy
    with pytest.raises(UsageError, match=r"a\.tif of the image bank .*set cannot be read"):
        folder_bank(tmp_path / "set")
    stated = open_control_set(str(tmp_path / "set"), value_range=(0, 300))
    assert len(next(stated.chunks()).images) == 2


def before(folder, files):
    """The fingerprint that versions before gave a folder without classes."""
    digest = hashlib.sha256(f"chunks of {CHUNK}\n".encode())
    for name in files:
        content = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        digest.update(f"\0{name}\0{content}\n".encode())
    return f"folder:{digest.hexdigest()[:32]}"


ORDINARY = {
    "rgb.png": ({}, "RGB"), "grey.png": ({}, "L"), "photo.jpg": ({}, "RGB"), "ink.jpg": ({}, "CMYK"),
    "palette.png": ({}, "P"), "line.png": ({}, "1"), "opaque.png": ({}, "RGBA"),
}  # fmt: skip


class TestAStoreOfBefore:
    """What versions before measured is used again where the pixels are the same, and nowhere else."""

    def made(self, folder, odd=None):
        for name, (options, mode) in ORDINARY.items():
            save(folder / name, Image.fromarray(scan(1)).convert("RGB").convert(mode), **options)
        for name, (image, options) in (odd or {}).items():
            save(folder / name, image, **options)
        return folder, sorted((*ORDINARY, *(odd or {})))

    def test_keeps_the_fingerprint_and_the_activations_of_ordinary_images(self, tmp_path, new_target, bank):
        folder, files = self.made(tmp_path / "set")
        control, target = open_control_set(str(folder)), new_target()
        assert control.fingerprint == before(folder, files)
        key = control_key(target.fingerprint, "layer", before(folder, files))
        kept = Control((), np.full(7, -1), np.ones((7, 3), np.float32))
        bank.put_control(key, kept)
        assert (control_activations(bank, target, ["layer"], control)["layer"].activations == 1).all()
        assert target.calls == []

    @pytest.mark.parametrize(
        "odd",
        [
            {"z.png": (Image.fromarray(scan(1).astype(np.uint16) * 257), {})},
            {"z.png": (Image.new("RGBA", (20, 20), (9, 9, 9, 40)), {})},
            {"z.jpg": (Image.fromarray(scan(1)), {"exif": TURNED})},
        ],
        ids=["16-bit", "transparent", "turned"],
    )
    def test_is_measured_anew_where_an_image_is_read_otherwise(self, tmp_path, new_target, bank, odd):
        folder, files = self.made(tmp_path / "set", odd)
        control, target = open_control_set(str(folder)), new_target()
        assert control.fingerprint != before(folder, files)
        key = control_key(target.fingerprint, "layer", before(folder, files))
        bank.put_control(key, Control((), np.full(8, -1), np.full((8, 3), 999, np.float32)))
        found = control_activations(bank, target, ["layer"], control)["layer"].activations
        assert (found < 256).all()
        assert target.calls == [(8, ("layer",))]
        assert len(notes(control)) == 1

    def test_keeps_the_fingerprint_of_a_bank_that_was_turned_and_laid_on_white_before_too(self, tmp_path):
        odd = {
            "z.jpg": (Image.fromarray(scan(1)), {"exif": TURNED}),
            "y.png": (Image.new("RGBA", (20, 20), (9, 9, 9, 250)), {}),
        }
        folder, _ = self.made(tmp_path / "bank", odd)
        bank = folder_bank(folder)
        described = [
            [e.id, e.sha256, e.caption, e.also, e.broader, e.kind, e.scenes, e.split] for e in bank.entries
        ]
        text = json.dumps([1, described], separators=(",", ":"))
        assert bank.fingerprint == hashlib.sha256(text.encode()).hexdigest()
        assert notes(bank) == [
            "1 of 9 images: transparent, laid on white", "1 of 9 images: turned as their EXIF data say",
        ]  # fmt: skip


def test_what_images_hold_is_remembered_and_read_once(copies, tmp_path, monkeypatch):
    digests = tmp_path / "digests.db"
    first = open_control_set(str(copies / "16"), digests=digests)
    told = first.fingerprint, notes(first)
    monkeypatch.setattr(TraitSummary, "of", lambda images: pytest.fail("read again"))
    again = open_control_set(str(copies / "16"), digests=digests)
    assert (again.fingerprint, notes(again)) == told


def test_an_account_survives_being_kept():
    odd = Traits("floating-point", low=-2.5, high=1e30), Traits(turned=True, transparent=True, frames=True)
    account = TraitSummary(5, (("a", odd[0]), ("b", odd[1])))
    assert TraitSummary.from_json(account.to_json()) == account
    assert (account + account).total == 10
    assert len((account + account).unusual) == 4


def test_photographs_are_turned_and_laid_on_white_and_known_by_it(tmp_path):
    image = Image.new("RGBA", (64, 32), (200, 0, 0, 128))
    (tmp_path / "set").mkdir()
    for name, made in {"plain": image.convert("RGB"), "clear": image}.items():
        save(tmp_path / name / "dog.png", made)
        (tmp_path / name / "captions.csv").write_text("file,caption,kind,split\ndog.png,dog,photo,heldout\n")
    parts = SimpleNamespace(cache=None, target=None)
    banks = (folder_bank(tmp_path / name) for name in ("plain", "clear"))
    plain, clear = (Photographs("photos", bank, {}, parts, "layer", 5, 0) for bank in banks)
    assert plain.fingerprint.startswith(f"photos:{plain.bank.fingerprint}:")
    assert not clear.fingerprint.startswith(f"photos:{clear.bank.fingerprint}:")
    assert (notes(plain), notes(clear)) == ([], ["1 of 1 images: transparent, laid on white"])


@pytest.fixture(params=["16-bit", "turned", "transparent", "CMYK", "palette", "plain"])
def odd_file(request):
    rng = np.random.default_rng(3)
    colours = Image.fromarray(rng.integers(0, 256, (5, 7, 3), np.uint8)).resize((70, 50))
    image, kind, options = {
        "16-bit": (Image.fromarray(np.asarray(colours.convert("L")).astype(np.uint16) * 257), "PNG", {}),
        "turned": (colours, "JPEG", {"exif": TURNED, "quality": 95}),
        "transparent": (colours.convert("RGBA"), "PNG", {}),
        "CMYK": (colours.convert("CMYK"), "JPEG", {}),
        "palette": (colours.convert("P"), "PNG", {"transparency": 3}),
        "plain": (colours, "PNG", {}),
    }[request.param]
    if request.param == "transparent":
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


class TestEveryReader:
    """The same file gives the same pixels, whoever reads it."""

    def right(self, content):
        return np.asarray(read_image(content)).astype(int)

    def test_control_set_and_target(self, odd_file, tmp_path):
        (tmp_path / "a.png").write_bytes(odd_file)
        (image,) = next(open_control_set(str(tmp_path)).chunks()).images
        seen = []

        def looked_at(image):
            seen.append(np.asarray(image).astype(int))
            return prepare(image)

        target = HookedTarget(bundle_from_module(nn.Sequential(nn.Conv2d(3, 2, 3)), looked_at), device="cpu")
        target.activate([odd_file, image], ["0"])
        for pixels in seen[-2:]:
            assert (pixels == self.right(odd_file)).all()

    def test_bank(self, odd_file, tmp_path):
        (tmp_path / "dog.png").write_bytes(odd_file)
        (tmp_path / "captions.csv").write_text("file,caption,kind\ndog.png,dog,photo\n")
        bank = folder_bank(tmp_path)
        decoded = Painter(bank, "all", 64)._decode(bank.entries[0])
        assert (np.asarray(decoded) == self.right(odd_file)).all()

    def test_captioner_encoder_crops_app_and_report(self, odd_file, tmp_path):
        right = self.right(odd_file)
        in_app = shown_in_app(StoredImage("a" * 64, None, odd_file)).pixels
        for pixels in (_decoded(odd_file), read_image(as_png(odd_file)), in_app):
            assert (np.asarray(pixels) == right).all()
        assert read_image(_cropped(odd_file)[0]).size == read_image(odd_file).size
        small, size = small_copy(odd_file, 100)
        assert size == read_image(odd_file).size
        assert abs(np.asarray(read_image(small)).astype(int) - right).mean() < 20
        sheet = read_image(write_sheet([SheetRow("dog", [odd_file])], tmp_path / "sheet.png"))
        left, top = MARGIN, HEADING + TITLE
        tile = sheet.crop((left, top, left + TILE_SIDE, top + TILE_SIDE)).resize((10, 10))
        whole = read_image(odd_file).resize((TILE_SIDE, TILE_SIDE), Image.Resampling.LANCZOS)
        shrunk = np.asarray(whole.resize((10, 10)))
        assert abs(np.asarray(tile).astype(int) - shrunk).max() <= 1


def test_an_ordinary_file_holds_nothing_to_tell(odd_file):
    account = TraitSummary.of([("a", lambda: odd_file), ("b", lambda: b"no image")])
    assert account.total == 1
    assert (account.unusual == ()) == (account.identity(None) == "")
