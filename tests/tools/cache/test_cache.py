import gc
import hashlib
import json
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from line_neurons.agent.errors import BackendError, DamagedError, NotDrawableError, StoreError
from line_neurons.agent.ports import Control, DrawnImage, ImageRequest, LayerInfo
from line_neurons.tools.batching import BatchedGenerator
from line_neurons.tools.cache import activation_cache as concept_bank
from line_neurons.tools.cache import image_cache as image_bank
from line_neurons.tools.cache import reader as bank_view
from line_neurons.tools.cache import validation
from line_neurons.tools.cache.activation_cache import Cache, CacheStats
from line_neurons.tools.cache.checksums import vector_checksum
from line_neurons.tools.images.png import encode_png, with_file

TEMPLATE = "A photo of a {concept}, {angle}, {lighting}"


class Colours:
    """Draws one plain colour for each prompt and seed."""

    batch_size = 40

    def __init__(self, fingerprint="colours:1"):
        self.fingerprint = fingerprint
        self.calls = []

    def synthesize(self, requests, progress=None):
        self.calls.append(list(requests))
        drawn = []
        for request in requests:
            text = f"{self.fingerprint}{request.prompt}{request.seed}"
            colour = tuple(hashlib.sha256(text.encode()).digest()[:3])
            file = BytesIO()
            Image.new("RGB", (16, 16), colour).save(file, "PNG")
            drawn.append(DrawnImage(file.getvalue(), {"colour": list(colour)}, composed=True))
        return drawn

    def suggest(self, concepts, limit):
        return []


class MeanColour:
    """Three units: the mean of each channel; the layer sets the sign."""

    def __init__(self, fingerprint="mean-colour:1"):
        self.fingerprint = fingerprint
        self.calls = []

    def layers(self):
        return []

    def unit_names(self, layer):
        return None

    def activate(self, images, layers, progress=None):
        self.calls.append(len(images))
        pixels = [
            np.asarray(Image.open(BytesIO(image))) if isinstance(image, bytes) else image for image in images
        ]
        rows = np.array([image.mean((0, 1)) / 7 for image in pixels], np.float32).reshape(len(images), 3)
        return {layer: -rows if layer == "negative" else rows for layer in layers}


@pytest.fixture
def bank(tmp_path):
    opened = Cache(tmp_path / "store")
    yield opened
    opened.close()


def requests(concept="cat", seeds=range(5)):
    return [ImageRequest(concept, "low angle", "studio lighting", seed, TEMPLATE) for seed in seeds]


def test_only_missing_images_are_drawn_and_in_one_call(bank):
    colours = Colours()
    first = bank.images(requests(seeds=[0, 1]), colours)
    again = bank.images(requests(seeds=[2, 1, 0, 2]), colours)
    assert again[1:3] == first[::-1]
    assert again[0] == again[3]
    assert [[request.seed for request in call] for call in colours.calls] == [[0, 1], [2]]
    assert (bank.stats.generated, bank.stats.reused) == (3, 3)


def test_nothing_is_asked_of_a_generator_when_all_is_there(bank):
    colours = Colours()
    bank.images(requests(), colours)
    bank.images(requests(), colours)
    assert bank.images([], colours) == []
    assert len(colours.calls) == 1


def test_a_image_is_known_by_its_content_and_says_how_it_was_made(bank):
    request = requests()[3]
    (image,) = bank.images([request], Colours())
    content = bank.image_bytes(image)
    assert hashlib.sha256(content).hexdigest() == image
    assert bank.image_path(image).read_bytes() == content
    assert bank.concepts(Colours().fingerprint) == [request.concept]
    provenance = bank.provenance(image)
    assert (provenance["generator"], provenance["prompt"], provenance["seed"]) == (
        "colours:1",
        request.prompt,
        3,
    )
    assert len(provenance["colour"]) == 3


def test_another_generator_draws_its_own(bank):
    assert bank.images(requests(), Colours("a")) != bank.images(requests(), Colours("b"))


