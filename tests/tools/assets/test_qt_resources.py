import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from line_neurons.agent.errors import LineError
from line_neurons.tools.assets import qt_resources

FILES = {"gcompris/a/one.webp": b"1" * 300, "gcompris/a/two.webp": b"", "gcompris/three.txt": "ä".encode()}


@pytest.mark.parametrize("version", [1, 2, 3])
def test_every_file_comes_back_with_its_path(make_rcc, version):
    assert dict(qt_resources.read(make_rcc(FILES, version), "x.rcc")) == FILES


def test_zlib_compressed_files_are_unpacked(make_rcc):
    blob = make_rcc(FILES, compress=frozenset({"gcompris/a/one.webp"}))
    assert dict(qt_resources.read(blob, "x.rcc")) == FILES


@pytest.mark.parametrize("name", ["..", ".", "a\\b", "a\0b"])
def test_an_unsafe_name_is_refused(make_rcc, name):
    with pytest.raises(LineError, match="unsafe name"):
        list(qt_resources.read(make_rcc({f"folder/{name}": b"x"}), "x.rcc"))


def test_a_name_with_a_slash_is_refused(make_rcc):
    blob = make_rcc({"abc": b"x"}).replace("abc".encode("utf-16-be"), "a/c".encode("utf-16-be"))
    with pytest.raises(LineError, match="unsafe name 'a/c'"):
        list(qt_resources.read(blob, "x.rcc"))


def test_a_folder_that_holds_itself_is_refused(make_rcc):
    blob = bytearray(make_rcc({"a/b": b"x"}))
    # The second node is the folder "a"; let its first child be the root.
    struct.pack_into(">I", blob, 24 + 22 + 10, 0)
    with pytest.raises(LineError, match="reached twice"):
        list(qt_resources.read(bytes(blob), "x.rcc"))


def test_an_absurd_number_of_entries_is_refused(make_rcc):
    blob = bytearray(make_rcc({"a": b"x"}))
    struct.pack_into(">I", blob, 24 + 6, 0xFFFFFFFF)
    with pytest.raises(LineError, match="claims 4294967295 entries"):
        list(qt_resources.read(bytes(blob), "x.rcc"))


def test_data_that_unpack_to_more_than_they_claim_are_refused(make_rcc):
    blob = make_rcc({"bomb": b"0" * 5000}, compress=frozenset({"bomb"}))
    blob = blob.replace(struct.pack(">I", 5000), struct.pack(">I", 10))
    with pytest.raises(LineError, match="does not unpack to the 10 bytes"):
        list(qt_resources.read(blob, "x.rcc"))


@pytest.mark.parametrize(
    ("blob", "reason"),
    [
        (b"", "not a readable Qt resource file"),
        (b"\x89PNG" + b"\0" * 40, "does not start with 'qres'"),
        (struct.pack(">4s4I", b"qres", 9, 20, 20, 20), "version 9 is unknown"),
    ],
)
def test_another_kind_of_file_is_refused(blob, reason):
    with pytest.raises(LineError, match=reason):
        list(qt_resources.read(blob, "x.rcc"))


@given(data=st.data())
def test_a_damaged_file_is_read_or_refused_but_nothing_else(make_rcc_once, data):
    blob = bytearray(make_rcc_once)
    for _ in range(data.draw(st.integers(1, 4))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    try:
        for path, _ in qt_resources.read(bytes(blob), "x.rcc"):
            assert ".." not in path.split("/")
    except LineError as error:
        assert "x.rcc" in error.message


@pytest.fixture(scope="module")
def make_rcc_once():
    """The file of FILES as bytes; a module's fixture, as hypothesis wants."""
    names = b"".join(struct.pack(">HI", len(n), 0) + n.encode("utf-16-be") for n in ("", "a", "b"))
    rows = [
        struct.pack(">IHII", 0, 2, 2, 1),
        struct.pack(">IHII", 6, 0, 0, 0),
        struct.pack(">IHII", 14, 0, 0, 7),
    ]
    tree = b"".join(row + b"\0" * 8 for row in rows)
    blobs = struct.pack(">I", 3) + b"one" + struct.pack(">I", 3) + b"two"
    data_at = 24 + len(tree)
    header = struct.pack(">4s4I", b"qres", 3, 24, data_at, data_at + len(blobs))
    return header + b"\0" * 4 + tree + blobs + names
