"""The registries' real clients, without a network: pip reads a folder, apt-get and npm are stand-ins."""

import hashlib
import io
import os
import tarfile

import pytest

from line_neurons.agent.errors import LineError, MissingPartError
from line_neurons.tools.assets import sources
from line_neurons.tools.assets.packs import Artifact


@pytest.fixture
def offline_pip(registry, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(registry.folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


@pytest.fixture
def work(tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def fetch(artifact, work):
    return sources.fetch(artifact, work, work.parent / "assets", lambda size: None)


def script(folder, name, body):
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


WHEEL_METADATA = {
    "tiny-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\nRequires-Python: >=99\n",
    "tiny-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "tiny-1.0.dist-info/RECORD": b"",
}


def test_pip_gets_a_wheel_whatever_python_it_asks_for(registry, offline_pip, work):
    artifact = registry.wheel("tiny", WHEEL_METADATA)
    assert hashlib.sha256(fetch(artifact, work).read_bytes()).hexdigest() == artifact.sha256


def test_pip_refuses_a_wheel_with_another_hash(registry, offline_pip, work):
    artifact = registry.wheel("tiny", WHEEL_METADATA)
    registry.wheel("tiny", {**WHEEL_METADATA, "tiny/evil.py": b"evil"})
    with pytest.raises(LineError, match="does not have the pinned SHA-256"):
        fetch(artifact, work)


def test_pip_without_the_package_is_a_missing_part(registry, offline_pip, work):
    artifact = Artifact("pypi", "nowhere", "1.0", "nowhere-1.0-py3-none-any.whl", "0" * 64, 1)
    with pytest.raises(MissingPartError, match=r"pypi nowhere 1\.0 could not be downloaded.*--from"):
        fetch(artifact, work)


def test_a_source_distribution_is_downloaded_without_running_it(registry, offline_pip, work, tmp_path):
    trace = tmp_path / "it-ran"
    files = {
        "sd-1.0/setup.py": f"open({str(trace)!r}, 'w')\nimport setuptools\nsetuptools.setup()\n".encode(),
        "sd-1.0/PKG-INFO": b"Metadata-Version: 1.1\nName: sd\nVersion: 1.0\n",
        "sd-1.0/data/cat.png": b"cat",
    }
    archive = registry.folder / "sd-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    artifact = registry.artifact("pypi", "sd", archive)
    assert fetch(artifact, work).read_bytes() == archive.read_bytes()
    assert not trace.exists()


def test_no_apt_get_is_a_missing_part_with_a_way_out(registry, work, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingPartError, match=r"apt-get.*is not on this system.*--from"):
        fetch(registry.deb("d", {"a": b"1"}), work)


def test_no_npm_is_a_missing_part_with_a_way_out(work, monkeypatch):
    monkeypatch.setenv("PATH", "")
    artifact = Artifact("npm", "pictures", "1.0", "pictures-1.0.tgz", "0" * 64, 1)
    with pytest.raises(MissingPartError, match=r"npm.*is not installed.*Node\.js"):
        fetch(artifact, work)


def test_npm_packs_without_scripts(registry, work, tmp_path, monkeypatch, make_tar):
    archive = registry.folder / "pictures-1.0.tgz"
    archive.write_bytes(make_tar({"package/cat.png": b"cat"}, {}, "w:gz"))
    artifact = registry.artifact("npm", "pictures", archive)
    # npm pack images@1.0 --ignore-scripts --pack-destination FOLDER
    script(tmp_path / "bin", "npm", f'[ "$3" = --ignore-scripts ] && cp {archive} "$5"')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert fetch(artifact, work).read_bytes() == archive.read_bytes()


def test_apt_serves_from_the_systems_lists_if_they_know_the_package(registry, work, tmp_path, monkeypatch):
    artifact = registry.deb("d", {"a": b"1"})
    archive = registry.folder / artifact.filename
    log = tmp_path / "log"
    script(tmp_path / "bin", "apt-get", f'echo "$@" >> {log}; cp {archive} .')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    fetch(artifact, work)
    calls = log.read_text().splitlines()
    assert len(calls) == 1
    assert calls[0].endswith("download d=1.0")


def test_apt_updates_lists_of_its_own_where_the_systems_do_not_serve(registry, work, tmp_path, monkeypatch):
    artifact = registry.deb("d", {"a": b"1"})
    archive = registry.folder / artifact.filename
    log = tmp_path / "log"
    body = f"""
echo "$@" >> {log}
case "$@" in
  *update) touch {tmp_path}/updated ;;
  *"-c "*download*) [ -e {tmp_path}/updated ] && cp {archive} . ;;
  *) echo 'E: Unable to locate package d'; exit 100 ;;
esac"""
    script(tmp_path / "bin", "apt-get", body)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert fetch(artifact, work).name == artifact.filename
    assert [line.split()[-1] for line in log.read_text().splitlines()] == [
        "d=1.0",
        "d=1.0",
        "update",
        "d=1.0",
    ]
    configuration = (tmp_path / "assets" / ".staging" / "apt" / "apt.conf").read_text()
    assert f'Dir::State::Lists "{tmp_path}/assets/.staging/apt/lists";' in configuration
    assert "#clear APT::Update::Post-Invoke;" in configuration


@pytest.fixture
def apt_of_another_release(registry, tmp_path, monkeypatch):
    """An apt-get of a system with version 2.0 of a package, and of a mirror that serves 1.0 for Debian 12."""
    artifact = registry.deb("d", {"a": b"1"})
    archive = registry.folder / artifact.filename
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.delenv("LINE_DEBIAN_MIRROR", raising=False)

    def make(mirrors, serving="http://mirror/debian"):
        body = f"""
echo "$@" >> {tmp_path}/log
case "$@" in
  *indextargets*) echo "{mirrors}" ;;
  *apt-release/apt.conf*update)
    grep -q "] {serving} bookworm main" {tmp_path}/assets/.staging/apt-release/sources.list \
    && touch {tmp_path}/updated || exit 100 ;;
  *update) ;;
  *apt-release/apt.conf*"download d=1.0") [ -e {tmp_path}/updated ] && cp {archive} . ;;
  *"-c "*"download d") echo other > d_2.0_all.deb ;;
  *) echo "E: Version '1.0' for 'd' was not found"; exit 100 ;;
esac"""
        script(tmp_path / "bin", "apt-get", body)
        return artifact

    return make


def test_another_release_of_debian_gets_the_pinned_version_from_its_mirror(apt_of_another_release, work):
    artifact = apt_of_another_release("http://other/updates http://mirror/debian")
    assert fetch(artifact, work).name == artifact.filename


def test_a_system_without_debian_uses_the_mirror_that_the_user_names(apt_of_another_release, work, monkeypatch):
    artifact = apt_of_another_release("http://ubuntu/ubuntu", "http://named/debian")
    monkeypatch.setenv("LINE_DEBIAN_MIRROR", "http://named/debian")
    assert fetch(artifact, work).name == artifact.filename


def test_a_system_without_debian_offers_its_own_version(apt_of_another_release, work):
    assert fetch(apt_of_another_release("http://ubuntu/ubuntu"), work).name == "d_2.0_all.deb"


@pytest.mark.parametrize(
    ("update", "message"),
    [
        ("echo 'W: Failed to fetch x  Could not resolve y'", "the registry cannot be reached"),
        ("true", r"package sources do not offer d 1\.0"),
    ],
)
def test_apt_without_the_package_tells_no_network_from_not_offered(
    registry, work, tmp_path, monkeypatch, update, message
):
    body = f'case "$@" in *update) {update} ;; *) echo "E: Unable to locate package d"; exit 100 ;; esac'
    script(tmp_path / "bin", "apt-get", body)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with pytest.raises(MissingPartError, match=message):
        fetch(registry.deb("d", {"a": b"1"}), work)