@pytest.mark.parametrize("harm", ["delete", "truncate"])
def test_a_file_that_has_gone_or_was_cut_is_drawn_anew_and_reported(bank, caplog, harm):
    ids = bank.images(requests(), Colours())
    path = bank.image_path(ids[2])
    path.unlink() if harm == "delete" else path.write_bytes(path.read_bytes()[:40])
    colours = Colours()
    assert bank.images(requests(), colours) == ids
    assert [request.seed for request in colours.calls[0]] == [2]
    assert bank.stats.regenerated == 1
    assert ids[2][:12] in caplog.text
    assert hashlib.sha256(bank.image_bytes(ids[2])).hexdigest() == ids[2]


def test_a_generator_that_draws_differently_after_a_loss_gives_the_image_a_new_id(bank):
    (lost,) = bank.images(requests(seeds=[1]), Colours())
    bank.image_path(lost).unlink()

    class Drifted(Colours):
        def synthesize(self, wanted, progress=None):
            return Colours("drifted").synthesize(wanted)

    (new,) = bank.images(requests(seeds=[1]), Drifted())
    assert new != lost
    assert bank.images(requests(seeds=[1]), Colours()) == [new]


def test_a_file_changed_in_place_is_found_when_read_and_drawn_anew_afterwards(bank):
    (image,) = bank.images(requests(seeds=[1]), Colours())
    path = bank.image_path(image)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(StoreError, match="damaged"):
        bank.image_bytes(image)
    assert bank.images(requests(seeds=[1]), Colours()) == [image]
    assert bank.image_bytes(image)


def test_an_unknown_image_is_refused(bank):
    for ask in (bank.image_bytes, bank.provenance):
        with pytest.raises(StoreError, match="0000"):
            ask("0" * 64)


def test_only_missing_activations_are_computed_and_in_one_call(bank):
    ids = bank.images(requests(), Colours())
    target = MeanColour()
    some = bank.activations(ids[:2], target, "positive")
    every = bank.activations([*ids, ids[0]], target, "positive")
    assert target.calls == [2, 3]
    assert every.dtype == np.float32
    assert every.shape == (6, 3)
    assert every[:2].tobytes() == some.tobytes()
    assert every[5].tobytes() == every[0].tobytes()
    direct = MeanColour().activate([bank.image_bytes(image) for image in ids], ["positive"])["positive"]
    assert every[:5].tobytes() == direct.tobytes()
    assert (bank.stats.forwarded, bank.stats.saved) == (5, 3)


def test_activations_of_another_layer_or_target_are_kept_apart(bank):
    ids = bank.images(requests(), Colours())
    positive = bank.activations(ids, MeanColour(), "positive")
    np.testing.assert_array_equal(bank.activations(ids, MeanColour(), "negative"), -positive)
    other = MeanColour("mean-colour:2")
    bank.activations(ids, other, "positive")
    assert other.calls == [5]
    assert bank.activations([], MeanColour(), "positive").shape == (0, 3)


def test_everything_is_there_after_opening_anew(bank):
    ids = bank.images(requests(), Colours())
    rows = bank.activations(ids, MeanColour(), "positive")
    bank.put_control("key", control())
    again = Cache(bank.root)
    colours, target = Colours(), MeanColour()
    assert again.images(requests(), colours) == ids
    assert again.activations(ids, target, "positive").tobytes() == rows.tobytes()
    assert not colours.calls
    assert not target.calls
    assert again.control("key").classes == ("bee", "cat")


def control():
    return Control(
        ("bee", "cat"),
        np.array([0, 1, 1], np.int64),
        np.arange(6, dtype=np.float32).reshape(3, 2),
        ("x.jpg: cut",),
    )


def test_control_activations_come_back_as_they_were_put(bank):
    assert bank.control("key") is None
    bank.put_control("key", control())
    kept = Cache(bank.root).control("key")
    assert (kept.classes, kept.skipped) == (("bee", "cat"), ("x.jpg: cut",))
    np.testing.assert_array_equal(kept.labels, control().labels)
    np.testing.assert_array_equal(kept.activations, control().activations)
    assert (kept.labels.dtype, kept.activations.dtype) == (np.int64, np.float32)
    bank.drop_controls(["key"])
    assert Cache(bank.root).control("key") is None


