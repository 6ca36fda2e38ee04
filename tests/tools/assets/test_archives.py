import shutil
import subprocess
import sys

import pytest

from line_neurons.agent.errors import LineError
from line_neurons.tools.assets.archives import members
from line_neurons.tools.assets.packs import FileRule
from line_neurons.tools.assets.unpack import unpack

FILES = {
    "usr/share/a/one.png": b"1" * 3001,
    "usr/share/a/two.png": b"22",
    "usr/share/doc/x/copyright": b"free",
}


def contents(archive):
    return {m.path: m.open().read() for m in members(archive) if m.kind == "file"}


def test_a_wheel_is_read(registry):
    artifact = registry.wheel("w", FILES)
    assert contents(registry.folder / artifact.filename) == FILES


@pytest.mark.parametrize("compression", ["xz", "gz", "bz2"])
def test_a_debian_package_is_read_without_dpkg(registry, monkeypatch, compression):
    monkeypatch.setenv("PATH", "")
    artifact = registry.deb("d", FILES, compression=compression)
    assert contents(registry.folder / artifact.filename) == FILES


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="dpkg-deb makes the package")
def test_a_debian_package_with_zstd_is_read(tmp_path):
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(
        "Package: z\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b>\nDescription: z\n"
    )
    (tree / "usr").mkdir()
    (tree / "usr" / "file").write_bytes(b"content")
    archive = tmp_path / "z_1_all.deb"
    subprocess.run(["dpkg-deb", "-Zzstd", "--build", tree, archive], check=True, capture_output=True)
    assert contents(archive) == {"usr/file": b"content"}


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="this Python reads zstd")
def test_zstd_without_dpkg_says_what_is_missing(tmp_path, monkeypatch, make_ar):
    monkeypatch.setenv("PATH", "")
    archive = tmp_path / "z.deb"
    archive.write_bytes(make_ar({"debian-binary": b"2.0\n", "data.tar.zst": b"(\xb5/\xfd"}))
    with pytest.raises(LineError, match=r"needs dpkg-deb or Python 3\.14"):
        list(members(archive))


def test_a_source_distribution_is_read(tmp_path, make_tar):
    archive = tmp_path / "s-1.0.tar.gz"
    archive.write_bytes(make_tar(FILES, {}, "w:gz"))
    assert contents(archive) == FILES


def test_links_are_neither_files_nor_folders(registry):
    artifact = registry.deb("d", {"a": b"1"}, links={"b": "/etc/passwd"})
    kinds = {m.path: m.kind for m in members(registry.folder / artifact.filename)}
    assert kinds == {"a": "file", "b": "other"}


@pytest.mark.parametrize("name", ["x.whl", "x.deb", "x.tar.gz", "x.rpm"])
def test_a_broken_archive_is_an_error_that_names_it(tmp_path, name):
    (tmp_path / name).write_bytes(b"nonsense" * 20)
    with pytest.raises(LineError, match=name):
        list(members(tmp_path / name))


def test_a_truncated_debian_package_is_an_error(registry, tmp_path):
    artifact = registry.deb("d", {"a": bytes(range(256)) * 400})
    path = registry.folder / artifact.filename
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(LineError, match="cannot be read"):
        unpack([path], [FileRule("a", "a")], tmp_path, lambda size: None)
