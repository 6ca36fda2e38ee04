import io
import re
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pytest
from datasets import Array3D, ClassLabel, Dataset, DatasetDict, Features, Image, Value
from PIL import Image as Pillow

from line_neurons.agent.errors import MissingPartError, UsageError
from line_neurons.tools.cache.file_hashes import FileHashes
from line_neurons.tools.control_sets import control_activations, open_control_set
from line_neurons.tools.control_sets.hugging_face import DatasetControlSet
from line_neurons.tools.control_sets.hugging_face_source import open_source
from line_neurons.tools.control_sets.sampling import CHUNK
from line_neurons.tools.packages import pip_install

NAMES = ["tabby_cat", "bee", "owl"]
LABELLED = Features({"image": Image(), "label": ClassLabel(names=NAMES)})


@pytest.fixture(autouse=True)
def library_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


@pytest.fixture
def rows(encoded):
    """Ninety images in turn of three classes; the red of each is its number."""
    images = [{"bytes": encoded((number, 0, 0), "JPEG" if number % 2 else "PNG")} for number in range(90)]
    return Dataset.from_dict({"image": images, "label": [number % 3 for number in range(90)]}, features=LABELLED)


def save(kind, dataset, folder):
    """The dataset in a folder, as the library writes it; the name by which it is opened."""
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "arrow":
        dataset.save_to_disk(str(folder))
        return str(folder)
    dataset.to_parquet(str(folder / "train-00000-of-00001.parquet"), batch_size=20)
    return f"hf:{folder}"


def images(control, start=0):
    return [image for chunk in control.chunks(start) for image in zip(chunk.images, chunk.labels, strict=True)]


def reds(control, start=0):
    return [
        Pillow.open(io.BytesIO(image)).convert("RGB").getpixel((0, 0))[0] for image, _ in images(control, start)
    ]