def test_many_images_are_kept_batch_by_batch_and_the_progress_is_of_the_whole(bank):
    class Slow(Colours):
        def synthesize(self, requests, progress=None):
            for done in range(1, 2 * len(requests) + 1):
                progress(done, 2 * len(requests))
            return super().synthesize(requests)

    slow, seen = Slow(), []
    ids = bank.images(requests(seeds=range(90)), slow, lambda done, total: seen.append((done, total)))
    assert [len(call) for call in slow.calls] == [40, 40, 10]
    assert seen == [(done, 180) for done in range(1, 181)]
    assert len(set(ids)) == 90


def test_control_activations_of_another_width_than_the_layer_count_as_missing_and_are_told(bank, caplog):
    bank.put_control("key", control())
    width = control().activations.shape[1]
    assert Cache(bank.root).control("key", width) is not None
    assert Cache(bank.root).control("key", width + 1) is None
    assert f"are of {width} units, and the layer has {width + 1}; they are computed again" in caplog.text


def test_control_activations_with_labels_of_no_class_count_as_missing(bank):
    bank.put_control("key", replace(control(), labels=np.full(len(control().labels), 7)))
    assert Cache(bank.root).control("key") is None


def test_no_room_is_made_for_what_the_header_of_control_activations_claims(bank):
    bank.put_control("key", control())
    (file,) = (bank.root / "controls").iterdir()
    with zipfile.ZipFile(file, "w") as arrays:
        for name, kind, shape in (("labels", "<i8", (10**8,)), ("activations", "<f4", (10**8, 932))):
            header = BytesIO()
            np.lib.format.write_array_header_1_0(header, {"descr": kind, "fortran_order": False, "shape": shape})
            arrays.writestr(f"{name}.npy", header.getvalue())
    assert bank_view.read_control(bank.root, "key", ("[]", "[]", None))[1].startswith(
        "are damaged: its header claims"
    )
    assert Cache(bank.root).control("key") is None


def test_damaged_control_activations_count_as_missing(bank):
    bank.put_control("key", control())
    (file,) = (bank.root / "controls").iterdir()
    file.write_bytes(file.read_bytes()[:50])
    assert bank.control("key") is None


class WithPixels(Colours):
    def synthesize(self, requests, progress=None):
        return [
            replace(one, pixels=np.asarray(Image.open(BytesIO(one.png)))) for one in super().synthesize(requests)
        ]


def test_pixels_that_a_generator_hands_over_spare_reading_the_file(bank):
    ids = bank.images(requests(), WithPixels())
    for image in ids:
        bank.image_path(image).unlink()
    rows = bank.activations(ids, MeanColour(), "positive", also=["negative"])
    other = Cache(bank.root)
    again = other.images(requests(), Colours())
    assert again == ids
    np.testing.assert_array_equal(other.activations(ids, MeanColour("other"), "positive"), rows)
    target = MeanColour()
    np.testing.assert_array_equal(bank.activations(ids, target, "negative"), -rows)
    assert target.calls == []


class PixelsAlone(WithPixels):
    """Leaves the files to the cache, in the encoding that it uses."""

    def synthesize(self, requests, progress=None):
        return [replace(image, png=b"") for image in super().synthesize(requests)]


class Encoded(WithPixels):
    def synthesize(self, requests, progress=None):
        return [replace(image, png=encode_png(image.pixels)) for image in super().synthesize(requests)]


def test_images_without_files_are_kept_as_those_with_files(bank, tmp_path):
    with closing(Cache(tmp_path / "other")) as other:
        ids, known = (
            cache.images(requests(), made) for cache, made in ((bank, PixelsAlone()), (other, Encoded()))
        )
        assert ids == known
        for image in ids:
            assert bank.image_bytes(image) == other.image_bytes(image)
            assert bank.provenance(image) == other.provenance(image)
    assert hashlib.sha256(bank.image_bytes(ids[0])).hexdigest() == ids[0]


@pytest.mark.parametrize("pixels", [None, np.zeros((4, 4, 3)), np.zeros((4, 0, 3), np.uint8)])
def test_an_image_without_a_file_that_none_can_be_made_of_is_refused(bank, pixels):
    class Broken(Colours):
        def synthesize(self, requests, progress=None):
            return [DrawnImage(b"", {}, pixels) for _ in requests]

    with pytest.raises(BackendError, match="broken image of 'cat'"):
        bank.images(requests(), Broken())
    assert not list(bank.root.glob("images/*/*"))


