import json

import pytest

from line_neurons.tools.assets.install import install
from line_neurons.tools.assets.location import assets_root, state
from line_neurons.tools.assets.packs import PACKS, FileRule
from line_neurons.tools.assets.verify import FileProblem, verify


@pytest.fixture
def pack(registry, root, make_pack):
    artifact = registry.wheel("two", {"two/a.txt": b"aaa", "two/b.txt": b"bbb"})
    pack = make_pack("two", [artifact], [FileRule(r"two/(.)\.txt", r"\1.txt")], {"a.txt": b"aaa", "b.txt": b"bbb"})
    install(pack, root=root, source_dir=registry.folder)
    return pack


def test_a_whole_pack_has_no_problems(pack, root):
    assert verify(pack, root=root) == []


def test_a_changed_file_of_the_same_size_is_found(pack, root):
    (root / "two" / "a.txt").write_bytes(b"axa")
    assert verify(pack, root=root) == [FileProblem("a.txt", "changed")]


def test_missing_and_unexpected_files_are_found(pack, root):
    (root / "two" / "a.txt").rename(root / "two" / "z.txt")
    assert verify(pack, root=root) == [FileProblem("a.txt", "missing"), FileProblem("z.txt", "unexpected")]


def test_a_file_replaced_by_a_link_to_the_same_contents_is_changed(pack, root):
    (root / "copy").write_bytes(b"aaa")
    (root / "two" / "a.txt").unlink()
    (root / "two" / "a.txt").symlink_to(root / "copy")
    assert verify(pack, root=root) == [FileProblem("a.txt", "changed")]


def test_a_manifest_edited_to_fit_a_changed_file_is_found(pack, root):
    import hashlib

    (root / "two" / "a.txt").write_bytes(b"axa")
    path = root / "two" / "manifest.json"
    written = json.loads(path.read_text())
    written["files"][0]["sha256"] = hashlib.sha256(b"axa").hexdigest()
    path.write_text(json.dumps(written))
    assert verify(pack, root=root) == [FileProblem("manifest.json", "outdated")]


@pytest.mark.parametrize("text", ["", "[]", '{"format": 7}', '{"format": 1}'])
def test_an_unreadable_manifest_is_a_problem_and_no_crash(pack, root, text):
    (root / "two" / "manifest.json").write_text(text)
    assert verify(pack, root=root) == [FileProblem("manifest.json", "changed")]
    assert state(pack, root) == "damaged"


def test_a_pack_that_is_not_there_is_a_problem(pack, tmp_path):
    assert verify(pack, root=tmp_path / "elsewhere") == [FileProblem("manifest.json", "missing")]


@pytest.mark.e2e
@pytest.mark.parametrize("pack", PACKS, ids=lambda pack: pack.name)
def test_an_installed_pack_is_as_it_was_published(pack):
    if state(pack) == "missing":
        pytest.skip(f"{pack.name} is not installed in {assets_root()}")
    assert verify(pack) == []