@pytest.mark.parametrize("kind", ["arrow", "parquet"])
class TestBothForms:
    def test_images_come_as_they_are_encoded_with_the_named_classes(self, kind, rows, tmp_path):
        control = open_control_set(save(kind, rows, tmp_path / "data"))
        assert control.classes() == ("bee", "owl", "tabby cat")
        encoded = rows.cast_column("image", Image(decode=False))
        assert images(control) == [(row["image"]["bytes"], [2, 0, 1][row["label"]]) for row in encoded]

    def test_chunks_have_a_fixed_size_and_may_begin_at_any(self, kind, rows, tmp_path):
        control = open_control_set(save(kind, rows, tmp_path / "data"))
        assert control.total == 2
        assert [len(chunk.images) for chunk in control.chunks()] == [CHUNK, 90 - CHUNK]
        assert images(control, start=1) == images(control)[CHUNK:]
        assert images(control, start=2) == []

    def test_the_first_images_of_each_class_count(self, kind, rows, tmp_path):
        by_class = rows.sort("label")
        few = open_control_set(save(kind, by_class, tmp_path / "data"), images=2)
        assert [label for _, label in images(few)] == [2, 2, 0, 0, 1, 1]
        # JPEG changes a colour by little.
        assert reds(few) == pytest.approx([0, 3, 1, 4, 2, 5], abs=1)

    def test_the_fingerprint_is_of_the_content_not_of_the_place(self, kind, rows, tmp_path):
        first = open_control_set(save(kind, rows, tmp_path / "one")).fingerprint
        assert open_control_set(save(kind, rows, tmp_path / "two")).fingerprint == first
        assert open_control_set(save(kind, rows, tmp_path / "one"), images=3).fingerprint != first
        other = rows.select(range(89))
        assert open_control_set(save(kind, other, tmp_path / "three")).fingerprint != first

    def test_damaged_and_missing_images_are_skipped_and_told(self, kind, rows, tmp_path, encoded):
        images = [{"bytes": encoded((1, 0, 0))}, {"bytes": b"text"}, None, {"bytes": encoded((3, 0, 0))}]
        data = Dataset.from_dict({"image": images, "label": [0, 1, 2, 0]}, features=LABELLED)
        (chunk,) = open_control_set(save(kind, data, tmp_path / "data")).chunks()
        assert chunk.labels == (2, 2)
        assert chunk.skipped == ("row 1: not an image", "row 2: no image")

    def test_rows_without_a_label_have_none(self, kind, rows, tmp_path):
        encoded = rows.cast_column("image", Image(decode=False)).select(range(4))["image"]
        data = Dataset.from_dict({"image": list(encoded), "label": [None, -1, 0, 1]}, LABELLED)
        control = open_control_set(save(kind, data, tmp_path / "data"))
        assert control.classes() == ("bee", "tabby cat")
        assert [label for _, label in images(control)] == [-1, -1, 1, 0]

    def test_text_labels_are_classes_and_numbers_without_names_are_not(self, kind, rows, tmp_path):
        texts = rows.remove_columns("label").add_column("label", ["red_fox", "bee"] * 45)
        control = open_control_set(save(kind, texts, tmp_path / "texts"))
        assert control.classes() == ("bee", "red fox")
        assert [label for _, label in images(control)] == [1, 0] * 45
        numbers = rows.cast_column("label", Value("int64"))
        control = open_control_set(save(kind, numbers, tmp_path / "numbers"))
        assert control.classes() == ()
        assert reds(control) == reds(open_control_set(save(kind, rows, tmp_path / "data")))
        assert {label for _, label in images(control)} == {-1}

    def test_arrays_become_pngs_of_the_same_pixels(self, kind, tmp_path):
        pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3), np.uint8)
        features = Features({"img": Array3D((4, 5, 3), "uint8"), "label": ClassLabel(names=NAMES)})
        data = Dataset.from_dict({"img": list(pixels), "label": [0, 1, 2]}, features=features)
        control = open_control_set(save(kind, data, tmp_path / "data"))
        found = [np.asarray(Pillow.open(io.BytesIO(image))) for image, _ in images(control)]
        np.testing.assert_array_equal(found, pixels)

    def test_bytes_in_a_column_called_image_are_images(self, kind, tmp_path, encoded):
        data = Dataset.from_dict({"image": [encoded((number, 0, 0)) for number in range(3)], "text": list("abc")})
        assert reds(open_control_set(save(kind, data, tmp_path / "data"))) == [0, 1, 2]

    def test_a_dataset_without_images_is_refused_with_its_columns(self, kind, tmp_path):
        data = Dataset.from_dict({"text": ["a"], "label": [0]})
        with pytest.raises(UsageError, match="no column of images, only text, label"):
            open_control_set(save(kind, data, tmp_path / "data"))

    def test_a_file_elsewhere_that_a_row_names_is_not_read(self, kind, tmp_path, paint):
        paint(tmp_path / "private.png", (1, 1, 1))
        features = Features({"image": {"bytes": Value("binary"), "path": Value("string")}})
        elsewhere = (str(tmp_path / "private.png"), f"{tmp_path}/data/../private.png", "http://localhost:9/x.png")
        data = [{"image": {"bytes": None, "path": path}} for path in elsewhere]
        path = save(kind, Dataset.from_list(data, features=features), tmp_path / "data")
        (chunk,) = open_control_set(path).chunks()
        assert chunk.images == ()
        assert chunk.skipped == tuple(f"row {row}: its file is not in the dataset" for row in range(3))

    def test_work_that_was_cut_off_goes_on_and_ends_the_same(self, kind, rows, tmp_path, bank, new_target):
        def cut(done, total):
            if done:
                raise KeyboardInterrupt

        path = save(kind, rows, tmp_path / "data")
        with pytest.raises(KeyboardInterrupt):
            control_activations(bank, new_target(), ["layer"], open_control_set(path), cut)
        target = new_target()
        found = control_activations(bank, target, ["layer"], open_control_set(path))["layer"]
        assert target.calls == [(90 - CHUNK, ("layer",))]
        assert found.labels.tolist() == [2, 0, 1] * 30
        np.testing.assert_allclose(found.activations[:, 0], np.arange(90), atol=2)

    def test_a_label_that_counts_no_class_is_refused(self, kind, rows, tmp_path):
        table = rows.select(range(2)).data.table
        path = save(kind, Dataset(table.set_column(1, table.schema.field(1), [[0, 7]])), tmp_path / "data")
        with pytest.raises(UsageError, match="has the label 7, but 3 classes"):
            open_control_set(path).classes()


def test_the_name_hf_opens_a_saved_folder_too(rows, tmp_path):
    path = save("arrow", rows, tmp_path / "data")
    assert open_control_set(f"hf:{path}").fingerprint == open_control_set(path).fingerprint


def test_saved_splits_are_chosen_by_name_and_validation_comes_first(rows, tmp_path):
    splits = {"train": rows.select(range(3)), "validation": rows.select(range(3, 5)), "odd name": rows.select([7])}
    DatasetDict(splits).save_to_disk(str(tmp_path / "data"))
    assert reds(open_control_set(str(tmp_path / "data"))) == pytest.approx([3, 4], abs=2)
    assert reds(open_control_set(f"{tmp_path}/data@train")) == pytest.approx([0, 1, 2], abs=2)
    assert reds(open_control_set(f"hf:{tmp_path}/data@odd name")) == pytest.approx([7], abs=2)
    with pytest.raises(UsageError, match=r"no split 'test' \(choose from train, validation, odd name\)"):
        open_control_set(f"{tmp_path}/data@test")