def test_the_generator_has_the_next_batch_while_the_last_is_encoded_and_written(bank, monkeypatch):
    second = threading.Event()
    threads = set()

    class Watched(PixelsAlone):
        batch_size = 1

        def synthesize(self, requests, progress=None):
            if self.calls:
                second.set()
            return super().synthesize(requests)

    def slow(image):
        threads.add(threading.current_thread().name)
        # Nothing is encoded before the generator is at work again.
        assert second.wait(30)
        return with_file(image)

    monkeypatch.setattr(validation, "with_file", slow)
    generator = BatchedGenerator(Watched(), callers=lambda: 2, wait=0, check=lambda: None)
    with closing(generator), ThreadPoolExecutor(2) as units:
        found = list(units.map(lambda seed: bank.images(requests("cat", [seed]), generator), (1, 2)))
    assert len({image for (image,) in found}) == 2
    assert not any("generator" in name for name in threads)


def test_the_concepts_with_enough_images_are_told_and_their_images_in_the_order_of_drawing(bank):
    first = bank.images(requests("cat", [3, 1]), Colours())
    bank.images(requests("cat", [2]), Colours())
    bank.images(requests("dog", [1, 2]), Colours())
    assert bank.concepts(Colours().fingerprint, 2) == ["cat", "dog"]
    assert bank.concepts(Colours().fingerprint, 3) == ["cat"]
    assert bank.images_of("cat", Colours().fingerprint, 2) == first


def test_what_an_evaluation_had_drawn_alters_no_later_first_board(bank):
    evaluated = [ImageRequest("cat", "", "", seed, "photo of {concept}") for seed in (7, 8)]
    bank.images(evaluated, Colours())
    assert bank.concepts(Colours().fingerprint) == []
    own = bank.images(requests("cat", [1]), Colours())
    assert bank.concepts(Colours().fingerprint) == ["cat"]
    assert bank.images_of("cat", Colours().fingerprint, 5) == own


def test_text_that_looks_like_sql_is_text(bank):
    nasty = "'); DROP TABLE draws; --"
    (image,) = bank.images(requests(nasty, [1]), Colours(nasty))
    assert bank.concepts(Colours(nasty).fingerprint) == [nasty]
    assert bank.images_of(nasty, nasty, 5) == [image]
    bank.activations([image], MeanColour(nasty), nasty)


def spoil(bank, statement):
    with bank._folder.transaction() as db:
        db.execute(statement)


OF_THE_LARGEST = ", ".join(
    f"{column} = (SELECT {column} FROM activations ORDER BY vector DESC)" for column in ("vector", "checksum")
)


@pytest.mark.parametrize(
    "change",
    ["vector = x'0000803f0000803f0000803f'", "checksum = x'00'", OF_THE_LARGEST],
    ids=["another vector", "another checksum", "those of another image"],
)
def test_a_vector_that_is_not_what_it_was_is_told_and_measured_anew(bank, change):
    images = bank.images(requests(), Colours())
    target = MeanColour()
    before = bank.activations(images, target, "positive")
    spoil(bank, f"UPDATE activations SET {change}")
    damaged = sum(
        one is None
        for image in images
        for one in bank_view.stored_activations(bank.root, [image], target.fingerprint, "positive", 0)
    )
    assert damaged >= 4
    np.testing.assert_array_equal(bank.activations(images, target, "positive"), before)
    assert bank.stats.recomputed == damaged
    assert sum(target.calls) == len(images) + damaged
    assert None not in bank_view.stored_activations(bank.root, images, target.fingerprint, "positive", 0)


def test_the_strongest_images_are_those_of_all_that_a_layer_was_measured_on(bank):
    images, target = bank.images(requests(), Colours()), MeanColour()
    values = bank.activations(images, target, "positive")[:, 0]
    by_value = [image for _, image in sorted(zip(-values, images, strict=True))]
    for count in (1, 3, len(images) + 5):
        found = bank_view.strongest_images(bank.root, target.fingerprint, "positive", 0, count)
        assert found == by_value[:count]
    assert bank_view.strongest_images(bank.root, target.fingerprint, "another", 0, 3) == []
    assert bank_view.strongest_images(bank.root / "none", target.fingerprint, "positive", 0, 3) == []


