"""Check the installation: each component by itself, so a broken one hides no other.

What loads native libraries or models runs in a child process: a library that crashes on import, or that was built
for another one, then is a finding and not the end of the command.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from line_neurons.agent.errors import LineError, MissingPartError
from line_neurons.agent.settings import Settings, revised
from line_neurons.agent.text import shell_word
from line_neurons.tools.assets.location import assets_root, state
from line_neurons.tools.assets.packs import GROUPS, PACKS, find
from line_neurons.tools.doctor.faults import FAULTS
from line_neurons.tools.doctor.findings import Finding, Status
from line_neurons.tools.doctor.readiness import readiness, renderer_packages
from line_neurons.tools.doctor.servers import check_ollama, check_openai
from line_neurons.tools.doctor.store import check as check_store
from line_neurons.tools.image_bank.opening import uses_image_bank
from line_neurons.tools.packages import pip_install

_TORCH, _TORCHVISION = "2.14.1", "0.29.1"
_TORCH_REMEDY = f"pip install torch=={_TORCH} torchvision=={_TORCHVISION}"
_PROBE_SECONDS = 180
_MARK, _PROBED = "finding: ", "probe: "
_EXTRAS = {"transformers": "embedded", "mitsuba": "render", "pyoidn": "render", "ray": "ray"}
_DIFFUSION = ("torchvision", "accelerate", "transformers", "peft", "diffusers")


def check(
    *,
    root: Path | None = None,
    store: Path | None = None,
    schema: Callable[[Path], str] | None = None,
    works: bool = True,
    deep: bool = False,
    settings: Settings | None = None,
    found: Callable[[Finding], None] = lambda finding: None,
) -> list[Finding]:
    """Check every component and return the findings, in a fixed order.

    Args:
        root: the assets root; by default the configured one.
        store: the folder or file that runs are kept in; not checked if None.
        schema: given ``store``, says which schema version it has; raises LineError if it is not usable.
        works: also run the target on an image.
        deep: also import what text-to-image models need, run the text encoder on words, send a prompt to the
            embedded language model of ``settings`` or the default one, and hash the store's images.
        settings: those of the run that the verdict is about; by default the defaults.
    """
    root, settings = root or assets_root(), settings or revised({}, {})
    language_model = "language model works"
    torch = ["target works" if works else "torch", *(["text encoder works", "text-to-image"] if deep else [])]
    checks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("python", _python),
        # One process for all that need torch: importing it takes longer than most checks.
        ("torch", lambda: _probe(torch, root)),
        ("text-to-image", lambda: _text_to_image(settings)),
        ("xllamacpp", lambda: _probe(["xllamacpp"], root)),
        *((name, lambda name=name: _package(name)) for name in ("transformers", "langgraph", "pillow")),
        *((name, lambda name=name: _package(name)) for name in renderer_packages(settings)),
        ("ray", lambda: _package("ray", "warn", "not installed; only --ray needs it")),
        ("sqlite", _sqlite),
        ("terminal", _terminal),
        ("assets", lambda: _assets(root)),
        *([("store", lambda: _store(store, schema, deep=deep))] if store else []),
        ("disk", lambda: _disk(root)),
        ("memory", _memory),
        ("ollama", lambda: check_ollama(settings.ollama, settings.llm)),
        ("openai", lambda: check_openai(settings.base_url, settings.llm)),
        *([(language_model, lambda: _probe([language_model], root, settings.llm))] if deep else []),
    ]
    findings: list[Finding] = []
    for part, probe in checks:
        for finding in _isolated(part, probe):
            findings.append(finding)
            found(finding)
    for verdict in readiness(findings, settings):
        findings.append(verdict)
        found(verdict)
    return findings


def run_probe(root: str, llm: str, *parts: str) -> None:
    """Run probes and print their findings, in a child process, up to the first that finds something wrong."""
    os.environ["LINE_ASSETS"] = root
    probes = _probes(llm)
    for part in parts:
        print(_PROBED + part, flush=True)  # noqa: T201
        findings = _isolated(part, probes[part])
        for finding in findings:
            print(_MARK + json.dumps(asdict(finding)), flush=True)  # noqa: T201
        if any(finding.status != "ok" for finding in findings):
            return


def _isolated(part: str, probe: Callable[[], Iterator[Finding]]) -> list[Finding]:
    try:
        return list(probe())
    except MissingPartError as error:
        return [Finding(part, "missing", error.message, error.remedy)]
    except LineError as error:
        return [Finding(part, "broken", error.message, error.remedy)]
    except Exception as error:
        return [Finding(part, "broken", _first_line(error))]


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def _probe(parts: Sequence[str], root: Path, llm: str = "embedded") -> Iterator[Finding]:
    """Run probes in a child process, and in another what is left when one found something wrong or crashed."""
    while parts:
        findings, reached = _probed(parts, root, llm)
        yield from findings
        parts = parts[parts.index(reached) + 1 :]


def _probed(parts: Sequence[str], root: Path, llm: str) -> tuple[list[Finding], str]:
    """Return the findings of one child process, and the last part that it reached."""
    code = "import sys; from line_neurons.tools.doctor.installation import run_probe; run_probe(*sys.argv[1:])"
    limit = _PROBE_SECONDS * len(parts)
    ended: subprocess.CompletedProcess[bytes] | subprocess.TimeoutExpired
    try:
        ended = subprocess.run(  # noqa: S603
            [sys.executable, "-c", code, str(root), llm, *parts],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        ended = late
    reached, found = parts[0], False
    findings: list[Finding] = []
    for line in (ended.stdout or b"").decode("utf-8", "replace").splitlines():
        if line.startswith(_PROBED):
            reached, found = line.removeprefix(_PROBED), False
        elif line.startswith(_MARK):
            findings.append(Finding(**json.loads(line.removeprefix(_MARK))))
            found = True
    if isinstance(ended, subprocess.TimeoutExpired):
        findings.append(Finding(reached, "broken", f"did not answer within {limit} s"))
    elif ended.returncode < 0:
        name = signal.Signals(-ended.returncode).name
        findings.append(Finding(reached, "broken", f"crashed with {name}", _remedy_for(reached)))
    elif ended.returncode and not found:
        lines = ended.stderr.decode("utf-8", "replace").strip().splitlines() or ["it printed nothing"]
        findings.append(Finding(reached, "broken", lines[-1][:300], _remedy_for(reached)))
    return findings, reached


def _remedy_for(part: str) -> str:
    extra = "diffusion" if part == "text-to-image" else "embedded"
    return _TORCH_REMEDY if part == "torch" else pip_install(extra, "--force-reinstall")


def _python() -> Iterator[Finding]:
    yield Finding("python", "ok", f"{platform.python_version()} at {sys.executable}")


def _package(name: str, status: Status = "missing", detail: str = "not installed") -> Iterator[Finding]:
    try:
        yield Finding(name, "ok", metadata.version(name))
    except metadata.PackageNotFoundError:
        yield Finding(name, status, detail, pip_install(_EXTRAS.get(name, "")))


def torch_pair_problem(torch: str, torchvision: str, requires: list[str]) -> str:
    """Return why this torch and torchvision do not belong together, or nothing.

    Args:
        torch: torch's version, such as ``2.13.0+cpu``.
        requires: torchvision's requirements, as its metadata has them.
    """
    for requirement in requires:
        wanted = re.fullmatch(r"torch\s*\(?==\s*([\d.]+)\)?(?:\s*;.*)?", requirement)
        if wanted and torch.partition("+")[0] != wanted[1]:
            return f"torchvision {torchvision} was built for torch {wanted[1]}, this is torch {torch}"
    return ""


def _torch() -> Iterator[Finding]:
    versions: dict[str, str] = {}
    for name in ("torch", "torchvision"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Finding("torch", "missing", f"{name} is not installed", _TORCH_REMEDY)
            return
    torch_version, torchvision_version = versions["torch"], versions["torchvision"]
    problem = torch_pair_problem(torch_version, torchvision_version, metadata.requires("torchvision") or [])
    if problem:
        yield Finding("torch", "broken", problem, _TORCH_REMEDY)
        return
    try:
        import torch
        import torchvision  # noqa: F401
    except Exception as error:
        hint = " (torch and torchvision do not belong together)" if "torchvision::nms" in str(error) else ""
        yield Finding("torch", "broken", _first_line(error) + hint, _TORCH_REMEDY)
        return
    yield Finding("torch", "ok", f"torch {torch_version}, torchvision {torchvision_version}")
    if torch.cuda.is_available():
        gigabytes = torch.cuda.get_device_properties(0).total_memory / 1e9
        count = torch.cuda.device_count()
        others = f"; {count} GPUs, of which a run uses one: --devices all uses every one" if count > 1 else ""
        yield Finding("device", "ok", f"{torch.cuda.get_device_name(0)}, {gigabytes:.0f} GB{others}")
    else:
        yield Finding("device", "ok", f"CPU, {torch.get_num_threads()} threads; no CUDA device")


def _text_to_image(settings: Settings) -> Iterator[Finding]:
    """Check packages and weights of the generator of ``settings``, or of the default one where that is a bank."""
    from line_neurons.tools.generators.presets import parse_source
    from line_neurons.tools.generators.weights import find_model

    part, bank = "text-to-image", uses_image_bank(settings.generator)
    spec = str(Settings.model_fields["generator"].default) if bank else settings.generator
    if absent := [name for name in _DIFFUSION if find_spec(name) is None]:
        detail = f"{absent[0]} is not installed; not needed for the demo"
        yield Finding(part, "warn", detail, pip_install("diffusion"))
        return
    packages, source = f"diffusers {metadata.version('diffusers')}", parse_source(spec)
    steps = settings.diffusion.steps or (source.preset.steps if source.preset else 0)
    try:
        found = find_model(
            source, revision=settings.diffusion.revision, full_precision=False, steps=steps, download=False
        )
    except LineError as error:
        yield Finding(part, "warn", f"{packages}; {error.message}; not needed for the demo", error.remedy)
        return
    size = sum((found.folder / name).stat().st_size for name in found.files)
    yield Finding(part, "ok", f"{packages}; {spec}, {size / 1e9:.1f} GB in {found.folder}")


def _text_to_image_works() -> Iterator[Finding]:
    from line_neurons.tools.generators.pipeline import require_packages

    try:
        require_packages()
    except LineError as error:
        yield Finding("text-to-image", "warn", f"{error.message}; not needed for the demo", error.remedy)


def _xllamacpp() -> Iterator[Finding]:
    try:
        version = metadata.version("xllamacpp")
    except metadata.PackageNotFoundError:
        yield Finding("xllamacpp", "missing", "not installed", pip_install("embedded"))
        return
    import xllamacpp

    yield Finding("xllamacpp", "ok" if hasattr(xllamacpp, "Server") else "broken", version)


def _sqlite() -> Iterator[Finding]:
    version = sqlite3.sqlite_version
    if sqlite3.sqlite_version_info < (3, 35):
        yield Finding("sqlite", "broken", f"{version} is older than 3.35", "use a newer Python build")
    else:
        yield Finding("sqlite", "ok", version)


def _terminal() -> Iterator[Finding]:
    columns, lines = shutil.get_terminal_size()
    encoding = (sys.stdout.encoding or "").lower()
    if not sys.stdout.isatty():
        yield Finding("terminal", "warn", "output is not a terminal; only the commands work here")
    elif encoding.replace("-", "") != "utf8":
        yield Finding("terminal", "warn", f"encoding {encoding or 'unknown'}", "export LC_ALL=C.UTF-8")
    elif columns < 80 or lines < 24:
        yield Finding("terminal", "warn", f"{columns} x {lines} characters", "make the window 80 x 24 or larger")
    else:
        colours = "true colour" if os.environ.get("COLORTERM") in ("truecolor", "24bit") else "basic colours"
        yield Finding("terminal", "ok", f"{columns} x {lines} characters, {colours}")


def _assets(root: Path) -> Iterator[Finding]:
    for pack in PACKS:
        part, found = f"assets {pack.name}", state(pack, root)
        if found == "installed":
            yield Finding(part, "ok", f"{pack.installed_bytes / 1e6:,.0f} MB in {root}")
        elif found != "missing":
            yield Finding(part, "broken", f"{found}, in {root}", f"line assets install {pack.name}")
        elif pack.name in GROUPS["demo"]:
            yield Finding(part, "missing", f"not in {root}", "line assets install demo")
        else:
            yield Finding(part, "warn", f"not installed: {pack.title}")


def _store(store: Path, schema: Callable[[Path], str] | None, *, deep: bool) -> Iterator[Finding]:
    folder = next(path for path in (store, *store.absolute().parents) if path.is_dir())
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        remedy = "make it writable, or choose another with --store"
        yield Finding("store", "broken", f"{folder} cannot be written: {error.strerror}", remedy)
        return
    if not store.exists():
        yield Finding("store", "ok", f"{store} will be created by the first run")
    else:
        yield Finding("store", "ok", f"{store}, {schema(store)}" if schema else str(store))
        for problem in check_store(store, deep=deep) if store.is_dir() else ():
            kind = FAULTS[problem.kind]
            remedy = f"line doctor --store {shell_word(str(store))} --fix" if kind.repair else ""
            yield Finding("store", "broken" if kind.is_error else "warn", problem.message, remedy)


def _disk(root: Path) -> Iterator[Finding]:
    folder = next(path for path in (root, *root.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(folder).free
    missing = [find(name) for name in GROUPS["demo"] if state(find(name), root) == "missing"]
    needed = sum(pack.installed_bytes for pack in missing) + max((p.download_bytes for p in missing), default=0)
    detail = f"{free / 1e9:,.1f} GB free at {folder}"
    if free < needed + 1e9:
        wanted = f"; {(needed + 1e9) / 1e9:,.1f} GB are needed"
        yield Finding("disk", "warn", detail + wanted, "free some space, or set LINE_ASSETS to another disk")
    else:
        yield Finding("disk", "ok", detail)


def _memory() -> Iterator[Finding]:
    free = total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    meminfo = Path("/proc/meminfo")
    if meminfo.exists() and (line := re.search(r"MemAvailable:\s+(\d+) kB", meminfo.read_text())):
        free = int(line[1]) * 1024
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and (text := limit.read_text().strip()).isdigit():
        used = int((limit.parent / "memory.current").read_text())
        free, total = min(free, int(text) - used), min(total, int(text))
    detail = f"{free / 1e9:.1f} of {total / 1e9:.1f} GB available"
    if free < 3e9:
        yield Finding("memory", "warn", detail, "the demo takes about 3 GB: close other programs")
    else:
        yield Finding("memory", "ok", detail)


def _torch_and_target() -> Iterator[Finding]:
    found = list(_torch())
    yield from found
    if all(finding.status == "ok" for finding in found):
        yield from _isolated("target works", _target_works)


def _target_works() -> Iterator[Finding]:
    from line_neurons.tools.assets.location import asset_dir

    weights = asset_dir("mobilenet_v2") / "mobilenet_v2-b0353104.pth"
    import torch
    from PIL import Image
    from torchvision.models import MobileNet_V2_Weights, mobilenet_v2

    from line_neurons.tools.images.reader import read_image

    began = time.monotonic()
    file = assets_root() / "photos" / "explore_world_animals" / "koala.webp"
    image = read_image(file) if file.is_file() else Image.new("RGB", (224, 224), "grey")
    model = mobilenet_v2(weights=None)
    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    info = MobileNet_V2_Weights.IMAGENET1K_V1
    with torch.inference_mode():
        scores = model.eval()(info.transforms()(image)[None]).softmax(1)[0]
    if not bool(torch.isfinite(scores).all()):
        yield Finding("target works", "broken", "the outputs are not finite", "line assets verify mobilenet_v2")
        return
    best = info.meta["categories"][int(scores.argmax())]
    shown = file.stem if file.is_file() else "a grey image"
    seconds = time.monotonic() - began
    yield Finding("target works", "ok", f"sees {best!r} in {shown} ({float(scores.max()):.2f}), {seconds:.1f} s")


def _encoder_works() -> Iterator[Finding]:
    from line_neurons.tools.assets.location import asset_dir
    from line_neurons.tools.image_bank.text_encoder import SentenceEncoder

    began = time.monotonic()
    dog, puppy, car = SentenceEncoder(asset_dir("minilm")).encode(["dog", "puppy", "car"])
    near, far = float(dog @ puppy), float(dog @ car)
    detail = f"dog/puppy {near:.2f}, dog/car {far:.2f}, {time.monotonic() - began:.1f} s"
    if near > far:
        yield Finding("text encoder works", "ok", detail)
    else:
        yield Finding("text encoder works", "broken", detail, "line assets verify minilm")


def _language_model_works(llm: str) -> Iterator[Finding]:
    """Send a prompt to the embedded language model of a run, or to the default one."""
    from line_neurons.agent.ports import Message, Prompt
    from line_neurons.tools.assets.location import asset_dir
    from line_neurons.tools.language_models.llama_cpp import LlamaCppEngine
    from line_neurons.tools.language_models.registry import EMBEDDED

    part = "language model works"
    kind, _, name = llm.partition(":")
    pack = name if kind == "embedded" and name in EMBEDDED else next(iter(EMBEDDED))
    path = asset_dir(pack) / EMBEDDED[pack][0]
    began = time.monotonic()
    engine = LlamaCppEngine(path)
    loaded = time.monotonic()
    question = "Which animal is striped like a zebra but has orange fur? Reason briefly, then name it in one word."
    reply = engine.complete(Prompt((Message("user", question),)), seed=0, temperature=0.0)
    times = f"loaded in {loaded - began:.1f} s, answered in {time.monotonic() - loaded:.1f} s"
    try:
        word = str(json.loads(reply.text)["concept"])
    except (ValueError, KeyError, TypeError):
        yield Finding(part, "broken", f"answered {reply.text[:60]!r}, which is no proposal; {times}")
        return
    yield Finding(part, "ok", f"says {word[:40]!r}, {times}")


def _probes(llm: str) -> dict[str, Callable[[], Iterator[Finding]]]:
    """Return what a child process runs, by part, given the name of the language model."""
    return {
        "torch": _torch,
        "text-to-image": _text_to_image_works,
        "xllamacpp": _xllamacpp,
        "target works": _torch_and_target,
        "text encoder works": _encoder_works,
        "language model works": partial(_language_model_works, llm),
    }