def test_several_splits_with_unusual_names_must_be_chosen_from(rows, tmp_path):
    DatasetDict({"a": rows.select([0]), "b": rows.select([1])}).save_to_disk(str(tmp_path / "data"))
    with pytest.raises(UsageError, match=r"several splits \(choose with @: a, b\)"):
        open_control_set(str(tmp_path / "data"))


def test_splits_of_a_folder_of_files_are_chosen_by_name(rows, tmp_path):
    for split, part in (("train", range(3)), ("test", range(3, 5))):
        rows.select(part).to_parquet(str(tmp_path / f"{split}.parquet"))
    assert reds(open_control_set(f"hf:{tmp_path}")) == pytest.approx([3, 4], abs=2)
    assert reds(open_control_set(f"hf:{tmp_path}@train")) == pytest.approx([0, 1, 2], abs=2)
    with pytest.raises(UsageError, match=r"no split 'dev' \(choose from train, test\)"):
        open_control_set(f"hf:{tmp_path}@dev")


def test_configurations_of_a_folder_are_named_after_it(rows, tmp_path):
    readme = "---\nconfigs:\n"
    for number, config in enumerate(("plain", "rotated")):
        (tmp_path / f"{config} files").mkdir()
        rows.select([number * 20]).to_parquet(str(tmp_path / f"{config} files" / "train.parquet"))
        readme += f"- config_name: {config}\n  data_files: {config} files/*\n"
    (tmp_path / "README.md").write_text(readme + "---\n")
    with pytest.raises(UsageError, match=r"'plain', 'rotated'"):
        open_control_set(f"hf:{tmp_path}")
    assert reds(open_control_set(f"hf:{tmp_path}/rotated@train")) == [20]


def test_loose_images_of_a_dataset_folder_are_read_from_it(tmp_path, paint):
    for split in ("train", "validation"):
        for number, name in enumerate(("bee", "red_fox")):
            paint(tmp_path / split / name / "a.png", (number * 9, 0, 0))
    control = open_control_set(f"hf:{tmp_path}@validation")
    assert control.classes() == ("bee", "red fox")
    assert (reds(control), [label for _, label in images(control)]) == ([0, 9], [0, 1])


def test_web_datasets_are_read_and_numbers_are_no_classes(tmp_path, encoded):
    with tarfile.open(tmp_path / "train-0000.tar", "w") as tar:
        for number in range(3):
            for ending, content in (("png", encoded((number, 0, 0))), ("cls", b"7")):
                member = tarfile.TarInfo(f"{number:03}.{ending}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    control = open_control_set(f"hf:{tmp_path}")
    assert control.classes() == ()
    assert reds(control) == [0, 1, 2]


def test_a_folder_may_be_called_as_a_reader_of_the_library_is(rows, tmp_path, monkeypatch):
    save("parquet", rows.select([4]), tmp_path / "parquet")
    monkeypatch.chdir(tmp_path)
    assert reds(open_control_set("hf:parquet")) == [4]


def test_tables_without_images_are_refused(tmp_path):
    (tmp_path / "train.csv").write_text("text,label\na,0\n")
    with pytest.raises(UsageError, match="no column of images"):
        open_control_set(f"hf:{tmp_path}")


def test_a_stream_without_classes_ends_where_its_images_end(rows, tmp_path):
    path = save("parquet", rows.remove_columns("label"), tmp_path / "data")
    control = open_control_set(path)
    assert control.total is None
    assert [len(chunk.images) for chunk in control.chunks()] == [CHUNK, 90 - CHUNK]
    assert len(reds(open_control_set(path, images=CHUNK))) == CHUNK
    assert list(control.chunks(2)) == []


def test_a_dataset_that_lacks_files_is_refused(rows, tmp_path):
    rows.to_parquet(str(tmp_path / "train-00000-of-00003.parquet"))
    with pytest.raises(MissingPartError, match="1 of 3 files of train"):
        open_control_set(f"hf:{tmp_path}")


@pytest.mark.parametrize("content", ["", "{}", "not a file of that kind"])
def test_damaged_files_are_refused_in_one_line(tmp_path, content):
    (tmp_path / "train.parquet").write_text(content)
    with pytest.raises(UsageError, match="cannot be read") as refused:
        open_control_set(f"hf:{tmp_path}")
    assert "\n" not in str(refused.value)
    (tmp_path / "dataset_dict.json").write_text(content)
    with pytest.raises(UsageError, match="cannot be read"):
        open_control_set(str(tmp_path))


@pytest.mark.parametrize("spec", ["/nowhere/at/all", "./nowhere/at/all"])
def test_a_folder_that_is_not_there_is_not_looked_up_on_the_hub(spec):
    with pytest.raises(UsageError, match=f"no dataset folder {spec}"):
        open_control_set(f"hf:{spec}")


@pytest.mark.parametrize("spec", ["", "a/b/c/d", "a b", "owner/name@", "@train"])
def test_what_is_no_name_of_a_dataset_is_refused(spec):
    with pytest.raises(UsageError, match="no name of a dataset"):
        open_control_set(f"hf:{spec}")


def test_a_dataset_that_is_not_here_is_not_fetched_unless_allowed():
    with pytest.raises(MissingPartError, match=r"owner/name@train is not on this machine \(.*--download"):
        open_control_set("hf:owner/name@train")


def test_a_download_without_the_network_says_what_to_check():
    code = (
        "from line_neurons.tools.control_sets import open_control_set\n"
        "from line_neurons.agent.errors import BackendError\n"
        "try: open_control_set('hf:owner/name', download=True)\n"
        "except BackendError as error: print(error)"
    )
    offline = {"HF_HUB_OFFLINE": "1", "PATH": ""}
    told = subprocess.run([sys.executable, "-c", code], env=offline, capture_output=True, check=True)
    assert b"owner/name could not be fetched" in told.stdout
    assert b"check the network and HF_HUB_OFFLINE" in told.stdout
    assert told.stdout.count(b"\n") == 1


def test_a_missing_package_is_named_with_its_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingPartError, match=re.escape(pip_install("datasets"))):
        open_control_set("hf:owner/name")