def test_a_image_that_was_drawn_from_another_prompt_is_never_given(bank):
    images = bank.images(requests(), Colours())
    # As where flipped bits of the index lead to another row.
    spoil(bank, f"UPDATE draws SET image = '{images[1]}' WHERE image = '{images[0]}'")
    with pytest.raises(DamagedError, match=r"it names another image for 'A photo of a cat.*--deep --fix"):
        bank.images(requests(), Colours())


def test_what_an_earlier_version_kept_without_checksums_is_used_as_it_is(tmp_path):
    with closing(Cache(tmp_path)) as bank:
        images = bank.images(requests(), Colours())
        before = bank.activations(images, MeanColour(), "positive")
        bank.put_control("key", control())
    with closing(sqlite3.connect(tmp_path / "bank.db")) as db, db:
        for table in ("draws", "activations", "controls"):
            db.execute(f"ALTER TABLE {table} DROP COLUMN checksum")
        db.execute("ALTER TABLE activations DROP COLUMN units")
        db.execute("PRAGMA user_version = 1")
    fingerprint = MeanColour().fingerprint
    assert None not in bank_view.stored_activations(tmp_path, images, fingerprint, "positive", 0)
    assert bank_view.stored_control(tmp_path, "key") is not None
    with closing(Cache(tmp_path)) as bank:
        target = MeanColour()
        np.testing.assert_array_equal(bank.activations(images, target, "positive"), before)
        assert target.calls == []
        assert bank.control("key") is not None


def test_sparse_vectors_of_an_earlier_version_are_used_as_they_are(tmp_path, caplog):
    with closing(Cache(tmp_path)) as bank:
        images = bank.images(requests(), Colours())
        before = bank.activations(images, Sparse("sparse"), "positive")
    with closing(sqlite3.connect(tmp_path / "bank.db")) as db, db:
        for image, row in zip(images, before, strict=True):
            active = np.flatnonzero(row)
            vector = active.astype("<u4").tobytes() + row[active].astype("<f4").tobytes()
            kept = vector_checksum(image, "sparse", "positive", vector, len(row))
            db.execute("UPDATE activations SET vector = ?, checksum = ? WHERE image = ?", (vector, kept, image))
        db.execute("PRAGMA user_version = 3")
    assert bank_view.stored_activations(tmp_path, images, "sparse", "positive", 7) == before[:, 7].tolist()
    with closing(Cache(tmp_path)) as bank:
        target = Sparse("sparse")
        np.testing.assert_array_equal(bank.activations(images, target, "positive"), before)
        np.testing.assert_array_equal(bank.activations(images, target, "positive", unit=7), before[:, [7]])
        assert target.calls == []
    assert "bank.db.before-m004" in caplog.text


def test_control_activations_of_another_file_or_with_other_classes_are_told_and_not_used(bank, caplog):
    bank.put_control("key", control())
    bank.put_control("other", replace(control(), activations=control().activations[::-1]))
    one, other = (bank_view.control_path(bank.root, key) for key in ("key", "other"))
    one.write_bytes(other.read_bytes())
    assert Cache(bank.root).control("key") is None
    assert "their content has changed; they are computed again" in caplog.text
    spoil(bank, "UPDATE controls SET classes = replace(classes, 'bee', 'eel')")
    assert bank_view.stored_control(bank.root, "other") is None


def test_a_bank_of_a_newer_version_is_left_untouched(tmp_path):
    db = sqlite3.connect(tmp_path / "bank.db")
    db.execute("PRAGMA user_version = 99")
    db.close()
    before = (tmp_path / "bank.db").read_bytes()
    with pytest.raises(StoreError, match=r"newer version \(schema 99.*update line-neurons"):
        Cache(tmp_path)
    assert (tmp_path / "bank.db").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["bank.db"]


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "bank.db").write_bytes(b"hello, this is a text file and no database at all" * 50)
    with pytest.raises(StoreError, match=r"bank\.db .* is damaged"):
        Cache(tmp_path)


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot be used.*is writable"):
        Cache(tmp_path / "file" / "store")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="make the folder writable"):
        Cache(tmp_path / "store")


