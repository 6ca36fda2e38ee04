import itertools
import os
from importlib import metadata

import pytest

from line_neurons.agent.errors import StoreError
from line_neurons.agent.settings import revised
from line_neurons.tools.assets import assets_root
from line_neurons.tools.doctor import installation as doctor
from line_neurons.tools.doctor.findings import Finding
from line_neurons.tools.doctor.installation import check, torch_pair_problem
from line_neurons.tools.packages import pip_install
from support.fake_hub import fill_cache
from support.fake_ollama import DIGEST, MODEL, ScriptedOllama, serving
from support.fake_openai import MODEL as SERVED
from support.fake_openai import serving as openai_serving

PAIR_REMEDY = "pip install torch==2.14.1 torchvision==0.29.1"


@pytest.fixture(autouse=True)
def _nothing_installed(monkeypatch, tmp_path):
    monkeypatch.setenv("LINE_ASSETS", str(tmp_path / "assets"))


@pytest.fixture
def no_probes(monkeypatch):
    """Leaves out the child processes, which the other checks do not need."""
    monkeypatch.setattr(doctor, "_probe", lambda *_: iter(()))


@pytest.fixture
def package(monkeypatch, tmp_path):
    """Makes a package that is found before the installed one of that name, here and in child processes."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))

    def make(name, version, code, requires=()):
        (site / name).mkdir()
        (site / name / "__init__.py").write_text(code)
        info = site / f"{name}-{version}.dist-info"
        info.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        lines += [f"Requires-Dist: {requirement}" for requirement in requires]
        (info / "METADATA").write_text("\n".join(lines) + "\n")

    return make


def only(part, **settings):
    """The findings of one part, without the child processes of the others."""
    probe = doctor._probe
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(doctor, "_probe", lambda parts, *given: probe(parts, *given) if part in parts else iter(()))
        return [finding for finding in check(works=False, **settings) if finding.part == part]


def test_the_wrong_torch_for_torchvision_is_recognised_before_it_is_imported(package):
    package("torch", "2.13.0+cpu", "raise SystemExit('imported')")
    package("torchvision", "0.29.1", "raise SystemExit('imported')", ["numpy", "torch (==2.14.1)"])
    assert only("torch") == [
        Finding(
            "torch",
            "broken",
            "torchvision 0.29.1 was built for torch 2.14.1, this is torch 2.13.0+cpu",
            PAIR_REMEDY,
        )
    ]


def test_the_missing_operator_is_recognised_as_the_broken_pair(package):
    package("torch", "2.14.1", "")
    package("torchvision", "0.29.1", "raise RuntimeError('operator torchvision::nms does not exist')")
    (finding,) = only("torch")
    assert (finding.status, finding.remedy) == ("broken", PAIR_REMEDY)
    assert "do not belong together" in finding.detail


def test_a_library_that_crashes_on_import_is_a_finding(package):
    package("torch", "2.14.1", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    package("torchvision", "0.29.1", "")
    (finding,) = only("torch")
    assert (finding.status, finding.detail, finding.remedy) == ("broken", "crashed with SIGSEGV", PAIR_REMEDY)


def test_a_library_that_ends_the_process_is_a_finding(package):
    package("xllamacpp", "1.0", "raise SystemExit('no AVX2 here')")
    (finding,) = only("xllamacpp")
    assert (finding.status, finding.detail) == ("broken", "no AVX2 here")


def test_a_probe_that_hangs_is_a_finding(package, monkeypatch):
    monkeypatch.setattr(doctor, "_PROBE_SECONDS", 1)
    package("xllamacpp", "1.0", "import time; time.sleep(60)")
    assert only("xllamacpp") == [Finding("xllamacpp", "broken", "did not answer within 1 s")]


@pytest.mark.parametrize(
    ("code", "detail"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashed with SIGSEGV"),
        ("raise SystemExit('no AVX2 here')", "no AVX2 here"),
        ("raise RuntimeError('none')", "RuntimeError: none"),
    ],
)
def test_probes_that_share_a_process_hide_nothing_from_each_other(package, code, detail):
    package("xllamacpp", "1.0", code)
    package("torch", "2.13.0", "raise SystemExit('imported')")
    package("torchvision", "0.29.1", "", ["torch==2.14.1"])
    first, second = doctor._probe(["xllamacpp", "torch"], assets_root())
    assert (first.part, first.status, first.detail) == ("xllamacpp", "broken", detail)
    assert (second.part, second.status, second.remedy) == ("torch", "broken", PAIR_REMEDY)


@pytest.mark.parametrize(
    ("torch", "requires", "fits"),
    [
        ("2.14.1", ["torch==2.14.1"], True),
        ("2.14.1+cu130", ["torch==2.14.1"], True),
        ("2.13.0+cpu", ["numpy", "torch==2.14.1"], False),
        ("2.13.0", ["torch (==2.14.1)"], False),
        ("2.13.0", ["torch>=2"], True),
        ("2.13.0", [], True),
    ],
)
def test_torch_fits_what_torchvision_requires(torch, requires, fits):
    assert (torch_pair_problem(torch, "0.29.1", requires) == "") is fits


def test_the_default_text_to_image_model_that_is_not_here_is_a_warning_with_its_size(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    (finding,) = only("text-to-image")
    assert finding.status == "warn"
    for said in ("diffusers ", "stable-diffusion-xl-base-1.0, 6.9 GB", "not needed for the demo"):
        assert said in finding.detail
    assert "--download" in finding.remedy


def test_the_default_text_to_image_model_that_is_in_the_cache_is_told_with_its_place(monkeypatch, tmp_path):
    from support import tiny_pipelines

    cache = tmp_path / "hub"
    folder = tiny_pipelines.save(tiny_pipelines.sdxl(), tmp_path / "sdxl")
    fill_cache(cache, "stabilityai/stable-diffusion-xl-base-1.0", folder)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    (finding,) = only("text-to-image")
    assert finding.status == "ok"
    assert finding.detail.startswith(f"diffusers {metadata.version('diffusers')}; ")
    assert f"sdxl, 0.0 GB in {cache}" in finding.detail


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("peft", "raise ModuleNotFoundError('no', name='peft')", "peft is not installed, which"),
        ("torchvision", "raise RuntimeError('operator torchvision::nms does not exist')", "torchvision fails: "),
    ],
)
def test_packages_of_text_to_image_that_are_missing_or_do_not_fit_are_a_warning(package, name, code, said):
    # Those before it take seconds to import.
    for before in itertools.takewhile(lambda other: other != name, ("torchvision", "accelerate", "transformers")):
        package(before, "0.1", "")
    package(name, "0.1", code)
    (finding,) = doctor._probe(["text-to-image"], assets_root())
    assert finding.status == "warn"
    assert finding.detail.startswith(said)
    assert finding.remedy.startswith(pip_install("diffusion"))


def test_a_package_of_text_to_image_that_is_not_there_is_found_without_importing_any(no_probes, monkeypatch):
    monkeypatch.setattr(doctor, "find_spec", lambda name: None if name == "peft" else name)
    (finding,) = only("text-to-image")
    assert (finding.status, finding.remedy) == ("warn", pip_install("diffusion"))
    assert finding.detail.startswith("peft is not installed")


def test_a_check_that_raises_is_a_broken_finding_with_its_first_line(no_probes, monkeypatch):
    def fail():
        raise RuntimeError("first line\nsecond line")
        yield

    monkeypatch.setattr(doctor, "_sqlite", fail)
    assert only("sqlite") == [Finding("sqlite", "broken", "RuntimeError: first line")]
    assert only("memory")[0].status in ("ok", "warn")


def test_missing_packs_of_the_demo_have_a_remedy_and_the_others_only_a_word(no_probes):
    (stamps,), (wordnet,) = only("assets stamps"), only("assets wordnet")
    assert (stamps.status, stamps.remedy) == ("missing", "line assets install demo")
    assert (wordnet.status, wordnet.remedy) == ("warn", "")


def test_a_damaged_pack_is_broken(no_probes):
    folder = assets_root() / "stamps"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    (finding,) = only("assets stamps")
    assert (finding.status, finding.remedy) == ("broken", "line assets install stamps")


def test_works_checks_without_packs_say_which_pack_is_missing(monkeypatch):
    def probed_here(parts, root, llm="embedded"):
        for part in parts:
            yield from doctor._isolated(part, doctor._probes(llm)[part])

    # In this process, which has imported torch.
    monkeypatch.setattr(doctor, "_probe", probed_here)
    by_part = {finding.part: finding for finding in check()}
    assert by_part["target works"] == Finding(
        "target works",
        "missing",
        "the asset pack 'mobilenet_v2' is not installed",
        "line assets install mobilenet_v2",
    )
    assert not {"text encoder works", "language model works"} & by_part.keys()


def test_a_store_that_is_not_there_yet_is_fine(no_probes, tmp_path):
    (finding,) = only("store", store=tmp_path / "runs" / "store")
    assert finding.status == "ok"
    assert "will be created" in finding.detail
    assert not (tmp_path / "runs").exists()


def test_the_stores_schema_is_told(no_probes, tmp_path):
    (finding,) = only("store", store=tmp_path, schema=lambda path: f"schema 3 in {path.name}")
    assert finding == Finding("store", "ok", f"{tmp_path}, schema 3 in {tmp_path.name}")


def test_a_store_of_a_newer_version_is_broken(no_probes, tmp_path):
    def newer(path):
        raise StoreError("the store has schema 9, this version knows 3", "upgrade line-neurons")

    assert only("store", store=tmp_path, schema=newer) == [
        Finding("store", "broken", "the store has schema 9, this version knows 3", "upgrade line-neurons")
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_store_that_cannot_be_written_is_broken(no_probes, tmp_path):
    tmp_path.chmod(0o500)
    (finding,) = only("store", store=tmp_path)
    assert (finding.status, finding.remedy) == ("broken", "make it writable, or choose another with --store")


def test_a_full_disk_is_a_warning(no_probes, monkeypatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: type("usage", (), {"free": 10**8}))
    (finding,) = only("disk")
    assert finding.status == "warn"
    assert "0.1 GB free" in finding.detail
    assert "LINE_ASSETS" in finding.remedy


def test_an_ollama_server_and_its_models_are_found(no_probes, monkeypatch):
    with serving(ScriptedOllama(models={MODEL: DIGEST, "zephyr:latest": "f" * 64})) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        found = only("ollama")
    detail = f"server 0.24.0 at {server.url}: {MODEL} 4.9 GB, zephyr:latest 4.9 GB"
    assert found == [Finding("ollama", "ok", detail)]


def test_the_default_model_that_is_not_pulled_has_a_remedy(no_probes):
    with serving(ScriptedOllama(models={})) as server:
        found = only("ollama", settings=revised({}, {"ollama": server.url}))
    assert [finding.status for finding in found] == ["ok", "warn"]
    assert found[0].detail.endswith("no model yet")
    assert found[1].remedy == f"line pull {MODEL}"


def test_every_server_that_is_named_is_looked_at(no_probes):
    with serving() as one, serving() as two:
        found = only("ollama", settings=revised({}, {"ollama": f"{one.url},{two.url}"}))
    assert [one.url in found[0].detail, two.url in found[1].detail] == [True, True]


def test_no_ollama_server_is_no_problem(no_probes, monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    (finding,) = only("ollama")
    assert finding.status == "warn"
    assert "not needed for the demo" in finding.detail
    assert "ollama serve" in finding.remedy


def test_an_address_that_is_none_is_told(no_probes):
    (finding,) = only("ollama", settings=revised({}, {"ollama": "box:port"}))
    assert finding.status == "warn"
    assert "'box:port'" in finding.detail


def test_openai_compatible_servers_are_looked_at_where_they_are_configured(no_probes, monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert only("openai") == []
    with openai_serving() as server:
        found = only("openai", settings=revised({}, {"base_url": server.base_url, "llm": "openai:other"}))
    assert [finding.status for finding in found] == ["ok", "warn"]
    assert found[0].detail == f"server at {server.base_url}: {SERVED}"
    assert (found[1].detail, found[1].remedy) == (f"{server.base_url} does not serve other", "see `line models`")
    (away,) = only("openai", settings=revised({}, {"base_url": "127.0.0.1:9"}))
    assert away.status == "warn" and "no OpenAI-compatible server answers" in away.detail


def test_findings_are_told_as_they_come_and_returned_in_the_same_order(no_probes):
    told = []
    assert check(works=False, found=told.append) == told
    assert [finding.part for finding in told][:2] == ["python", "text-to-image"]