def test_what_the_library_has_prepared_is_used_without_the_network(rows, tmp_path):
    source = tmp_path / "source"
    save("parquet", rows, source)
    prepared = datasets.load_dataset(str(source), split="train")
    place = Path(prepared.cache_files[0]["filename"]).parent
    kept = tmp_path / "cache" / "owner___name" / "default" / "0.0.0" / ("c" * 40)
    kept.mkdir(parents=True)
    for file in place.iterdir():
        (kept / file.name.replace("source", "name")).write_bytes(file.read_bytes())
    info = (kept / "dataset_info.json").read_text().replace('"dataset_name": "source"', '"dataset_name": "name"')
    (kept / "dataset_info.json").write_text(info.replace(f'"{place.parts[-3]}"', '"default"'))
    control = open_control_set("hf:owner/name@train")
    assert control.classes() == ("bee", "owl", "tabby cat")
    assert reds(control, start=1) == pytest.approx(range(CHUNK, 90), abs=2)
    assert open_control_set("hf:owner/name", download=True).fingerprint == control.fingerprint
    with pytest.raises(UsageError, match=r"no split 'validation' \(choose from train\)"):
        open_control_set("hf:owner/name@validation")


class TestImagesThatAreNotOrdinary:
    @pytest.fixture
    def deep(self):
        """Ten images, every other of 16 bits."""
        images = []
        for number in range(10):
            file = io.BytesIO()
            values = np.full((8, 8), 25 * number, np.uint16)
            Pillow.fromarray(values * 257 if number % 2 else values.astype(np.uint8)).save(file, "PNG")
            images.append({"bytes": file.getvalue()})
        return Dataset.from_dict({"image": images}, features=Features({"image": Image()}))

    @pytest.mark.parametrize("kind", ["arrow", "parquet"])
    def test_are_read_by_the_range_and_told_before_anything_is_measured(self, kind, deep, tmp_path):
        control = open_control_set(save(kind, deep, tmp_path / "data"))
        assert control.image_notes == ("5 of 10 images: 16-bit, values read by the range 0 to 65535",)
        assert reds(control) == [25 * number for number in range(10)]
        stated = open_control_set(save(kind, deep, tmp_path / "data"), value_range=(0, 60_000))
        assert stated.fingerprint != control.fingerprint

    def test_of_a_stream_are_known_and_remembered_as_they_are_fetched(self, deep, tmp_path):
        def streamed():
            digests = FileHashes(tmp_path / "digests.db")
            source = open_source(save("parquet", deep, tmp_path / "data").removeprefix("hf:"), False, digests)
            return DatasetControlSet(replace(source, remote=True), digests=digests)

        control = streamed()
        before = control.fingerprint
        assert control.image_notes == ()
        assert len(images(control)) == 10
        assert control.image_notes == streamed().image_notes
        assert control.image_notes == ("5 of 10 images: 16-bit, values read by the range 0 to 65535",)
        assert control.fingerprint == streamed().fingerprint == before

    def test_of_a_stream_are_refused_where_their_range_is_not_known(self, deep, tmp_path):
        digests = FileHashes(tmp_path / "digests.db")
        source = open_source(save("parquet", deep, tmp_path / "data").removeprefix("hf:"), False, digests)
        # Of the first four images the brightest has 75 of 255.
        with pytest.raises(UsageError, match=r"no value of the 16-bit images .* \(2\) is above 19275 of 65535"):
            images(DatasetControlSet(replace(source, remote=True), images=4, digests=digests))