def test_a_failed_write_leaves_no_half_image(bank, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        with pytest.raises(StoreError, match="No space left"):
            bank.images(requests(), Colours())
    assert not [file for file in bank.root.rglob("*") if file.parent.parent.name == "images" and file.is_file()]
    assert len(bank.images(requests(), Colours())) == 5


def test_no_image_waits_for_the_disk_and_what_a_power_cut_leaves_of_one_is_generated_again(bank, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    ids = bank.images(requests(), Colours())
    assert not synced
    bank.put_control("key", control())
    assert synced
    bank.image_path(ids[0]).write_bytes(b"")
    bank.image_path(ids[1]).write_bytes(bank.image_bytes(ids[1])[:-7])
    whole = Colours()
    assert bank.images(requests(), whole) == ids
    assert sum(map(len, whole.calls)) == 2


def test_threads_share_one_bank(bank):
    colours, target = Colours(), MeanColour()

    def work(number):
        ids = bank.images(requests(seeds=range(number, number + 4)), colours)
        return ids, bank.activations(ids, target, "positive").tobytes()

    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(work, [0, 1, 2, 3] * 4))
    assert results[:4] == results[4:8] == results[8:12] == results[12:]


def open_and_fill(root, start):
    start.wait()
    bank = Cache(root)
    for concept in ("cat", "dog", "bee"):
        ids = bank.images(requests(concept), Colours())
        bank.activations(ids, MeanColour(), "positive")


def test_processes_share_one_store(tmp_path):
    spawn = multiprocessing.get_context("fork")
    start = spawn.Barrier(4)
    processes = [spawn.Process(target=open_and_fill, args=(tmp_path / "store", start)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    db = sqlite3.connect(tmp_path / "store" / "bank.db")
    assert db.execute("SELECT count(*), count(DISTINCT image) FROM draws").fetchone() == (15, 15)
    assert db.execute("SELECT count(*) FROM activations").fetchone() == (15,)


def test_opening_and_looking_up_is_quick(bank):
    ids = bank.images(requests(), Colours())
    bank.activations(ids, MeanColour(), "positive")
    times = []
    for _ in range(20):
        start = time.perf_counter()
        bank.activations(bank.images(requests(), Colours()), MeanColour(), "positive")
        times.append(time.perf_counter() - start)
    assert min(times) < 0.005


def test_importing_the_bank_brings_no_torch_and_no_numpy():
    code = (
        "import sys, json; import line_neurons.tools.cache.activation_cache, line_neurons.tools.control_sets,"
        " line_neurons.tools.targets.registry; print(json.dumps(list(sys.modules)))"
    )
    modules = json.loads(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout)
    assert not {"torch", "torchvision", "numpy", "PIL"} & set(modules)


def test_two_processes_that_draw_the_same_agree_on_one_image(bank):
    other = Cache(bank.root)
    meet = threading.Barrier(2)

    class Nondeterminism(Colours):
        def __init__(self, variant):
            super().__init__("unsteady")
            self.variant = variant

        def synthesize(self, wanted, progress=None):
            meet.wait(10)
            return Colours(self.variant).synthesize(wanted)

    def draw(opened, variant):
        return opened.images(requests(seeds=[1]), Nondeterminism(variant))

    with ThreadPoolExecutor(2) as threads:
        one, two = threads.map(draw, [bank, other], "ab")
    assert one == two


class Held(Colours):
    """Draws when it is let go on; may fail first."""

    def __init__(self, error=None):
        super().__init__()
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.error = error

    def synthesize(self, requests, progress=None):
        self.begun.set()
        assert self.go_on.wait(30)
        if self.error:
            self.calls.append(list(requests))
            raise self.error
        return super().synthesize(requests)


def found_another(claims):
    """An event, set when a thread has found that another one works on what it needs."""
    seen = threading.Event()
    take = claims.take

    def watched(keys):
        claim = take(keys)
        if claim._others:
            seen.set()
        return claim

    claims.take = watched
    return seen


@pytest.fixture
def threads():
    with ThreadPoolExecutor(4) as pool:
        yield pool


def test_two_threads_that_need_a_image_at_the_same_moment_share_one_drawing(bank, threads):
    held, idle = Held(), Colours()
    first = threads.submit(bank.images, requests(seeds=[0, 1]), held)
    assert held.begun.wait(30)
    met = found_another(bank._generating)
    second = threads.submit(bank.images, requests(seeds=[1, 2]), idle)
    assert met.wait(30)
    held.go_on.set()
    assert first.result(30)[1] == second.result(30)[0]
    assert [[one.seed for one in call] for call in (*held.calls, *idle.calls)] == [[0, 1], [2]]
    assert (bank.stats.generated, bank.stats.reused) == (3, 1)


@pytest.mark.parametrize("error", [BackendError("out of memory"), NotDrawableError("cat", [("dog", 0.5)])])
def test_a_thread_draws_itself_what_another_one_failed_to_draw(bank, threads, error):
    held, able = Held(error), Colours()
    first = threads.submit(bank.images, requests(seeds=[1]), held)
    assert held.begun.wait(30)
    met = found_another(bank._generating)
    second = threads.submit(bank.images, requests(seeds=[1]), able)
    assert met.wait(30)
    held.go_on.set()
    assert first.exception(30) is error
    assert len(second.result(30)) == 1
    assert len(able.calls) == 1
    assert bank.stats.generated == 1


def test_threads_with_overlapping_needs_do_not_wait_for_each_other_for_ever(bank, threads):
    held, other = Held(), Held()
    first = threads.submit(bank.images, requests(seeds=[0, 1]), held)
    assert held.begun.wait(30)
    second = threads.submit(bank.images, requests(seeds=[2, 1, 0, 3]), other)
    assert other.begun.wait(30)
    third = threads.submit(bank.images, requests(seeds=[3, 0, 4, 2, 1]), Colours())
    other.go_on.set()
    held.go_on.set()
    assert set(first.result(30)) | {second.result(30)[0]} < set(third.result(30))
    assert bank.stats.generated == 5


@given(st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=7), min_size=2, max_size=4))
@settings(max_examples=25)
def test_however_the_needs_of_threads_overlap_each_image_is_drawn_and_measured_once(needs):
    with TemporaryDirectory() as folder, ThreadPoolExecutor(len(needs)) as threads:
        bank, colours, target = Cache(Path(folder)), Colours(), MeanColour()

        def work(seeds):
            ids = bank.images(requests(seeds=seeds), colours)
            return dict(zip(seeds, ids, strict=True)), bank.activations(ids, target, "positive", also=["negative"])

        results = list(threads.map(work, needs, timeout=60))
        distinct = {seed for seeds in needs for seed in seeds}
        assert sorted(one.seed for call in colours.calls for one in call) == sorted(distinct)
        assert sum(target.calls) == len(distinct)
        asked = sum(map(len, needs))
        assert bank.snapshot() == CacheStats(
            generated=len(distinct),
            reused=asked - len(distinct),
            forwarded=len(distinct),
            saved=asked - len(distinct),
        )
        for seeds, (ids, rows) in zip(needs, results, strict=True):
            assert ids == {seed: results_of(bank, seed) for seed in seeds}
            np.testing.assert_array_equal(
                rows, bank.vectors([ids[seed] for seed in seeds], target.fingerprint, "positive")
            )
        bank.close()


def results_of(bank, seed):
    return bank.images(requests(seeds=[seed]), Colours())[0]


def test_two_threads_that_measure_a_image_at_the_same_moment_share_one_forward_pass(bank, threads):
    ids = bank.images(requests(), Colours())
    begun, go_on = threading.Event(), threading.Event()

    class Slow(MeanColour):
        def activate(self, images, layers, progress=None):
            begun.set()
            assert go_on.wait(30)
            return super().activate(images, layers)

    slow, idle = Slow(), MeanColour()
    first = threads.submit(bank.activations, ids[:3], slow, "positive", also=["negative"])
    assert begun.wait(30)
    met = found_another(bank._measuring)
    second = threads.submit(bank.activations, ids[2:], idle, "negative", also=["positive"])
    assert met.wait(30)
    go_on.set()
    np.testing.assert_array_equal(first.result(30)[2], -second.result(30)[0])
    assert (slow.calls, idle.calls) == ([3], [2])
    assert (bank.stats.forwarded, bank.stats.saved) == (5, 1)


def test_a_snapshot_of_the_stats_stays_as_it_was(bank):
    bank.images(requests(), Colours())
    before = bank.snapshot()
    bank.images(requests("dog"), Colours())
    assert (before.generated, bank.snapshot().generated) == (5, 10)


def test_pixels_are_let_go_of_once_they_are_measured_or_when_there_are_too_many(bank, monkeypatch):
    ids = bank.images(requests(), WithPixels())
    assert set(bank._pixels) == set(ids)
    bank.activations(ids[:2], MeanColour(), "positive")
    assert set(bank._pixels) == set(ids[2:])
    monkeypatch.setattr(image_bank, "_PIXEL_BYTES", 3 * 16 * 16 * 3)
    more = bank.images(requests("dog"), WithPixels())
    assert list(bank._pixels) == more[2:]
    bank.activations([*ids, *more], MeanColour(), "positive")
    assert bank._pixel_bytes == 0


def test_vectors_are_read_without_the_target_in_any_order_and_number(bank, monkeypatch):
    monkeypatch.setattr(concept_bank, "_AT_ONCE", 2)
    ids = bank.images(requests(), Colours())
    rows = bank.activations(ids, MeanColour(), "positive")
    places = [4, 0, 0, 3, 1]
    read = bank.vectors([ids[place] for place in places], "mean-colour:1", "positive")
    assert read.dtype == np.float32
    assert read.tobytes() == rows[places].tobytes()
    assert bank.vectors([], "mean-colour:1", "positive").shape == (0, 0)


def test_a_vector_that_is_not_there_is_told(bank):
    ids = bank.images(requests(), Colours())
    bank.activations(ids[:4], MeanColour(), "positive")
    with pytest.raises(StoreError, match=f"{ids[4][:12]} has not been measured at positive"):
        bank.vectors(ids, "mean-colour:1", "positive")


def test_control_activations_in_use_are_read_once_and_let_go_of_afterwards(bank):
    for key in ("one", "two"):
        bank.put_control(key, control())
    with ThreadPoolExecutor(4) as threads:
        kept = list(threads.map(bank.control, ["one", "two"] * 4))
    assert kept[0] is kept[2] is kept[6]
    assert kept[1] is kept[3]
    bank.put_control("one", Control((), np.zeros(1, np.int64), np.zeros((1, 2), np.float32)))
    assert len(bank.control("one").labels) == 1
    del kept
    gc.collect()
    assert not len(bank._controls)


class Sparse(MeanColour):
    """A layer of 5,000 units, of which an image excites few."""

    def layers(self):
        return [LayerInfo("positive", "Wide", (5000,), 5000)]

    def activate(self, images, layers, progress=None):
        rows = (
            super().activate(images, ["positive"], progress)["positive"]
            if images
            else np.empty((0, 3), np.float32)
        )
        wide = np.zeros((len(images), 5000), np.float32)
        wide[:, [7, 2000, 4999]] = rows[:, :3]
        return {"positive": wide}


def test_wide_layers_are_kept_in_proportion_to_what_is_not_0(tmp_path):
    with closing(Cache(tmp_path)) as bank:
        images = bank.images(requests(), Colours())
        found = bank.activations(images, Sparse("sparse"), "positive")
        again = bank.vectors(images, "sparse", "positive")
        np.testing.assert_array_equal(found, again)
        sparse = Control((), np.full(len(images), -1, np.int64), found)
        bank.put_control("key", sparse)
    with closing(sqlite3.connect(tmp_path / "bank.db")) as db:
        sizes = db.execute("SELECT length(vector), units FROM activations").fetchall()
    assert all(size <= 3 * 8 and units == 5000 for size, units in sizes)
    assert bank_view.stored_activations(tmp_path, images, "sparse", "positive", 2000) == found[:, 2000].tolist()
    assert bank_view.layer_width(tmp_path, "sparse", "positive") == 5000
    kept = bank_view.stored_control(tmp_path, "key")
    np.testing.assert_array_equal(kept.dense(), found)
    np.testing.assert_array_equal(kept.column(4999), found[:, 4999])
    assert bank_view.control_path(tmp_path, "key").stat().st_size < found.nbytes
